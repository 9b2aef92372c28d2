//! Machines that are ended from outside.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use firn_sandbox::ExitKind;
use firn_vm::Collected;
use tokio::sync::Notify;

use super::fixture::{Fixture, OUT, example, shared};

const FOREVER: &str = "trap '' HUP INT TERM; echo started; echo x > $out; while true; do sleep 1; done";

#[tokio::test]
async fn a_cancelled_machine_is_gone() {
    let Some(prepared) = shared() else { return };
    let it = Fixture::new();
    let job = it.job(FOREVER, &[OUT]);
    let started = Notify::new();
    let (exit, log, sink) = it
        .try_run(
            &prepared.machine,
            &job,
            Some(("started", &started)),
            started.notified(),
        )
        .await;
    let exit = exit.unwrap();
    assert_eq!(
        (exit.exit.status, exit.outputs),
        (ExitKind::Cancelled, Collected::NotBuilt)
    );
    assert_eq!((log.as_str(), sink.0.len()), ("started\n", 0));
    assert!(exit.machine.user > Duration::ZERO && exit.boot > Duration::ZERO);
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_stopped() {
    let Some(prepared) = shared() else { return };
    let it = Fixture::new();
    let mut job = it.job(FOREVER, &[OUT]);
    job.sandbox.limits.wall = Some(Duration::from_secs(2));
    let (exit, log, _) = it
        .try_run(&prepared.machine, &job, None, std::future::pending())
        .await;
    let exit = exit.unwrap();
    assert_eq!(
        (exit.exit.status, exit.outputs),
        (ExitKind::TimedOut, Collected::NotBuilt)
    );
    assert_eq!(log, "started\n");
}

#[test]
fn a_host_that_is_killed_takes_its_machine_with_it() {
    let Some(prepared) = shared() else { return };
    let it = Fixture::new();
    if !it.root {
        eprintln!("skipped: only root gives QEMU a user of its own to look for");
        return;
    }
    let job = it.at("job.json");
    fs::write(&job, serde_json::to_vec(&it.job(FOREVER, &[OUT])).unwrap()).unwrap();
    let mut host = Command::new(example())
        .arg("run")
        .args([prepared.dir.path(), &job, &it.at("inputs"), &it.work()])
        .arg(it.uid.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let since = Instant::now();
        while !holds() {
            assert!(
                since.elapsed() < Duration::from_secs(180),
                "waited too long for: {what}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until("QEMU", &|| {
        it.processes().iter().any(|name| name.starts_with("qemu"))
    });
    host.kill().unwrap();
    host.wait().unwrap();
    until("the end of QEMU", &|| it.processes().is_empty());
}
