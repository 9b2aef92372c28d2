//! Random histories of five accounts on the real service, against the rules in plain code, and against themselves without strangers.
//!
//! `FIRN_HISTORIES=<operations>` plays that many, from a seed of the hour.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod check;
mod model;
mod operations;
mod play;
mod run;
mod shrink;
mod strangers;
#[expect(dead_code, unused_imports, reason = "other tests use the rest")]
#[path = "../support/mod.rs"]
mod support;
mod universe;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use run::Tally;

/// Operations of the default run.
const OPERATIONS: usize = 100_000;
/// Of one history.
const STEPS: usize = 200;

#[test]
fn the_service_does_what_the_rules_say() {
    let asked = std::env::var("FIRN_HISTORIES").ok().map(|n| n.parse().unwrap());
    let operations: usize = asked.unwrap_or(OPERATIONS);
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let histories = operations.div_ceil(STEPS) as u64;
    // The same seeds every time, so that a failure is the fault of the last change; a longer run is of histories that nobody has seen.
    let fixed = if asked.is_some() { 0 } else { histories };
    let seed = |n: u64| if n < fixed { n } else { (fresh << 20) + n };
    eprintln!(
        "{histories} histories of {STEPS} operations; fresh seeds from {}",
        seed(fixed)
    );

    let begun = Instant::now();
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let (tally, failure) = (Mutex::new(Tally::default()), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()
                    .unwrap();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= histories || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let history = operations::history(seed(n), STEPS);
                    match runtime.block_on(run::run(&history, seed(n))) {
                        Ok(one) => tally.lock().unwrap().add(one),
                        Err(wrong) => {
                            if !failed.swap(true, Ordering::Relaxed) {
                                let short = runtime.block_on(shrink::shrink(history, wrong, seed(n)));
                                *failure.lock().unwrap() = Some((seed(n), short));
                            }
                        }
                    }
                }
            });
        }
    });
    if let Some((seed, (history, wrong))) = failure.into_inner().unwrap() {
        panic!("seed {seed}: {}\nafter {history:#?}", wrong.text);
    }
    let tally = tally.into_inner().unwrap();
    eprintln!("{tally:?} in {:.1} s", begun.elapsed().as_secs_f64());
    // Otherwise little was tested.
    let many = tally.steps / 500;
    for (what, count) in [
        ("left out", tally.left_out),
        ("refused", tally.refused),
        ("shared", tally.shared),
        ("fetched", tally.fetched),
        ("trusted", tally.trusted),
        ("ran", tally.ran),
    ] {
        assert!(count >= many, "only {count} times {what}: {tally:?}");
    }
}
