//! Which record may come when, and how much of each.

use bytes::Bytes;
use firn_content::WalkError;
use firn_sandbox::ExitKind;

use crate::record::{GuestRecord, Report, VERSION};

/// Most outputs that a guest tells to be refused. It stops at this many.
pub const MAX_REJECTED: usize = 16;

/// What the guest is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Number of outputs that were asked for.
    pub outputs: usize,
    /// Most bytes of log.
    pub log_bytes: u64,
    /// Most bytes of all outputs together.
    pub nar_bytes: u64,
}

/// The host's side of the talk with one guest: what has been said and what may be said next.
#[derive(Debug)]
pub struct Conversation {
    bounds: Bounds,
    state: State,
    log: u64,
    nar: u64,
    rejected: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before [`GuestRecord::Ready`].
    Booting,
    /// Before the job.
    Idle,
    /// The command runs.
    Running,
    /// It succeeded; this output is next.
    Between(usize),
    /// This output is on its way.
    Inside(usize),
    /// Outputs are missing; those before this one have been told.
    Missing(usize),
    /// Only the end may come.
    Ending,
    Over,
}

/// What a record means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The job may be sent.
    Ready,
    /// More of the log.
    Log(Bytes),
    /// The last that is taken of the log: more came than is allowed.
    LogLimit(Bytes),
    /// The command has ended. The size of the log is the one counted here.
    Exited(Report),
    /// An output begins.
    Begin(usize),
    /// More of its NAR.
    Data(Bytes),
    /// It is complete, as the guest says.
    End,
    /// It was not made.
    Missing(usize),
    /// It cannot be taken, and so none is; the rest is heard for what else is wrong.
    Rejected(usize, WalkError),
    /// More bytes of outputs came than are allowed.
    TooLarge,
    /// That was all.
    Done,
}

/// Why a guest is not listened to any longer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Another version of this protocol: the machine was prepared by another version of Firn.
    #[error("the guest speaks version {0} instead of {VERSION}: prepare the machine again")]
    Version(u32),
    /// This record does not come here.
    #[error("the guest said {said} {at}")]
    Order {
        /// The record.
        said: String,
        /// When.
        at: &'static str,
    },
    /// The guest says that it could not do its part.
    #[error("the guest failed: {0}")]
    Failed(String),
}

