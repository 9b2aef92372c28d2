//! From an account's evidence to its view of some paths, and to their closure.

use std::collections::BTreeSet;

use firn_core::{AccountId, View};
use firn_nix::StorePath;
use firn_protocol::StoreError;

use crate::ports::{DatabaseError, Views};

/// Most paths that one closure may have.
pub(crate) const MAX_CLOSURE: usize = 200_000;

/// The account's view of `paths`.
pub(crate) async fn view(
    db: &impl Views,
    account: AccountId,
    paths: &[StorePath],
) -> Result<View, DatabaseError> {
    Ok(View::from_claims(db.claims(account, paths).await?))
}

/// Why there is no view of a closure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClosureError {
    #[error("path '{0}' is not valid")]
    NotValid(StorePath),
    #[error("the closure has more than {MAX_CLOSURE} paths")]
    TooLarge,
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<ClosureError> for StoreError {
    fn from(error: ClosureError) -> Self {
        match error {
            ClosureError::Database(error) => failed(error),
            error => Self::new(error.to_string()),
        }
    }
}

/// The account's view of the closure of `roots`. Every root and every reference must be valid.
pub(crate) async fn closure(
    db: &impl Views,
    account: AccountId,
    roots: &BTreeSet<StorePath>,
) -> Result<View, ClosureError> {
    let mut found = View::default();
    let mut wanted = roots.clone();
    let mut known = 0;
    while !wanted.is_empty() {
        known += wanted.len();
        if known > MAX_CLOSURE {
            return Err(ClosureError::TooLarge);
        }
        let paths: Vec<StorePath> = wanted.into_iter().collect();
        let part = view(db, account, &paths).await?;
        if let Some(missing) = paths.into_iter().find(|p| part.get(p).is_none()) {
            return Err(ClosureError::NotValid(missing));
        }
        wanted = part.open_references();
        wanted.retain(|p| found.get(p).is_none());
        found.extend(part);
    }
    Ok(found)
}

/// What a client is told when the database fails; the details are for the operator's log.
pub(crate) fn failed(error: DatabaseError) -> StoreError {
    if let DatabaseError::NoAccount(_) = error {
        return StoreError::new("the account of this session does not exist any more");
    }
    tracing::error!(error = &error as &dyn std::error::Error, "database");
    StoreError::new("internal error: the service's database failed; the operator's log has the details")
}
