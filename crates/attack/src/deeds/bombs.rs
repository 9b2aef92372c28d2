//! Everything there is of something. Each stops at an amount that a machine of tests can bear, where nothing else stops it.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use crate::raw;

/// Bytes at which a bomb gives up.
const ENOUGH: usize = 1 << 30;
const STEP: usize = 4 << 20;

/// Processes that make processes.
pub(super) fn forks() {
    for _ in 0..2000 {
        let made = raw::fork(|| {
            for _ in 0..10 {
                let _ = raw::fork(sleep);
            }
            sleep();
        });
        if made.is_err() {
            std::process::exit(1);
        }
    }
    fs::write(super::out(), "there is no limit").expect("write");
}

fn sleep() {
    std::thread::sleep(Duration::from_secs(20));
}

fn enough() {
    fs::write(super::out(), "there is no limit").expect("write");
    std::process::exit(0);
}

pub(super) fn heap() {
    let mut all = Vec::new();
    for _ in 0..ENOUGH / STEP {
        all.push(std::hint::black_box(vec![1u8; STEP]));
    }
    enough();
}

pub(super) fn children() {
    let made = (0..24).filter_map(|_| {
        raw::fork(|| {
            let held = std::hint::black_box(vec![1u8; ENOUGH / 64]);
            sleep();
            drop(held);
        })
        .ok()
    });
    let made: Vec<i32> = made.collect();
    std::thread::sleep(Duration::from_secs(2));
    if made.into_iter().any(raw::is_killed) {
        // There is a limit, and it has hit only one of the children.
        std::process::exit(1);
    }
    enough();
}

pub(super) fn memory_file() {
    let fd = raw::call(libc::SYS_memfd_create, &[raw::text("x"), 0]).expect("memfd");
    fill(&format!("/proc/self/fd/{fd}"));
}

pub(super) fn shared() {
    write(fs::File::create("/dev/shm/x").expect("create")).expect("write");
    enough();
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

pub(super) fn disk_deep() {
    std::env::set_current_dir("/build").expect("chdir");
    for _ in 0..600 {
        fs::create_dir("d").expect("mkdir");
        std::env::set_current_dir("d").expect("chdir");
    }
    fill("x");
}

pub(super) fn disk_nameless() {
    let file = fs::File::create("/build/x").expect("create");
    fs::remove_file("/build/x").expect("remove");
    write(file).expect("write");
    enough();
}

/// What does not fit is removed, for others to have the room.
fn fill(path: &str) {
    if let Err(error) = write(fs::File::create(path).expect("create")) {
        let _ = fs::remove_file(path);
        panic!("write: {error}");
    }
    enough();
}

/// Not so fast that a watcher could not see it.
fn write(mut file: fs::File) -> std::io::Result<()> {
    let chunk = vec![1u8; STEP];
    for _ in 0..ENOUGH / STEP {
        file.write_all(&chunk)?;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

pub(super) fn inodes() {
    for count in 0..100_000u32 {
        fs::write(format!("/build/{count}"), "").expect("create");
    }
    enough();
}
