//! One history: against the model, and without strangers.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

use crate::check;
use crate::model::Model;
use crate::operations::{Dice, Step};
use crate::play::Play;
use crate::strangers::{Ledger, friends, observe, strangers};
use crate::universe::ACCOUNTS;

/// Steps after which everybody is asked everything.
const EVERY: usize = 25;

/// How a history went wrong.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// The step after which it was seen.
    pub step: usize,
    pub text: String,
}

/// What a history was about, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub steps: usize,
    /// Steps of strangers that were left out the second time.
    pub left_out: usize,
    pub refused: usize,
    /// Builds that were answered with another one's result.
    pub shared: usize,
    pub fetched: usize,
    pub trusted: usize,
    pub ran: usize,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.left_out += other.left_out;
        self.refused += other.refused;
        self.shared += other.shared;
        self.fetched += other.fetched;
        self.trusted += other.trusted;
        self.ran += other.ran;
    }

    fn count(&mut self, answer: &crate::model::Answer) {
        use firn_core::Rung;
        self.refused += usize::from(answer.refused);
        self.ran += usize::from(answer.ran);
        match answer.rung {
            Some(Rung::Shared) => self.shared += 1,
            Some(Rung::Substituted) => self.fetched += 1,
            Some(Rung::Trusted) => self.trusted += 1,
            _ => {}
        }
    }
}

/// Plays a history. A panic counts as wrong.
pub async fn run(history: &[Step], seed: u64) -> Result<Tally, Wrong> {
    let mut at = 0;
    let played = AssertUnwindSafe(play(history, seed, &mut at))
        .catch_unwind()
        .await;
    match played {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Err(Wrong {
                step: at,
                text: format!("panicked: {}", text.unwrap_or_default()),
            })
        }
    }
}

async fn play(history: &[Step], seed: u64, at: &mut usize) -> Result<Tally, Wrong> {
    let mut tally = Tally::default();
    let mut dice = Dice::new(seed ^ 0x5eed);
    // Whose strangers are left out.
    let focus = dice.below(ACCOUNTS);
    let friends = friends(history, focus);
    let strangers = strangers(&friends);
    let mut model = Model::new();
    let mut all = Play::begin().await;
    let mut few = Play::begin().await;
    few.world.builder.share_lineage(&all.world.builder);
    let lineage = all.world.builder.lineage();
    let mut ledger = Ledger::default();
    for (n, step) in history.iter().enumerate() {
        *at = n;
        let wrong = |text| Wrong { step: n, text };
        let time = n as u64;
        let actor = match step {
            Step::Account(account, _) => Some(*account),
            Step::Cache(..) => None,
        };
        let (answer, error) = all.step(step, time).await;
        model.clock = time;
        model
            .step(step, &answer, &lineage.lock().unwrap())
            .map_err(|e| wrong(format!("{e} ({error:?})")))?;
        tally.steps += 1;
        tally.count(&answer);
        if let Some(account) = actor {
            check::views(&all, &mut model, account).await.map_err(wrong)?;
        }
        let closely = n % EVERY == 0 || n + 1 == history.len();
        if closely {
            for account in 0..ACCOUNTS {
                let seen = check::details(&all, &mut model, account, &mut dice).await;
                seen.map_err(|e| wrong(format!("account {account}: {e}")))?;
            }
        }

        // The same without strangers.
        few.stand(&all, &friends).await;
        let mut outcomes = [None, None];
        if actor.is_none_or(|account| friends.contains(&account)) {
            let (_, without) = few.step(step, time).await;
            if actor == Some(focus) {
                outcomes = [error, without].map(|e| Some(e.map_or(Ok(()), Err)));
            }
        } else {
            let traces = ledger.traces(&all, &strangers).await;
            tally.left_out += 1;
            few.world.clock.set(time);
            few.withdraw(step, time).await;
            few.leave(&traces, &all).await;
        }
        if actor == Some(focus) || closely {
            let glance = dice.below(usize::MAX);
            let [with, without] = outcomes;
            let with = observe(&all, focus, with, &mut Dice::new(glance as u64)).await;
            let without = observe(&few, focus, without, &mut Dice::new(glance as u64)).await;
            if with != without {
                let differ = differences(&format!("{with:#?}"), &format!("{without:#?}"));
                return Err(wrong(format!(
                    "account {focus} sees its strangers {strangers:?}: {differ}"
                )));
            }
        }
    }
    garbage(&all).await.map_err(|text| Wrong {
        step: history.len(),
        text,
    })?;
    Ok(tally)
}

/// Lines of one text that the other has not.
pub fn differences(with: &str, without: &str) -> String {
    let only = |a: &str, b: &str| {
        let lines = a.lines().filter(|line| !b.lines().any(|l| l == *line));
        lines.map(str::trim).collect::<Vec<_>>().join("\n  ")
    };
    format!("\n+ {}\n- {}", only(with, without), only(without, with))
}

/// Invariant 6: what was refused or broken off has left no row; a sweep takes just what no row speaks of.
async fn garbage(play: &Play) -> Result<(), String> {
    let spoken_of = firn_service::ports::Views::contents(&play.world.db)
        .await
        .unwrap();
    play.world.house.sweep().await?;
    let left: BTreeSet<_> = play.world.content.list().map(Result::unwrap).collect();
    match left == spoken_of {
        true => Ok(()),
        false => Err(format!("stored {left:?}, spoken of {spoken_of:?}")),
    }
}