impl Conversation {
    /// At the start of the machine.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            state: State::Booting,
            log: 0,
            nar: 0,
            rejected: 0,
        }
    }

    /// The job was sent, after [`Step::Ready`].
    pub fn job_sent(&mut self) {
        if self.state == State::Idle {
            self.state = State::Running;
        }
    }

    /// Bytes of log so far.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.log
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`Broken`]; nothing more is to be taken then.
    pub fn take(&mut self, record: GuestRecord) -> Result<Step, Broken> {
        let (step, next) = match (self.state, record) {
            (State::Over, record) => return Err(self.order(&record)),
            (_, GuestRecord::Failed(why)) => {
                self.state = State::Over;
                return Err(Broken::Failed(why));
            }
            (State::Booting, GuestRecord::Ready { version: VERSION }) => (Step::Ready, State::Idle),
            (State::Booting, GuestRecord::Ready { version }) => {
                self.state = State::Over;
                return Err(Broken::Version(version));
            }
            (State::Running, GuestRecord::Log(bytes)) => self.log(bytes),
            (State::Running, GuestRecord::Exit(mut report)) if report.exit.status != ExitKind::Cancelled => {
                report.exit.log_bytes = self.log;
                let next = if report.exit.success() {
                    State::Between(0)
                } else {
                    State::Ending
                };
                (Step::Exited(report), next)
            }
            (State::Between(next), GuestRecord::Output(index)) if self.is(next, index) => {
                (Step::Begin(next), State::Inside(next))
            }
            (State::Inside(index), GuestRecord::Nar(bytes)) => {
                self.nar = self.nar.saturating_add(bytes.len() as u64);
                if self.nar > self.bounds.nar_bytes {
                    (Step::TooLarge, State::Over)
                } else {
                    (Step::Data(bytes), State::Inside(index))
                }
            }
            (State::Inside(index), GuestRecord::End) => (Step::End, State::Between(index + 1)),
            (State::Between(next) | State::Inside(next), GuestRecord::Rejected(index, error))
                if self.is(next, index) =>
            {
                self.rejected += 1;
                let after = if self.rejected < MAX_REJECTED {
                    State::Between(next + 1)
                } else {
                    State::Ending
                };
                (Step::Rejected(next, error), after)
            }
            // All that are missing are told before any output.
            (State::Between(0), GuestRecord::Missing(index)) => self.missing(0, index)?,
            (State::Missing(least), GuestRecord::Missing(index)) => self.missing(least, index)?,
            (State::Between(next), GuestRecord::Done) if next == self.bounds.outputs => {
                (Step::Done, State::Over)
            }
            (State::Missing(_) | State::Ending, GuestRecord::Done) => (Step::Done, State::Over),
            (_, record) => return Err(self.order(&record)),
        };
        self.state = next;
        Ok(step)
    }

    fn log(&mut self, mut bytes: Bytes) -> (Step, State) {
        let left = self.bounds.log_bytes - self.log;
        if bytes.len() as u64 <= left {
            self.log += bytes.len() as u64;
            return (Step::Log(bytes), State::Running);
        }
        self.log = self.bounds.log_bytes;
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        (Step::LogLimit(bytes), State::Over)
    }

    fn missing(&mut self, least: usize, index: u32) -> Result<(Step, State), Broken> {
        let here = usize::try_from(index).unwrap_or(usize::MAX);
        if here < least || here >= self.bounds.outputs {
            return Err(self.order(&GuestRecord::Missing(index)));
        }
        Ok((Step::Missing(here), State::Missing(here + 1)))
    }

    fn is(&self, next: usize, index: u32) -> bool {
        next < self.bounds.outputs && usize::try_from(index) == Ok(next)
    }

    fn order(&mut self, record: &GuestRecord) -> Broken {
        let at = match self.state {
            State::Booting => "before it was ready",
            State::Idle => "before it had a job",
            State::Running => "while the command ran",
            State::Between(_) => "between outputs",
            State::Inside(_) => "within an output",
            State::Missing(_) => "after it told of missing outputs",
            State::Ending => "where only the end could come",
            State::Over => "after the end",
        };
        self.state = State::Over;
        Broken::Order {
            said: format!("{record:?}"),
            at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::{record, success};
    use firn_content::WalkProblem;
    use proptest::prelude::*;

    fn socket() -> WalkError {
        WalkError {
            path: b"a".to_vec(),
            problem: WalkProblem::FileType("socket"),
        }
    }

    #[test]
    fn all_that_are_refused_are_heard_of_up_to_a_number() {
        let outputs = MAX_REJECTED + 2;
        let mut it = Conversation::new(Bounds {
            outputs,
            log_bytes: 0,
            nar_bytes: 0,
        });
        it.take(GuestRecord::Ready { version: VERSION }).unwrap();
        it.job_sent();
        it.take(GuestRecord::Exit(success())).unwrap();
        for output in 0..MAX_REJECTED {
            let number = u32::try_from(output).unwrap();
            let step = it.take(GuestRecord::Rejected(number, socket()));
            assert_eq!(step, Ok(Step::Rejected(output, socket())));
        }
        assert_eq!(it.state, State::Ending);
        assert_eq!(it.take(GuestRecord::Done), Ok(Step::Done));
    }

    proptest! {
        /// Whatever is said: no panic, no more than the bounds, outputs in order and each once.
        #[test]
        fn bounds_hold(
            records in prop::collection::vec(prop_oneof![
                record(),
                Just(GuestRecord::Exit(success())),
                (0..3u32).prop_map(GuestRecord::Output),
                (0..3u32).prop_map(GuestRecord::Missing),
                (0..3u32).prop_map(|output| GuestRecord::Rejected(output, socket())),
                Just(GuestRecord::End),
                Just(GuestRecord::Done),
            ], 0..30),
            booted in any::<bool>(),
        ) {
            let bounds = Bounds { outputs: 2, log_bytes: 3000, nar_bytes: 3000 };
            let mut it = Conversation::new(bounds);
            if booted {
                let ready = it.take(GuestRecord::Ready { version: VERSION });
                prop_assert_eq!(ready, Ok(Step::Ready));
                it.job_sent();
            }
            let (mut log, mut nar) = (0, 0);
            // The output that is expected, and whether it has begun.
            let (mut next, mut inside) = (0, false);
            let mut over = false;
            for record in records {
                let step = it.take(record);
                if over {
                    prop_assert!(step.is_err());
                    continue;
                }
                match step {
                    Ok(Step::Log(bytes)) => log += bytes.len(),
                    Ok(Step::LogLimit(bytes)) => { log += bytes.len(); over = true }
                    Ok(Step::Data(bytes)) => { prop_assert!(inside); nar += bytes.len() }
                    Ok(Step::Begin(output)) => { prop_assert!(output == next && !inside); inside = true }
                    Ok(Step::End) => { prop_assert!(inside); inside = false; next += 1 }
                    Ok(Step::Missing(_)) => prop_assert!(next == 0 && !inside),
                    Ok(Step::Ready) => { prop_assert!(!booted); it.job_sent() }
                    Ok(Step::Exited(report)) => prop_assert_eq!(report.exit.log_bytes, log as u64),
                    Ok(Step::Done | Step::TooLarge) | Err(_) => over = true,
                    Ok(Step::Rejected(output, _)) => { prop_assert_eq!(output, next); inside = false; next += 1 }
                }
                prop_assert!(log <= 3000 && nar <= 3000 && next + usize::from(inside) <= 2);
            }
        }
    }
}
