//! `firn`: the one binary. The only place that reads configuration and picks adapters.

mod admin;
mod banner;
mod client;
mod config;
mod doctor;
mod door;
mod options;
mod relay;
mod serve;
mod stdio;

use std::process::ExitCode;

use clap::Parser as _;
use options::{Command, Options};

fn main() -> ExitCode {
    let options = Options::parse();
    // The sandbox helper is single-threaded by design: no runtime, no log, before anything else.
    if matches!(options.command, Command::SandboxExec) {
        return firn_sandbox::sandbox_exec_main();
    }
    match run(options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("firn: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<ExitCode> {
    let config = config::load(&options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        match options.command {
            Command::Serve(args) => serve::serve(config, &args).await.map(|()| ExitCode::SUCCESS),
            Command::Account(command) => client::account(&config, command).await,
            Command::Key(command) => client::key(&config, command).await,
            Command::Builds { account, limit, json } => client::builds(&config, account, limit, json).await,
            Command::Status { json } => client::status(&config, json).await,
            Command::Stdio { account, exec } => stdio::stdio(&config, account, exec).await,
            Command::Doctor => doctor::doctor(&config),
            Command::SandboxExec => Ok(ExitCode::FAILURE),
        }
    });
    // A blocked read of standard input must not hold the process.
    runtime.shutdown_background();
    code
}
