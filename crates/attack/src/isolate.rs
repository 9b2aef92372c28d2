//! Each attempt in a process of its own: one that works may leave it in any state.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::FromRawFd as _;

use crate::Outcome;
use crate::raw;

/// Longest time for an attempt.
const SECONDS: u32 = 30;

/// Make an attempt. What came of it, in words.
pub(crate) fn run(probe: fn() -> Outcome) -> String {
    let mut ends = [0; 2];
    // SAFETY: the address is of two numbers.
    let made = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    assert_eq!(made, 0, "pipe");
    // SAFETY: the kernel has just made both, and nobody else has them.
    let (mut from, mut to) = unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) };
    let child = raw::fork(|| {
        // SAFETY: takes a number.
        unsafe { libc::alarm(SECONDS) };
        let _ = to.write_all(probe().to_string().as_bytes());
    });
    let child = match child {
        Ok(child) => child,
        Err(errno) => return format!("value:no process, {}", Outcome::Denied(errno)),
    };
    drop(to);
    let mut said = Vec::new();
    let _ = from.read_to_end(&mut said);
    let status = raw::wait(child);
    if said.is_empty() {
        if libc::WIFSIGNALED(status) {
            return format!("value:killed by signal {}", libc::WTERMSIG(status));
        }
        return format!("value:ended with status {}", libc::WEXITSTATUS(status));
    }
    // One line, whatever was found.
    said.escape_ascii().to_string()
}
