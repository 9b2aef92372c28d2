//! From evidence to an account's view of some paths, and to their closure.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use firn_core::{Draft, ObjectId, View};
use firn_nix::StorePath;
use firn_protocol::StoreError;

use crate::House;
use crate::ports::{DatabaseError, Ports, Views as _};
use crate::terms::Terms;

/// Most paths that one closure may have.
pub(crate) const MAX_CLOSURE: usize = 200_000;

/// Objects that are remembered as closed, of all terms together; 16 bytes and a little more each.
const MAX_REMEMBERED: usize = 1 << 20;

/// Objects whose whole closure was seen in a view, by the tag of its terms. New evidence cannot undo that, and taking evidence away
/// makes new terms. So a path is looked up without its closure, the second time.
#[derive(Debug, Default)]
pub(crate) struct ClosedObjects(Mutex<HashSet<(u64, ObjectId)>>);

impl ClosedObjects {
    fn knows(&self, tag: u64, id: ObjectId) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(&(tag, id))
    }

    fn note(&self, tag: u64, view: &View) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > MAX_REMEMBERED {
            known.clear();
        }
        known.extend(view.choices().map(|(_, choice)| (tag, choice.candidate.id)));
    }
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

impl<P: Ports> House<P> {
    /// The view of `paths`, and of as much of their closure as had to be looked at.
    pub(crate) async fn view(&self, terms: &Terms, paths: &[StorePath]) -> Result<View, ClosureError> {
        let view = self.draft(terms, paths).await?.decide();
        self.closed.note(terms.tag, &view);
        Ok(view)
    }

    /// All evidence that bears on `paths`.
    pub(crate) async fn draft<'t>(
        &self,
        terms: &'t Terms,
        paths: &[StorePath],
    ) -> Result<Draft<'t>, ClosureError> {
        let mut draft = Draft::new(&terms.policy);
        let mut wanted = paths.to_vec();
        while !wanted.is_empty() {
            if draft.looked_up() + wanted.len() > MAX_CLOSURE.max(paths.len()) {
                return Err(ClosureError::TooLarge);
            }
            let evidence = self.db.evidence(&terms.policy, &wanted).await?;
            draft.add(wanted, evidence, |id| self.closed.knows(terms.tag, id));
            wanted = draft.open().into_iter().collect();
        }
        Ok(draft)
    }

    /// The view of the whole closure of `roots`. Every root must be valid.
    pub(crate) async fn closure(
        &self,
        terms: &Terms,
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
            let part = self.view(terms, &paths).await?;
            if let Some(missing) = paths.into_iter().find(|p| part.get(p).is_none()) {
                return Err(ClosureError::NotValid(missing));
            }
            wanted = part.open_references();
            wanted.retain(|p| found.get(p).is_none());
            found.extend(part);
        }
        found.retain_closure(roots);
        Ok(found)
    }
}

/// What a client is told when the database fails; the details are for the operator's log.
pub(crate) fn failed(error: DatabaseError) -> StoreError {
    if let DatabaseError::NoAccount(_) = error {
        return StoreError::new("the account of this session does not exist any more");
    }
    if let DatabaseError::TooManyKeys = error {
        return StoreError::new(error.to_string());
    }
    tracing::error!(error = &error as &dyn std::error::Error, "database");
    StoreError::new("internal error: the service's database failed; the operator's log has the details")
}
