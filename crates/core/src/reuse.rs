//! The reuse ladder: how a request is answered, and why.

use std::fmt;

/// Which rung of the ladder answered a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// Every output was in the account's view.
    AlreadyValid,
    /// A binary cache of the account's policy had every output.
    Substituted,
    /// An account that it trusts has built it.
    Trusted,
    /// The output paths follow from a graph whose leaves the account has, and were built before from nothing else.
    Grounded,
    /// The same build key had succeeded before.
    Shared,
    /// The same build key was running.
    Joined,
    /// The same build key had failed before, by the builder's own doing.
    Failed,
    /// It was run.
    Built,
}

impl Rung {
    /// Every rung, from the top.
    pub const ALL: [Self; 8] = [
        Self::AlreadyValid,
        Self::Substituted,
        Self::Trusted,
        Self::Grounded,
        Self::Shared,
        Self::Joined,
        Self::Failed,
        Self::Built,
    ];

    /// One word, as stored and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AlreadyValid => "already-valid",
            Self::Substituted => "substituted",
            Self::Trusted => "trusted",
            Self::Grounded => "grounded",
            Self::Shared => "reused",
            Self::Joined => "joined",
            Self::Failed => "failed-before",
            Self::Built => "built",
        }
    }

    /// The rung of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.name() == name)
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is known when a request is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Every output is in the account's view.
    pub outputs_valid: bool,
    /// A result of the same build key is stored and all its contents exist.
    pub result_stored: bool,
    /// A build of the same key is running and still wanted.
    pub running: bool,
    /// The client asked for a run on purpose (`--check`).
    pub run_asked: bool,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Answer from the view.
    View,
    /// Answer from the stored result.
    Result,
    /// Wait for the running build.
    Join,
    /// Run it.
    Run,
}

/// The first rung that holds.
#[must_use]
pub fn decide(facts: Facts) -> Reuse {
    if facts.run_asked {
        Reuse::Run
    } else if facts.outputs_valid {
        Reuse::View
    } else if facts.result_stored {
        Reuse::Result
    } else if facts.running {
        Reuse::Join
    } else {
        Reuse::Run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rung_that_holds_answers() {
        for bits in 0..16u8 {
            let [outputs_valid, result_stored, running, run_asked] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
            let facts = Facts {
                outputs_valid,
                result_stored,
                running,
                run_asked,
            };
            let ladder = [
                (run_asked, Reuse::Run),
                (outputs_valid, Reuse::View),
                (result_stored, Reuse::Result),
                (running, Reuse::Join),
                (true, Reuse::Run),
            ];
            let first = ladder
                .into_iter()
                .find_map(|(holds, answer)| holds.then_some(answer));
            assert_eq!(Some(decide(facts)), first, "{facts:?}");
        }
    }

    #[test]
    fn names_of_rungs_are_stored_and_must_not_change() {
        let names = Rung::ALL.map(Rung::name);
        assert_eq!(
            names,
            [
                "already-valid",
                "substituted",
                "trusted",
                "grounded",
                "reused",
                "joined",
                "failed-before",
                "built"
            ]
        );
        for rung in Rung::ALL {
            assert_eq!(Rung::parse(rung.name()), Some(rung));
            assert_eq!(rung.to_string(), rung.name());
        }
        assert_eq!(Rung::parse("Built"), None);
        assert_eq!(Rung::parse(""), None);
    }
}
