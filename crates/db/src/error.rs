//! What can go wrong here, as the ports' [`DatabaseError`].

use std::path::PathBuf;
use std::sync::Arc;

use firn_core::AccountId;
use firn_service::ports::DatabaseError;

use crate::occupant::Occupant;

/// Why a database cannot be opened. Comes inside [`DatabaseError::Backend`].
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A server has it open.
    #[error("{} is in use by another firn process (it holds {}.lock)", .0.display(), .0.display())]
    InUse(PathBuf),
    /// The file, its lock or its directory.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A server has the database.
    #[error(
        "the database is in use by another `firn serve`{}; stop that one first, or give this one a database of its own",
        .0.as_ref().map_or_else(String::new, |other| format!(" {other}"))
    )]
    Occupied(Option<Occupant>),
    /// The connection that says that the database is this server's is lost.
    #[error("this server's hold on the database is lost, for now")]
    NotHeld,
    /// The tables are older or newer than this program.
    #[error("{} has tables of version {found}, but this program works with version {wanted}", path.display())]
    Version {
        /// Of which file.
        path: PathBuf,
        /// 0 when there are none.
        found: i64,
        /// What this program has.
        wanted: i64,
    },
}

/// Why a write was not done although nothing was wrong with it.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The transaction that several writes shared did not commit.
    #[error("commit: {0}")]
    Commit(Arc<sqlx::Error>),
    /// [`close`](crate::SqliteDatabase::close) was called, or another write of the same commit failed in a way that undid all.
    #[error("the database is closed, or was about to fail; the log says which")]
    NotDone,
    /// A proof for a claim that is not in the batch.
    #[error("there is a proof for claim {0}, which was not given")]
    NoClaim(usize),
    /// An input of a run that is no object.
    #[error("{0} is no number of an object")]
    NoObject(i64),
    /// A failure that may not come again.
    #[error("a failure like this is not kept: {0}")]
    NotKept(String),
    /// A number of 2⁶³ or more.
    #[error("{0} is too large a number to store")]
    TooLarge(u64),
}

/// Any other error of the database.
pub(crate) fn backend(error: impl std::error::Error + Send + Sync + 'static) -> DatabaseError {
    DatabaseError::Backend(Box::new(error))
}

/// An account that is known by number only.
pub(crate) fn no_account(account: AccountId) -> DatabaseError {
    DatabaseError::NoAccount(format!("#{}", account.0))
}

/// The error of an insert that names an account: that account may be gone.
pub(crate) fn of_account(account: AccountId) -> impl Fn(sqlx::Error) -> DatabaseError {
    move |error| match error.as_database_error() {
        Some(e) if e.is_foreign_key_violation() => no_account(account),
        _ => backend(error),
    }
}

/// A number as both databases can store it.
pub(crate) fn stored(number: u64) -> Result<i64, DatabaseError> {
    i64::try_from(number).map_err(|_| backend(WriteError::TooLarge(number)))
}
