//! From evidence to an account's view of some paths, and to their closure.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use firn_core::{AccountId, Choice, Claim, Closure, Draft, KeyId, ObjectId, View};
use firn_nix::StorePath;
use firn_protocol::StoreError;
use foldhash::quality::RandomState;

use crate::policy_numbers::PolicyNumber;
use crate::ports::{DatabaseError, Ports, Proof, Views as _};
use crate::terms::Terms;
use crate::{House, on_behalf_of};

/// Most paths that one closure may have.
pub(crate) const MAX_CLOSURE: usize = 200_000;

/// Paths whose evidence is asked for together: it takes several times the memory of what follows from it.
const TOGETHER: usize = 4096;

/// How often others may take back what an answer stands on, while it is found.
const ATTEMPTS: usize = 16;

/// Objects that are remembered as closed, of all terms together; 16 bytes and a little more each.
const MAX_REMEMBERED: usize = 1 << 20;

/// Objects whose whole closure was seen in a view, by the number of its policy. New evidence cannot undo that, and taking evidence away
/// makes new numbers. So a path is looked up without its closure, the second time.
#[derive(Debug, Default)]
pub(crate) struct ClosedObjects(Mutex<HashSet<(PolicyNumber, ObjectId)>>);

impl ClosedObjects {
    fn knows(&self, number: PolicyNumber, id: ObjectId) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(&(number, id))
    }

    fn note(&self, number: PolicyNumber, view: &View) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > MAX_REMEMBERED {
            known.clear();
        }
        known.extend(view.choices().map(|(_, choice)| (number, choice.candidate.id)));
    }
}

/// Choices of views that were made a while ago, by path and the number of their policy: for looking up closures without the database.
///
/// Only firm ones: nothing but new evidence for the path itself can change them, and whoever records that takes them out.
#[derive(Debug, Default)]
pub(crate) struct Choices {
    known: RwLock<Known>,
    /// Times that evidence was recorded. What was read before the latest time may be out of date.
    changes: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    by_path: HashMap<StorePath, Vec<(PolicyNumber, Arc<Choice>)>, RandomState>,
    weight: usize,
}

/// What may be remembered, by [`weight`]; 64 bytes each.
const MAX_WEIGHT: usize = 1 << 21;

/// A choice weighs as much as some references.
fn weight(choice: &Choice) -> usize {
    let signatures = choice.candidate.signatures.iter();
    let signatures: usize = signatures.map(|signature| 1 + signature.len() / 64).sum();
    12 + choice.object().references.len() + signatures
}

impl Known {
    fn get(&self, number: PolicyNumber, path: &StorePath) -> Option<Arc<Choice>> {
        let choices = self.by_path.get(path)?;
        let of_policy = choices.iter().find(|(of, _)| *of == number);
        of_policy.map(|(_, choice)| Arc::clone(choice))
    }
}

impl Choices {
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts what is known of these paths into `view`; the others.
    fn look_up(&self, number: PolicyNumber, paths: &[StorePath], view: &mut View) -> Vec<StorePath> {
        let known = self.read();
        let mut unknown = Vec::new();
        for path in paths {
            match known.get(number, path) {
                Some(choice) => view.insert(path.clone(), choice),
                None => unknown.push(path.clone()),
            }
        }
        unknown
    }

    fn follow(&self, number: PolicyNumber, closure: &mut Closure) {
        let known = self.read();
        closure.follow(|path| known.get(number, path));
    }

    /// Remembers what was read when `changes` was counted. Its names become those that are known: walking a closure is mostly waiting for
    /// memory, and a path is referred to many times.
    fn note(&self, number: PolicyNumber, view: &mut View, changes: u64) {
        let mut known = self.write();
        if self.changes.load(Ordering::Acquire) != changes {
            return;
        }
        if known.weight > MAX_WEIGHT {
            *known = Known::default();
        }
        view.share_names(|name| Some(known.by_path.get_key_value(name)?.0.clone()));
        for (path, choice) in view.choices().filter(|(_, choice)| choice.firm) {
            let of_path = known.by_path.entry(path.clone()).or_default();
            if of_path.iter().all(|(of, _)| *of != number) {
                of_path.push((number, Arc::clone(choice)));
                known.weight += weight(choice);
            }
        }
    }

    /// Forgets these paths: there is new evidence for them.
    pub(crate) fn changed<'p>(&self, paths: impl Iterator<Item = &'p StorePath>) {
        let mut known = self.write();
        self.changes.fetch_add(1, Ordering::AcqRel);
        for path in paths {
            let gone = known.by_path.remove(path).unwrap_or_default();
            let gone: usize = gone.iter().map(|(_, choice)| weight(choice)).sum();
            known.weight = known.weight.saturating_sub(gone);
        }
    }
}

