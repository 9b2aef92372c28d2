//! The executable of the guest, and of the sandbox on both sides, for the tests.
//!
//! `firn-vm-guest run PREPARED JOB.json IMAGE WORK UID QEMU` runs a job and prints how it ended. Started as QEMU is, it does nothing at all.

#![expect(clippy::unwrap_used, reason = "a test program may panic")]

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use firn_sandbox::HelperCommand;
use firn_vm::{Accelerator, Job, Machine, MachineOptions, Order, OutputSink, Resources, SinkError};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["vm-init"] => firn_vm::guest_main(),
        ["run", prepared, job, image, work, uid, qemu] => {
            run(prepared, job, image, work, uid, qemu);
            ExitCode::SUCCESS
        }
        ["-M", ..] => loop {
            std::thread::park();
        },
        _ => firn_sandbox::sandbox_exec_main(),
    }
}

struct Nowhere;

impl OutputSink for Nowhere {
    async fn begin(&mut self, _: usize) -> Result<(), SinkError> {
        Ok(())
    }
    async fn data(&mut self, _: Bytes) -> Result<(), SinkError> {
        Ok(())
    }
    async fn end(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

#[tokio::main]
async fn run(prepared: &str, job: &str, image: &str, work: &str, uid: &str, qemu: &str) {
    let job: Job = serde_json::from_slice(&std::fs::read(job).unwrap()).unwrap();
    let options = MachineOptions {
        helper: HelperCommand::new("/proc/self/exe"),
        qemu: qemu.into(),
        accelerator: Accelerator::Tcg,
        boot: Duration::from_secs(180),
    };
    let machine = Machine::open(prepared.as_ref(), options).unwrap();
    let uid = uid.parse().ok();
    let order = Order {
        job: &job,
        image: image.as_ref(),
        work: work.as_ref(),
        disk: None,
        host_ids: uid.map(|uid| (uid, uid)),
        cgroups: &[],
        resources: Resources {
            memory_bytes: 512 << 20,
            cpus: 1,
            disk_bytes: 64 << 20,
        },
    };
    let (log, _) = tokio::sync::mpsc::channel(1);
    let exit = machine
        .run(order, log, &mut Nowhere, std::future::pending())
        .await;
    println!("{exit:?}");
}
