//! One command in a virtual machine, with nothing but the files it is given.
//!
//! QEMU's smallest machine (`microvm`): a kernel, three disks and a serial port, no network and nothing shared with the host. In it
//! the very sandbox of [`firn_sandbox`] runs the command, so that a build sees the same here as in the sandbox alone, and the
//! outputs come back as archives over the serial port. QEMU itself runs in such a sandbox, too.
//!
//! Three parts: [`prepare()`] makes the files that every machine starts from; [`Machine`] is the host's side; [`guest_main`] is the
//! guest's. Between them is a small protocol ([`record`], [`Job`], [`Conversation`]) whose one side is not to be trusted once a command has run.
//! [`image`] packs inputs.
//!
//! This crate refuses to know what is built and why: it gets a specification and names of outputs, and hands on bytes.
//!
//! ```no_run
//! use firn_vm::{Job, Machine, MachineOptions, Order, OutputSink, Resources};
//!
//! # async fn example(options: MachineOptions, job: Job, mut sink: impl OutputSink) -> Result<(), Box<dyn std::error::Error>> {
//! let machine = Machine::open("/var/lib/firn/machine".as_ref(), options)?;
//! let (log, mut output) = tokio::sync::mpsc::channel::<bytes::Bytes>(16);
//! tokio::spawn(async move { while let Some(chunk) = output.recv().await { print!("{}", chunk.escape_ascii()) } });
//! let order = Order {
//!     job: &job,
//!     image: "/var/lib/firn/images/inputs.erofs".as_ref(),
//!     work: "/var/lib/firn/scratch/1".as_ref(),
//!     disk: None,
//!     host_ids: Some((900_000, 900_000)),
//!     cgroups: &[],
//!     resources: Resources { memory_bytes: 4 << 30, cpus: 2, disk_bytes: 50 << 30 },
//! };
//! let exit = machine.run(order, log, &mut sink, std::future::pending()).await?;
//! println!("{:?} {:?}", exit.exit.status, exit.outputs);
//! # Ok(())
//! # }
//! ```

mod conversation;
mod error;
mod guest;
pub mod image;
mod job;
mod machine;
pub mod place;
mod prepare;
pub mod probe;
pub mod record;

pub use conversation::{Bounds, Broken, Conversation, MAX_REJECTED, Step};
pub use error::{SinkError, VmError};
pub use guest::guest_main;
pub use job::{Job, JobError, MAX_JOB, MAX_OUTPUTS};
pub use machine::{
    Accelerator, Collected, Machine, MachineOptions, Order, OutputSink, Resources, VmExit, find_qemu,
};
pub use prepare::{
    KernelSource, MANIFEST, Manifest, Part, PrepareError, PrepareOptions, PreparedError, prepare,
};
