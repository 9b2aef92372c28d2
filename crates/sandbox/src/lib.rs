//! Run one command in an isolated root, with nothing but the files it is given.
//!
//! Linux namespaces, in a separate single-threaded process: [`run`] starts the helper executable, hands it a [`SandboxSpec`], passes the
//! output on and returns the [`Exit`] when everything in the sandbox is gone. What the command sees is what the Nix
//! daemon of Linux shows to a build (Nix manual, "Builder execution"; uid 1000, process 1, a terminal in raw mode as
//! output), a little tightened where tenants could reach each other.
//!
//! This crate refuses to know what is run and why: no store, no build formats, no policy. It mounts what it is told to
//! mount, and it trusts its caller about which host paths those are. It is the only crate of the service with `unsafe`.
//!
//! ```no_run
//! use std::path::Path;
//! use firn_sandbox::{HelperCommand, SandboxSpec, run};
//!
//! # async fn example(spec: SandboxSpec) -> Result<(), firn_sandbox::SandboxError> {
//! let (log, mut output) = tokio::sync::mpsc::channel::<bytes::Bytes>(16);
//! tokio::spawn(async move { while let Some(chunk) = output.recv().await { print!("{}", chunk.escape_ascii()) } });
//! let helper = HelperCommand::new("/proc/self/exe").arg("sandbox-exec");
//! let exit = run(&helper, &spec, log, std::future::pending()).await?;
//! println!("{:?} after {:?}", exit.status, exit.wall);
//! # Ok(())
//! # }
//! ```
//!
//! Life and death: the helper lives as long as its standard input is open. When the caller ends, is killed, cancels or
//! drops the future, it kills the first process of the sandbox, and the kernel takes down the rest with it. When the helper itself
//! is killed, the kernel kills the first process (`PR_SET_PDEATHSIG`). Mounts exist only in namespaces of the sandbox.

mod error;
mod exec;
mod exit;
pub mod kvm;
mod latin1;
mod own_address;
pub mod probe;
mod range;
mod run;
mod seccomp;
mod spec;
mod sys;
mod validate;
mod wire;

pub use error::SandboxError;
pub use exec::{Own, leftovers, sandbox_exec_main, sandbox_exec_main_with};
pub use exit::{Exit, ExitKind};
pub use own_address::is_own;
pub use range::{IpRange, is_public};
pub use run::{HelperCommand, run};
pub use spec::{FileSpec, Input, Limits, Network, RESOLVER, Relay, SandboxSpec};
pub use wire::MAX_SPEC_BYTES;
