//! Builds.

use std::sync::LazyLock;

use firn_sandbox::ExitKind;
use firn_vm::Collected;

use super::fixture::{Fixture, MACHINE, OUT};

#[tokio::test]
async fn a_trivial_build() {
    let machine = match &*LazyLock::force(&MACHINE) {
        Ok(prepared) => &prepared.machine,
        Err(why) => {
            eprintln!("skipped: {why}");
            return;
        }
    };
    let it = Fixture::new();
    let job = it.job(
        "mkdir $out; echo hello > $out/file; echo built; date; nproc; cat /proc/cmdline",
        &[OUT],
    );
    let (exit, log, sink) = it.try_run(machine, &job, std::future::pending()).await;
    let exit = exit.unwrap();
    assert_eq!(exit.exit.status, ExitKind::Exited(0), "{log}");
    assert_eq!(exit.outputs, Collected::All);
    println!("{}", sink.0[0].escape_ascii());
}