/// Why there is no view of a closure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClosureError {
    #[error("path '{0}' is not valid")]
    NotValid(StorePath),
    #[error("the closure has more than {MAX_CLOSURE} paths")]
    TooLarge,
    #[error("what others have of these paths changes all the time; try again")]
    Changing,
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
    ///
    /// What it has is told: before this returns, nobody else can take it back any more. So whoever decides or answers by a view may rely on
    /// it, and what is remembered needs no second look.
    pub(crate) async fn view(&self, terms: &Terms, paths: &[StorePath]) -> Result<View, ClosureError> {
        let changes = self.choices.changes.load(Ordering::Acquire);
        let mut view = View::default();
        let remembered = self.remembered(terms);
        let unknown = match remembered {
            Some(number) => self.choices.look_up(number, paths, &mut view),
            None => paths.to_vec(),
        };
        if unknown.is_empty() {
            return Ok(view);
        }
        // Of all parts together: what is not closed is looked up again for each that refers to it.
        let mut most = MAX_CLOSURE + unknown.len();
        for part in unknown.chunks(TOGETHER) {
            let part: Vec<StorePath> = part.iter().filter(|p| view.get(p).is_none()).cloned().collect();
            let (mut found, looked_up) = self.told(terms, &part, most).await?;
            most = most.saturating_sub(looked_up);
            if let Some(number) = terms.number {
                self.closed.note(number, &found);
            }
            if let Some(number) = remembered {
                self.choices.note(number, &mut found, changes);
            }
            view.extend(found);
        }
        Ok(view)
    }

    /// The view of `paths` and of their closure as far as it was not known, kept for the account; and how many paths were looked up.
    async fn told(
        &self,
        terms: &Terms,
        paths: &[StorePath],
        most: usize,
    ) -> Result<(View, usize), ClosureError> {
        for _ in 0..ATTEMPTS {
            let draft = self.draft(terms, paths, most).await?;
            let looked_up = draft.looked_up();
            let mut found = draft.decide();
            found.retain_reachable(paths);
            let loose = found.loose();
            if self.db.tell(&terms.policy, &loose).await?.len() == loose.len() {
                return Ok((found, looked_up));
            }
            // Somebody took something back, or another session of the account was told of it first.
        }
        Err(ClosureError::Changing)
    }

    /// What choices are remembered under. Where others write to the database too, there is no telling what is new.
    fn remembered(&self, terms: &Terms) -> Option<PolicyNumber> {
        terms.number.filter(|_| self.db.alone())
    }

    /// Records claims, durably, and forgets what was known of their paths before anybody is told. Once begun it goes on to its end, also
    /// when nobody waits any more: what is known must not outlive what is recorded.
    pub(crate) async fn record_claims(
        self: &Arc<Self>,
        account: AccountId,
        claims: &Arc<[Claim]>,
        proofs: Vec<Proof>,
        registry: KeyId,
    ) -> Result<(), DatabaseError> {
        let (house, claims) = (Arc::clone(self), Arc::clone(claims));
        let recording = tokio::spawn(on_behalf_of(account, async move {
            let recorded = house.db.record_claims(account, &claims, &proofs, registry).await;
            house.choices.changed(claims.iter().map(|c| &c.object.path));
            recorded
        }));
        recording
            .await
            .unwrap_or_else(|e| Err(DatabaseError::Backend(Box::new(e))))
    }

    /// All evidence that bears on `paths`, which may be that of at most so many.
    pub(crate) async fn draft<'t>(
        &self,
        terms: &'t Terms,
        paths: &[StorePath],
        most: usize,
    ) -> Result<Draft<'t>, ClosureError> {
        let mut draft = Draft::new(&terms.policy);
        let mut wanted = paths.to_vec();
        while !wanted.is_empty() {
            if draft.looked_up() + wanted.len() > most {
                return Err(ClosureError::TooLarge);
            }
            for part in wanted.chunks(TOGETHER) {
                let evidence = self.db.evidence(&terms.policy, part).await?;
                draft.add(part.iter().cloned(), evidence, |id| {
                    terms.number.is_some_and(|number| self.closed.knows(number, id))
                });
            }
            wanted = draft.open().iter().cloned().collect();
        }
        Ok(draft)
    }

    /// The view of the whole closure of `roots`. Every root must be valid.
    pub(crate) async fn closure(
        &self,
        terms: &Terms,
        roots: &BTreeSet<StorePath>,
    ) -> Result<View, ClosureError> {
        let mut closure = Closure::of(roots);
        loop {
            if let Some(number) = self.remembered(terms) {
                self.choices.follow(number, &mut closure);
            }
            if closure.seen() > MAX_CLOSURE {
                return Err(ClosureError::TooLarge);
            }
            if closure.wanted().is_empty() {
                return Ok(closure.into_view());
            }
            let part = self.view(terms, closure.wanted()).await?;
            closure.add(part).map_err(ClosureError::NotValid)?;
        }
    }
}

/// What a client is told when the database fails; the details are for the operator's log.
pub(crate) fn failed(error: DatabaseError) -> StoreError {
    if let DatabaseError::NoAccount(_) = error {
        return StoreError::new("the account of this session does not exist any more");
    }
    if let DatabaseError::NoKey { account, fingerprint } = &error {
        return StoreError::new(format!(
            "the SSH key {fingerprint} does not act for account '{account}' any more"
        ));
    }
    if let DatabaseError::TooManyKeys = error {
        return StoreError::new(error.to_string());
    }
    tracing::error!(error = &error as &dyn std::error::Error, "database");
    StoreError::new("internal error: the service's database failed; the operator's log has the details")
}
