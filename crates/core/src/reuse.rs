//! The reuse ladder: how a request is answered, and why.

use std::fmt;

/// Which rung of the ladder answered a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// Every output was in the account's view.
    AlreadyValid,
    /// The same build key had succeeded before.
    Shared,
    /// The same build key was running.
    Joined,
    /// It was run.
    Built,
}

impl Rung {
    /// Every rung, from the top.
    pub const ALL: [Self; 4] = [Self::AlreadyValid, Self::Shared, Self::Joined, Self::Built];

    /// One word, as stored and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AlreadyValid => "already-valid",
            Self::Shared => "reused",
            Self::Joined => "joined",
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
