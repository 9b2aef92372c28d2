//! Ending a build that goes on after the account's clients have left.

use firn_core::BuildId;
use firn_nix::StorePath;
use firn_protocol::StoreError;

use crate::Desk;
use crate::build_logs::Wanted;
use crate::explain_build::build_id;
use crate::ports::Ports;
use crate::running::{Stopped, Underway};

/// A build that was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoppedBuild {
    /// The derivation, as the account names it.
    pub drv_path: StorePath,
    /// The run.
    pub build: BuildId,
    /// Whether later runs of it by this account are its own, because this one has no outcome.
    pub apart: bool,
}

impl<P: Ports> Desk<P> {
    /// Ends a build that goes on although no client of the account waits for it. `wanted` is its number, its derivation, or the name of a
    /// package. If it was shared and had begun, all who took part in it are marked.
    ///
    /// # Errors
    /// There is none, or it is not the account's: the same answer. A client of the account waits for it, or it goes on for others.
    pub async fn stop(&self, wanted: &str) -> Result<StoppedBuild, StoreError> {
        let id = build_id(wanted);
        let sought = Wanted::parse(wanted);
        let meant = |run: &Underway| match id {
            Some(id) => run.log.id() == Some(id),
            None => sought.is(&run.drv_path),
        };
        let mut underway: Vec<Underway> = self.house.running.of(self.account.id);
        underway.retain(meant);
        // The latest that nobody waits for, before one that is waited for.
        let run = underway.iter().find(|run| run.detached).or(underway.first());
        let found = run.and_then(|run| Some((run.drv_path.clone(), run.log.id()?)));
        let stopped = found.and_then(|(drv_path, build)| {
            let why = "was stopped by hand";
            Some((
                drv_path,
                build,
                self.house.running.stop(self.account.id, build, why)?,
            ))
        });
        self.house.save_marks().await;
        match stopped {
            Some((drv_path, build, Stopped::Ended { apart })) => Ok(StoppedBuild {
                drv_path,
                build,
                apart,
            }),
            Some((_, _, Stopped::Waits)) => Err(StoreError::new(
                "a client of this account waits for it: end it there, with control-C",
            )),
            Some((_, _, Stopped::GoesOn)) => Err(StoreError::new(
                "it goes on, because others wait for it; it does not go on for this account any more",
            )),
            None => Err(StoreError::new(format!(
                "nothing of the name '{}' runs for this account (`builds --running` lists what does)",
                wanted.chars().take(300).collect::<String>().escape_debug()
            ))),
        }
    }
}
