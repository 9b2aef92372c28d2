//! Two that are each other's victim and seeker.

use std::collections::BTreeSet;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::counted::{COUNTED, give_back, take_all};
use super::life::Life;
use super::ways::WAYS;
use super::{Marks, SOUGHT};
use crate::{Outcome, isolate, raw};

/// Bytes in each place that is filled, far from what a build may have.
const FILL: usize = 16 << 20;

/// Live for some seconds, and do to the other one what can be done, round after round, at least twice. `$out` has what came of it, each once: the
/// same whoever else is there. The log has the times, in milliseconds since 1970: `NAME: ready T`, `NAME: round T T`, `NAME: over T`.
pub(crate) fn duel(own: &str, other: &str, seconds: &str) -> ExitCode {
    let life = Life::begin(Marks::duellist(own, other));
    SOUGHT.get_or_init(|| Marks::duellist(other, own));
    let until = Instant::now() + Duration::from_secs(seconds.parse().expect("seconds"));
    let map = fs::read_to_string("/proc/self/uid_map").expect("its user");
    println!(
        "{own}: user {}",
        map.split_whitespace().nth(1).unwrap_or_default()
    );
    println!("{own}: ready {}", now());
    let mut lines = BTreeSet::new();
    if !life.holds_the_lock {
        lines.insert("the input is locked".to_owned());
    }
    for round in 1.. {
        let began = now();
        for (name, way) in WAYS {
            lines.insert(format!("{name} {}", isolate::run(way)));
        }
        for (name, take) in COUNTED {
            lines.insert(format!("get-{name} {}", Outcome::of(take_and_go(take))));
        }
        greed();
        lines.insert(format!("fill {}", isolate::run(fill)));
        lines.extend(life.wrong().into_iter().map(|what| format!("disturbed: {what}")));
        println!("{own}: round {began} {}", now());
        if round > 1 && Instant::now() > until {
            break;
        }
    }
    println!("{own}: over {}", now());
    let text: String = lines.into_iter().map(|line| line + "\n").collect();
    match std::env::var_os("out").map(|out| fs::write(out, format!("{own}\n{text}"))) {
        Some(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn now() -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("later than 1970").as_millis()
}

/// In a process that ends, and what it has with it.
fn take_and_go(take: fn() -> Result<usize, i32>) -> Result<(), i32> {
    let child = raw::fork(|| {
        let taken = take();
        give_back();
        raw::exit(taken.err().unwrap_or(0));
    })?;
    match libc::WEXITSTATUS(raw::wait(child)) {
        0 => Ok(()),
        errno => Err(errno),
    }
}

/// Has all that is counted, for a moment.
fn greed() {
    let taken = raw::fork(|| {
        take_all();
        std::thread::sleep(Duration::from_millis(200));
        give_back();
    });
    let _ = taken.map(raw::wait);
}

/// Fills what others could have to write to.
fn fill() -> Outcome {
    let bytes = vec![1; FILL];
    for place in ["/build/fill", "/tmp/fill", "/dev/shm/fill"] {
        let written = fs::write(place, &bytes).and_then(|()| fs::remove_file(place));
        if written.is_err() {
            return Outcome::of_io(written);
        }
    }
    Outcome::Reached
}
