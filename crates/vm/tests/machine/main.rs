//! Real commands in real machines, translated (TCG), and the same ones in the sandbox alone. Needs QEMU, a kernel package, e2fsprogs,
//! erofs-utils and a static busybox; what cannot run says why.
//!
//! A boot of a translated machine is dear: all tests of the workspace together start QEMU ten times, two of them here
//! (`builds::a_build_sees_the_same_…` and `ends::an_ordinary_user_…`; the list is in `crates/builder/tests/builds/attacks/machine.rs`). What need
//! not boot has a program in QEMU's place that does nothing.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod builds;
mod ends;
mod fixture;
