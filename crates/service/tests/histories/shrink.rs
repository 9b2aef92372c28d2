//! A shorter history that goes wrong, too.

use std::time::{Duration, Instant};

use crate::operations::Step;
use crate::run::{Wrong, run};

/// Leaves out what is not needed, for at most this long.
const PATIENCE: Duration = Duration::from_secs(40);

pub async fn shrink(mut history: Vec<Step>, mut wrong: Wrong, seed: u64) -> (Vec<Step>, Wrong) {
    let end = Instant::now() + PATIENCE;
    history.truncate(wrong.step + 1);
    let mut chunk = history.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < history.len() && Instant::now() < end {
            let mut shorter = history.clone();
            shorter.drain(at..(at + chunk).min(shorter.len()));
            match run(&shorter, seed).await {
                Err(still) => {
                    shorter.truncate(still.step + 1);
                    (history, wrong) = (shorter, still);
                }
                Ok(_) => at += chunk,
            }
        }
        chunk /= 2;
    }
    (history, wrong)
}
