//! What happens, one after the other, with how long it took.

use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Prints as it goes and remembers what went wrong without ending the run.
pub struct Phases {
    done: Vec<(String, Duration)>,
    problems: Vec<String>,
}

impl Phases {
    pub fn new() -> Self {
        Self {
            done: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Runs one phase; an error in it ends the run.
    pub fn phase<T>(
        &mut self,
        what: &str,
        act: impl FnOnce(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        println!("{:2}  {what}", self.done.len() + 1);
        let begun = Instant::now();
        let answer = act(self).with_context(|| what.to_owned())?;
        let took = begun.elapsed();
        println!("    {:.1} s", took.as_secs_f64());
        self.done.push((what.to_owned(), took));
        Ok(answer)
    }

    /// Something to see while a phase runs.
    pub fn note(&self, text: &str) {
        println!("    {text}");
    }

    /// Something is wrong: the run goes on, so that one sees the rest, and fails at its end.
    pub fn problem(&mut self, text: String) {
        println!("    WRONG: {text}");
        self.problems.push(text);
    }

    /// A problem unless `holds`.
    pub fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.problem(otherwise());
        }
    }

    /// Every phase with its seconds; an error when there was a problem.
    pub fn end(self) -> anyhow::Result<()> {
        println!();
        for (what, took) in &self.done {
            println!("  {:8.1} s  {what}", took.as_secs_f64());
        }
        anyhow::ensure!(
            self.problems.is_empty(),
            "{} things are wrong:\n  {}",
            self.problems.len(),
            self.problems.join("\n  ")
        );
        println!("\nEverything is as it should be.");
        Ok(())
    }
}
