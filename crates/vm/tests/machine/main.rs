//! Real commands in real machines, translated (TCG), and the same ones in the sandbox alone. Needs QEMU, a kernel package, e2fsprogs,
//! erofs-utils and a static busybox; what cannot run says why.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod builds;
mod ends;
mod fixture;
