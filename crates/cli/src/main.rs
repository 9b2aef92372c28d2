//! `firn`: the one binary. The only place that reads configuration and picks adapters.

mod admin;
mod banner;
mod client;
mod commands;
mod config;
mod data_dir;
mod doctor;
mod door;
mod live;
mod log;
mod machines;
mod options;
mod output;
mod relay;
mod secret;
mod serve;
mod shared_output;
mod shell;
mod stdio;
mod vital;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::bail;
use clap::Parser as _;
use options::{Command, Options};

/// The C library's allocator keeps what each thread has freed for that thread: after a graph of 100,000 derivations, twice what is in use.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let options = Options::parse();
    // The sandbox helper is single-threaded by design: no runtime, no log, before anything else.
    if matches!(options.command, Command::SandboxExec) {
        return firn_sandbox::sandbox_exec_main_with(|spec| firn_builtin::main(&spec.argv, &spec.env));
    }
    if matches!(options.command, Command::VmInit) {
        return firn_vm::guest_main();
    }
    let json = options.json;
    match run(options) {
        Ok(code) => code,
        Err(error) if error.is::<output::ReaderGone>() => output::ReaderGone::code(),
        Err(error) => {
            if json {
                let _ = output::print(&serde_json::json!({ "error": format!("{error:#}") }).to_string());
            }
            // Standard error may be full or closed; the exit status is not.
            let _ = writeln!(std::io::stderr(), "firn: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<ExitCode> {
    if let Command::Simulate(args) = &options.command {
        output::print(&firn_simulate::command::run(args)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = config::load(&options)?;
    let json = options.json;
    let account = match (&options.command, options.account) {
        // Of all accounts.
        (Command::OfAccount(commands::Command::Usage(_)), None) => String::new(),
        (Command::OfAccount(_) | Command::Stdio { .. }, None) => {
            bail!("say for which account: --account NAME (`firn account list` has them)")
        }
        (Command::OfAccount(_) | Command::Stdio { .. }, Some(account)) => account,
        (_, Some(_)) => bail!("--account means nothing to this command"),
        (_, None) => String::new(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        match options.command {
            Command::Serve(args) => serve::serve(config, &args).await.map(|()| ExitCode::SUCCESS),
            Command::Account(command) => client::account(&config, command, json).await,
            Command::OfAccount(commands::Command::Usage(usage)) if account.is_empty() => {
                client::usage(&config, usage, json).await
            }
            Command::OfAccount(command) => client::of_account(&config, account, command, json).await,
            Command::Status => client::status(&config, json).await,
            Command::Stdio { exec } => stdio::stdio(&config, account, exec).await,
            Command::Vm(command) => machines::vm(&config, &command),
            Command::Doctor => doctor::doctor(&config, json),
            Command::Simulate(_) | Command::SandboxExec | Command::VmInit => Ok(ExitCode::FAILURE),
        }
    });
    // A blocked read of standard input must not hold the process.
    runtime.shutdown_background();
    code
}
