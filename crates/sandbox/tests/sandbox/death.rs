//! Everything ends with the command, and the command with its caller.

use std::fs;
use std::process::{Command, Stdio};

use bytes::Bytes;
use firn_sandbox::{ExitKind, SandboxError, run};

use super::fixture::{Fixture, example};

const FOREVER: &str = "trap '' HUP INT TERM
    (setsid sh -c 'while true; do sleep 0.05; done' > /dev/null 2>&1 < /dev/null &)
    touch /build/started; while true; do sleep 0.05; done";

#[tokio::test]
async fn daemons_die_with_the_command() {
    let Some(mut it) = Fixture::new() else { return };
    it.output("(setsid sh -c 'while true; do echo x >> /build/alive; sleep 0.02; done' &) ; sleep 0.1")
        .await;
    assert!(it.at("build/alive").exists());
    assert_eq!(it.processes().unwrap_or_default(), Vec::<String>::new());
}

#[tokio::test]
async fn cancelling_kills_and_waits() {
    let Some(mut it) = Fixture::new() else { return };
    it.sh(FOREVER);
    let (log, _chunks) = tokio::sync::mpsc::channel::<Bytes>(1);
    let exit = run(&it.helper, &it.spec, log, it.until_started()).await.unwrap();
    assert_eq!(exit.status, ExitKind::Cancelled);
    assert_eq!(it.processes().unwrap_or_default(), Vec::<String>::new());
}

#[tokio::test]
async fn dropping_the_future_kills() {
    let Some(mut it) = Fixture::new() else { return };
    it.sh(FOREVER);
    let (log, _chunks) = tokio::sync::mpsc::channel::<Bytes>(1);
    tokio::select! {
        exit = run(&it.helper, &it.spec, log, std::future::pending()) => panic!("{exit:?}"),
        () = it.until_started() => {}
    }
    it.until_gone().await;
}

#[tokio::test]
async fn a_caller_that_is_killed_takes_everything_with_it() {
    let Some(mut it) = Fixture::new() else { return };
    it.sh(FOREVER);
    fs::write(it.at("spec.json"), serde_json::to_vec(&it.spec).unwrap()).unwrap();
    let mut caller = Command::new(example())
        .args(["run".as_ref(), it.at("spec.json").as_os_str()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    it.until_started().await;
    caller.kill().unwrap();
    caller.wait().unwrap();
    it.until_gone().await;
}

/// Kill the helper, which has the fixture's directory as an argument.
pub async fn kill_helper(mut it: Fixture) {
    let marker = it.dir.path().to_str().unwrap().to_owned();
    it.helper = it.helper.clone().arg("exec").arg(&marker);
    let ((exit, _), ()) = tokio::join!(it.try_run(), async {
        it.until_started().await;
        let helper = fs::read_dir("/proc").unwrap().flatten().find(|entry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            line.split(|&b| b == 0).nth(2) == Some(marker.as_bytes())
        });
        let pid = helper
            .unwrap()
            .file_name()
            .into_string()
            .unwrap()
            .parse()
            .unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
    });
    assert!(matches!(exit, Err(SandboxError::HelperDied { .. })), "{exit:?}");
    assert_eq!(it.processes().unwrap_or_default(), Vec::<String>::new());
}

#[tokio::test]
async fn a_helper_that_is_killed_takes_everything_with_it() {
    let Some(mut it) = Fixture::new() else { return };
    it.sh(FOREVER);
    kill_helper(it).await;
}

#[tokio::test]
async fn a_helper_that_is_killed_takes_even_those_with_it_that_want_to_stay() {
    let Some(mut it) = Fixture::new() else { return };
    it.example("stay");
    kill_helper(it).await;
}

#[tokio::test]
async fn a_helper_that_is_none_is_named() {
    let Some(mut it) = Fixture::new() else { return };
    it.helper = firn_sandbox::HelperCommand::new("/does/not/exist");
    assert!(matches!(it.try_run().await.0, Err(SandboxError::Spawn { .. })));
    it.helper = firn_sandbox::HelperCommand::new("/bin/sh")
        .arg("-c")
        .arg("echo oops >&2; exit 3");
    let (exit, _) = it.try_run().await;
    assert!(
        matches!(&exit, Err(SandboxError::HelperDied { diagnostics, .. }) if diagnostics == "oops"),
        "{exit:?}"
    );
}
