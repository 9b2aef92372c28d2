//! Machines that are ended from outside.

use std::time::{Duration, Instant};

use firn_sandbox::ExitKind;
use firn_vm::probe::probe;
use firn_vm::{Accelerator, Machine, MachineOptions, VmError};

use super::fixture::{Fixture, IDLE, OUT, example, options, shared};

const FOREVER: &str = "trap '' HUP INT TERM; echo started; echo x > $out; while true; do sleep 1; done";

#[test]
fn an_ordinary_user_can_run_machines_and_a_command_that_takes_too_long_is_stopped() {
    let Some(prepared) = shared() else { return };
    let it = Fixture::new();
    let mut job = it.job(FOREVER, &[OUT]);
    job.sandbox.limits.wall = Some(Duration::from_secs(2));
    let mut host = it.host(&prepared, &job, None, &options().qemu);
    let output = host.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    println!("{said}");
    assert!(said.contains("TimedOut") && said.contains("NotBuilt"), "{said}");
    assert_eq!(it.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_machine_that_does_not_come_up_is_an_error_with_its_last_words() {
    let Some(prepared) = shared() else { return };
    let it = Fixture::new();
    let job = it.job(FOREVER, &[OUT]);
    let open = |qemu: &str, boot| {
        let options = MachineOptions {
            qemu: qemu.into(),
            boot,
            ..options()
        };
        Machine::open(prepared.dir.path(), options).unwrap()
    };
    let absent = open("/bin/ls", Duration::from_secs(60));
    let (exit, ..) = it.try_run(&absent, &job).await;
    match exit {
        Err(VmError::Died { status, console }) => {
            assert!(
                status == ExitKind::Exited(2) && console.contains("ls: "),
                "{console}"
            );
        }
        other => panic!("{other:?}"),
    }
    // It starts, and never says anything.
    let slow = open(it.idle().to_str().unwrap(), Duration::from_millis(300));
    let (exit, ..) = it.try_run(&slow, &job).await;
    assert!(matches!(exit, Err(VmError::Boot { .. })), "{exit:?}");
}

#[test]
fn nothing_else_is_taken_instead_of_the_accelerator_that_was_asked_for() {
    let Some(prepared) = shared() else { return };
    let options = MachineOptions {
        accelerator: Accelerator::Kvm,
        ..options()
    };
    let checks = probe(prepared.dir.path(), None, Accelerator::Kvm);
    println!("{checks:#?}");
    let usable = checks.iter().find(|check| check.name == "KVM").unwrap().ok;
    match Machine::open(prepared.dir.path(), options) {
        Ok(_) => assert!(usable),
        Err(VmError::Accelerator { accelerator, why }) => {
            assert!(!usable && accelerator == Accelerator::Kvm, "{why}");
        }
        Err(other) => panic!("{other:?}"),
    }
    assert!(
        checks
            .iter()
            .filter(|check| check.name != "KVM")
            .all(|check| check.ok)
    );
    let manifest = prepared.machine.manifest();
    assert!(manifest.is_of(&example()).unwrap() && !manifest.is_of("/bin/ls".as_ref()).unwrap());
    let empty = tempfile::tempdir().unwrap();
    let checks = probe(empty.path(), None, Accelerator::Tcg);
    assert!(checks.iter().any(|check| !check.ok && check.hint.is_some()));
}

#[test]
fn a_host_that_is_killed_takes_its_machine_with_it() {
    let Some(prepared) = shared() else { return };
    let it = Fixture::new();
    if !it.root {
        eprintln!("skipped: only root gives QEMU a user of its own to look for");
        return;
    }
    let job = it.job(FOREVER, &[OUT]);
    let mut host = it
        .host(&prepared, &job, Some(it.uid), &it.idle())
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
    until("its machine", &|| {
        it.processes().iter().any(|name| name.trim_end() == IDLE)
    });
    host.kill().unwrap();
    host.wait().unwrap();
    until("its end", &|| it.processes().is_empty());
}
