//! Everything there is of something.

use std::fs;
use std::io::Write as _;

use crate::raw;

/// Processes that do nothing, until there are no more. Then all is well, so that the limit alone is what is tried.
pub(super) fn forks() {
    let mut count = 0u32;
    let refused = loop {
        match raw::fork(|| {
            let _ = raw::call(libc::SYS_pause, &[]);
        }) {
            Ok(_) => count += 1,
            Err(errno) => break errno,
        }
    };
    fs::write(super::out(), format!("{count} {}", crate::Outcome::Denied(refused))).expect("write");
}

const STEP: usize = 8 << 20;

pub(super) fn heap() {
    let mut all = Vec::new();
    loop {
        all.push(vec![1u8; STEP]);
        println!("{} MB", all.len() * 8);
    }
}

pub(super) fn memory_file() {
    let fd = raw::call(libc::SYS_memfd_create, &[raw::text("x"), 0]).expect("memfd");
    fill(&format!("/proc/self/fd/{fd}"));
}

pub(super) fn shared() {
    fill("/dev/shm/x");
}

pub(super) fn disk_build() {
    fill("/build/x");
}

pub(super) fn disk_tmp() {
    fill("/tmp/x");
}

pub(super) fn disk_output() {
    fill(&super::out());
}

fn fill(path: &str) {
    let chunk = vec![1u8; STEP];
    let mut file = fs::File::create(path).expect("create");
    for count in 1.. {
        file.write_all(&chunk).expect("write");
        println!("{} MB", count * 8);
    }
}

pub(super) fn inodes() {
    for count in 0u64.. {
        fs::write(format!("/build/{count}"), "").expect("create");
        if count % 1000 == 0 {
            println!("{count} files");
        }
    }
}
