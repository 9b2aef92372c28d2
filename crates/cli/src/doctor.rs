//! `firn doctor`: what this machine offers, what is missing, and what `firn serve` would refuse.

use std::net::{TcpListener, ToSocketAddrs as _};
use std::process::ExitCode;

use anyhow::Context as _;
use firn_core::Isolation;
use serde::Serialize;

use crate::config::Config;
use crate::{data_dir, machines, output, serve};

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    name: String,
    ok: bool,
    /// Whether the service, or any build, needs it.
    required: bool,
    /// What was found, or the error.
    detail: String,
    /// What to do about it.
    hint: Option<String>,
}

/// Prints one line a check, or one JSON document; fails when something that builds need is missing.
pub fn doctor(config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let mut findings = of_machine(config);
    findings.extend(of_configuration(config));
    let ok = findings.iter().all(|finding| finding.ok || !finding.required);
    if json {
        output::print(&serde_json::json!({ "ok": ok, "checks": findings }).to_string())?;
    } else {
        findings
            .iter()
            .try_for_each(|finding| output::print(&line(finding)))?;
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(finding: &Finding) -> String {
    let mark = match (finding.ok, finding.required) {
        (true, _) => "ok     ",
        (false, true) => "MISSING",
        (false, false) => "absent ",
    };
    let mut line = format!("{mark}  {}: {}", finding.name, finding.detail);
    if let (false, Some(hint)) = (finding.ok, &finding.hint) {
        line.push_str(&format!("\n         {hint}"));
    }
    line
}

/// What sandboxes and machines need.
fn of_machine(config: &Config) -> Vec<Finding> {
    let mut checks = firn_sandbox::probe::probe();
    if config.build.sandboxes.contains(&Isolation::Vm) {
        let vm = &config.vm;
        let dir = machines::dir(config);
        checks.extend(firn_vm::probe::probe(
            &dir,
            vm.qemu.as_deref(),
            vm.accelerator.into(),
        ));
    }
    let finding = |check: firn_sandbox::probe::Check| Finding {
        name: check.name.to_owned(),
        ok: check.ok,
        required: check.required,
        detail: check.detail,
        hint: check.hint.map(str::to_owned),
    };
    checks.into_iter().map(finding).collect()
}

/// What `firn serve` looks at before it opens its doors.
fn of_configuration(config: &Config) -> Vec<Finding> {
    let dir = &config.data_dir;
    let running = data_dir::in_use(dir);
    let place = data_dir::check(dir).map(|()| match (running, dir.exists()) {
        (true, _) => format!("{} (a service uses it)", dir.display()),
        (false, true) => dir.display().to_string(),
        (false, false) => format!("{} (made by `firn serve`)", dir.display()),
    });
    let shell = serve::sandbox_shell(config).map(|shell| match shell {
        Some(shell) => shell.display().to_string(),
        None => "none: builds have no /bin/sh".to_owned(),
    });
    let listen = match running {
        true => Ok(format!("{} (not tried: a service runs)", config.ssh.listen)),
        false => can_listen(&config.ssh.listen).map(|()| config.ssh.listen.clone()),
    };
    let caches =
        firn_cache::CacheClient::new(config.caches.options()).context("[caches] in the configuration");
    [
        ("data directory", place),
        ("settings", config.defaults().map(|_| "understood".to_owned())),
        (
            "log filter",
            serve::log_filter(config).map(|filter| filter.to_string()),
        ),
        ("caches", caches.map(|_| "understood".to_owned())),
        ("sandbox shell", shell),
        ("ssh address", listen),
    ]
    .into_iter()
    .map(|(name, found)| Finding {
        name: name.to_owned(),
        ok: found.is_ok(),
        required: true,
        detail: found.unwrap_or_else(|error| format!("{error:#}")),
        hint: None,
    })
    .collect()
}

fn can_listen(address: &str) -> anyhow::Result<()> {
    let context = || format!("cannot listen on {address}");
    let addresses: Vec<_> = address.to_socket_addrs().with_context(context)?.collect();
    TcpListener::bind(addresses.as_slice())
        .with_context(context)
        .map(drop)
}
