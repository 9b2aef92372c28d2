//! Stories with real Nix clients against a real Firn, one file each.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test shows by panicking what is wrong"
)]

mod administration;
mod binary_caches;
mod build_logs;
mod cancelled_builds;
mod checked_builds;
mod content_addressed;
mod explained_builds;
mod first_use;
mod fixed_outputs;
mod hostile_clients;
mod hostile_neighbours;
mod interrupted_server;
mod joined_builds;
mod legacy_protocol;
mod lost_parts;
mod machines;
mod many_contents;
mod one_house;
mod ordinary_user;
mod proved_keys;
mod queued_builds;
mod raw;
mod refused_builds;
mod remote_store;
mod replayed_failures;
mod shared_builds;
mod shell;
mod stdio_session;
mod storm;
mod taken_away;
mod told_of_caches;
mod transfers;
mod trusted_accounts;
mod trusted_keys;
mod unbounded_text;

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

pub use firn_testkit::{Client, Run, Server};

/// A server, or `None` with the reason printed when real Nix cannot run here.
pub fn server() -> Option<Server> {
    match firn_testkit::missing() {
        Some(reason) => {
            eprintln!("skipped: {reason}");
            None
        }
        None => Some(Server::start(Path::new(env!("CARGO_BIN_EXE_firn"))).unwrap()),
    }
}

/// A derivation whose builder is the sandbox's `/bin/sh`.
pub fn derivation(name: &str, script: &str) -> String {
    format!(
        "derivation {{ name = \"{name}\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; args = [ \"-ec\" ''{script}'' ]; }}"
    )
}

/// Builds an expression's derivations on this client's own machine.
pub fn build_locally(client: &Client, expression: &str) -> Vec<String> {
    let nix = &client.nix;
    let drvs = nix
        .instantiate(&nix.expression(expression).unwrap(), &[])
        .unwrap();
    let arguments = [
        "--realise",
        "--builders",
        "",
        "--max-jobs",
        "2",
        "--option",
        "sandbox-paths",
        "/bin/sh=/bin/busybox",
    ];
    let drvs: Vec<&str> = drvs.iter().map(String::as_str).collect();
    let run = nix.run("nix-store", &[&arguments[..], &drvs].concat()).unwrap();
    run.success().unwrap().lines()
}

/// Builds an expression on the server; the whole run, for its log.
pub fn build(client: &Client, scheme: &str, expression: &str) -> Run {
    let nix = &client.nix;
    let drvs = nix
        .instantiate(&nix.expression(expression).unwrap(), &[])
        .unwrap();
    client.realise(scheme, &drvs, &[]).unwrap()
}

/// Starts to build one derivation on the server, for a client that may be killed.
pub fn start(client: &Client, expression: &str) -> Child {
    let nix = &client.nix;
    let drv = nix
        .instantiate(&nix.expression(expression).unwrap(), &[])
        .unwrap()
        .remove(0);
    let builders = "ssh-ng://firn x86_64-linux - 32 1 - - -";
    let mut command = nix.command("nix-store", true);
    command.args(["--realise", "--max-jobs", "0", "--builders", builders, &drv]);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What `ssh HOST api …` answers to an account; a refusal is a panic.
pub fn api(client: &Client, words: &[&str]) -> serde_json::Value {
    let run = client.ssh(&[&["api"], words].concat()).unwrap();
    assert!(run.ok, "{words:?}: {}{}", run.stdout, run.stderr);
    serde_json::from_str(&run.stdout).unwrap()
}

/// Whether a path is valid for an account.
pub fn is_valid(client: &Client, path: &str) -> bool {
    let arguments = ["path-info", "--store", "ssh-ng://firn", path];
    client.nix.run("nix", &arguments).unwrap().ok
}

/// Builds that run, and builds that wait.
pub fn status(server: &Server) -> [u64; 2] {
    let run = server.firn(&["status", "--json"]).unwrap().success().unwrap();
    let status: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    ["running_builds", "waiting_builds"].map(|name| status[name].as_u64().unwrap())
}

/// Looks again and again for a minute, until that holds.
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What `firn builds` says of an account, oldest first: (rung or "failed", reason).
pub fn answers(server: &Server, account: &str) -> Vec<(String, String)> {
    let run = server
        .firn(&["builds", "--account", account, "--json", "--limit", "1000"])
        .unwrap()
        .success()
        .unwrap();
    let rows: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or("failed").to_owned();
    rows.as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|row| (text(row, "rung"), text(row, "reason")))
        .collect()
}

/// The rungs alone.
pub fn rungs(server: &Server, account: &str) -> Vec<String> {
    answers(server, account)
        .into_iter()
        .map(|(rung, _)| rung)
        .collect()
}
