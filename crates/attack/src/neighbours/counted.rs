//! What the kernel counts per user, and gives to nobody when one has it all.

use std::fs;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::GREEDY_READY;
use crate::{Outcome, raw};

type Counted = (&'static str, fn() -> Result<usize, i32>);

/// By name, how to take one of each.
pub(super) const COUNTED: [Counted; 3] = [
    ("inotify", || raw::call(libc::SYS_inotify_init1, &[0])),
    ("message-queues", open_queue),
    ("signals", queue_signal),
];

/// Take all of what is counted, and keep it.
pub(crate) fn greedy() -> ExitCode {
    for (name, count) in take_all() {
        println!("{name}: {count}");
    }
    println!("{GREEDY_READY}");
    loop {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Take one of each. One line per kind, and all of it to `$out`, too.
pub(crate) fn needy() -> ExitCode {
    let mut report = String::new();
    for (name, take) in COUNTED {
        let line = format!("{name} {}\n", Outcome::of(take()));
        print!("{line}");
        report.push_str(&line);
    }
    match std::env::var_os("out").map(|out| fs::write(out, report)) {
        Some(Err(_)) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

/// All of each, and how many that were.
pub(super) fn take_all() -> Vec<(&'static str, usize)> {
    let all = |take: fn() -> Result<usize, i32>| (0..200_000).take_while(|_| take().is_ok()).count();
    COUNTED
        .into_iter()
        .map(|(name, take)| (name, all(take)))
        .collect()
}

/// Queues stay when who made them ends. Those of this process go.
pub(super) fn give_back() {
    for number in 0..QUEUES.swap(0, Ordering::Relaxed) {
        let _ = raw::call(libc::SYS_mq_unlink, &[raw::text(&queue(number))]);
    }
}

static QUEUES: AtomicU32 = AtomicU32::new(0);

fn queue(number: u32) -> String {
    format!("firn-attack-queue-{number}")
}

fn open_queue() -> Result<usize, i32> {
    raw::call(
        libc::SYS_mq_open,
        &[
            raw::text(&queue(QUEUES.fetch_add(1, Ordering::Relaxed))),
            (libc::O_CREAT | libc::O_RDWR) as usize,
            0o600,
            0,
        ],
    )
}

/// A signal to oneself that is never taken.
fn queue_signal() -> Result<usize, i32> {
    const SIGNAL: usize = 40;
    let blocked = 1u64 << (SIGNAL - 1);
    raw::call(
        libc::SYS_rt_sigprocmask,
        &[libc::SIG_BLOCK as usize, raw::at(&blocked), 0, 8],
    )?;
    // Number, error, code SI_QUEUE, and nothing else.
    let mut info = [0u32; 32];
    info[0] = SIGNAL as u32;
    info[2] = -1i32 as u32;
    raw::call(
        libc::SYS_rt_sigqueueinfo,
        &[std::process::id() as usize, SIGNAL, raw::at(&info)],
    )
}
