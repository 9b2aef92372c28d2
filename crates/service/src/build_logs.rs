//! Logs of builds, for the account that they answered: while they run, and afterwards.

use bytes::Bytes;
use firn_core::BuildId;
use firn_nix::{StorePath, excerpt};
use firn_protocol::{Store as _, StoreError};

use crate::log::{self, Log, LogReader};
use crate::ports::{Builds as _, Ports};
use crate::resolve::failed;
use crate::{Desk, brought_logs};

/// Latest requests in which a package's name is looked for.
const LATEST: u32 = 10_000;

/// Where a log comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// A build that runs, or waits for its turn. The log grows.
    Running,
    /// A run that answered a request of the account.
    Stored,
    /// A client of the account brought it.
    Brought,
}

impl LogSource {
    /// As shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stored => "stored",
            Self::Brought => "brought",
        }
    }
}

/// A log, from its start.
pub struct BuildLog {
    /// The derivation, as the account names it.
    pub drv_path: StorePath,
    /// The run that wrote it; `None` for one that was brought.
    pub build: Option<BuildId>,
    /// Where it comes from.
    pub source: LogSource,
    reader: LogReader,
}

impl BuildLog {
    fn new(drv_path: StorePath, source: LogSource, log: &Log) -> Self {
        Self {
            drv_path,
            build: log.id(),
            source,
            reader: log.reader(),
        }
    }

    /// The next bytes; of a running build as soon as there are some. `None` at its end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        self.reader.next().await.map_err(unreadable)
    }

    /// The next bytes of those that are there. `None` where it ends for now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn next_now(&mut self) -> Result<Option<Bytes>, StoreError> {
        self.reader.next_now().map_err(unreadable)
    }
}

fn unreadable(error: std::io::Error) -> StoreError {
    tracing::error!(%error, "cannot read a build log");
    StoreError::new("internal error: the log cannot be read; the operator's log has the details")
}

/// A build that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningBuild {
    /// The derivation, as the account names it.
    pub drv_path: StorePath,
    /// The run.
    pub build: Option<BuildId>,
    /// It waits for its turn.
    pub queued: bool,
    /// No request of the account waits for it: it goes on by itself.
    pub detached: bool,
}

/// What a build is asked for by.
pub(crate) enum Wanted {
    Path(StorePath),
    Package(String),
}

impl Wanted {
    pub(crate) fn parse(text: &str) -> Self {
        let path = StorePath::parse(text.as_bytes()).or_else(|_| StorePath::from_base_name(text.as_bytes()));
        match path {
            Ok(path) => Self::Path(path),
            Err(_) => Self::Package(text.to_owned()),
        }
    }

    /// By its name with the version, or without.
    pub(crate) fn is(&self, drv_path: &StorePath) -> bool {
        match self {
            Self::Path(path) => path == drv_path,
            Self::Package(wanted) => {
                let name = drv_path.derivation_name().unwrap_or_else(|| drv_path.name());
                name == wanted || package(name) == wanted
            }
        }
    }
}

/// A name without its version, as Nix divides them: at the first `-` before something that is no letter.
fn package(name: &str) -> &str {
    let version = |at: &usize| {
        let next = name.as_bytes().get(at + 1);
        next.is_some_and(|next| !next.is_ascii_alphabetic())
    };
    let at = name.match_indices('-').map(|(at, _)| at).find(version);
    at.and_then(|at| name.get(..at)).unwrap_or(name)
}

impl<P: Ports> Desk<P> {
    /// The builds that the account waits for, or has left running; the latest first.
    #[must_use]
    pub fn running(&self) -> Vec<RunningBuild> {
        let underway = self.house.running.of(self.account.id).into_iter();
        underway
            .map(|run| RunningBuild {
                drv_path: run.drv_path,
                build: run.log.id(),
                queued: run.queued,
                detached: run.detached,
            })
            .collect()
    }

    /// The log of a derivation's latest build: of one that runs, else of the last that answered a request of the account, else one that the
    /// account brought. `wanted` is the derivation or one of its outputs, with or without `/nix/store/`, or the name of a package, with
    /// or without its version.
    ///
    /// # Errors
    /// There is none, or it is not the account's: the same answer.
    pub async fn log(&self, wanted: &str) -> Result<BuildLog, StoreError> {
        let mut sought = Wanted::parse(wanted);
        if let Wanted::Path(path) = &sought
            && !path.is_derivation()
        {
            let store = self.house.store(self.account.clone());
            let info = store
                .query_path_infos(vec![path.clone()])
                .await?
                .into_iter()
                .next();
            if let Some(deriver) = info.and_then(|info| info.deriver) {
                sought = Wanted::Path(deriver);
            }
        }
        let underway = self.house.running.of(self.account.id);
        if let Some(run) = underway.into_iter().find(|run| sought.is(&run.drv_path)) {
            return Ok(BuildLog::new(run.drv_path, LogSource::Running, &run.log));
        }
        let db = &self.house.db;
        let requests = match &sought {
            Wanted::Path(path) => db.latest_request(self.account.id, path).await.map(Vec::from_iter),
            Wanted::Package(_) => db.requests(self.account.id, LATEST).await,
        };
        let dir = &self.house.settings.log_dir;
        for request in requests.map_err(failed)? {
            if let Some(build) = request.build
                && sought.is(&request.drv_path)
                && let Ok(log) = log::reopen(dir, build)
            {
                return Ok(BuildLog::new(request.drv_path, LogSource::Stored, &log));
            }
        }
        let brought = match &sought {
            Wanted::Path(path) => Some(path.clone()),
            Wanted::Package(_) => {
                let mut names = brought_logs::names(dir, self.account.id).into_iter();
                names.find(|name| sought.is(name))
            }
        };
        if let Some(path) = brought
            && let Ok(log) = brought_logs::open(dir, self.account.id, &path)
        {
            return Ok(BuildLog::new(path, LogSource::Brought, &log));
        }
        Err(StoreError::new(format!(
            "there is no log of '{}': nothing of that name was built for this account, or its log is gone (`builds` lists what was)",
            excerpt(wanted)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_divided_as_nix_does() {
        for (name, expected) in [
            ("hello-2.12", "hello"),
            ("gtk+-3.24", "gtk+"),
            ("nix-daemon", "nix-daemon"),
            ("x-", "x-"),
            ("libfoo-git-2024-01-01", "libfoo-git"),
        ] {
            assert_eq!(package(name), expected);
        }
    }
}
