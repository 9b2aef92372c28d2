//! The public keys that anybody trusts, and the signatures that they made.
//!
//! A signature is checked once: when it comes, if its key is known, else when its key becomes known. A view needs no cryptography then.
//!
//! Signatures are anybody's to bring, and checking one takes as long as reading thousands of rows. So they are checked in small batches, in
//! turns that are fair by account, under no lock; and whoever begins to trust a key waits for some batches only, taken in turn
//! from all who brought signatures of its name. The rest follows behind.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firn_core::{AccountId, Claim, KeyId, ObjectId};
use firn_nix::signature::{PublicKey, Signature};
use firn_nix::{StorePath, excerpt};

use crate::ports::{DatabaseError, KeyFor, OpenSignature, Policies as _, Ports, Proof};
use crate::turns::Turns;
use crate::{House, StoreError, on_behalf_of};

/// Signatures that are checked in one turn.
const BATCH: u32 = 256;

/// Open signatures that whoever makes a key known waits for.
const WAITED_FOR: usize = 4096;

/// Most references of a path whose signatures by unknown keys are kept: each is read and hashed once more when a key of its name becomes
/// known.
const MAX_OPEN_REFERENCES: usize = 4096;

/// References that take as long to hash as a signature to check.
const REFERENCES: usize = 1024;

/// Known keys of one name that a new signature is tried with, the oldest first.
const MAX_SAME_NAME: usize = 4096;

/// Batches that are checked at once, of all accounts together.
const CHECKING: usize = 2;

/// The work on signatures that is under way.
#[derive(Debug)]
pub(crate) struct Checking {
    turns: Turns,
    /// Keys whose open signatures are looked at behind.
    behind: Mutex<HashSet<KeyId>>,
}

impl Default for Checking {
    fn default() -> Self {
        Self {
            turns: Turns::new(CHECKING),
            behind: Mutex::default(),
        }
    }
}

impl Checking {
    fn behind(&self) -> MutexGuard<'_, HashSet<KeyId>> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The open signatures of a key's name, account by account.
struct Open {
    id: KeyId,
    key: PublicKey,
    /// Who brought some that were not looked at, with the number of the last that was.
    left: VecDeque<(AccountId, i64)>,
}

impl<P: Ports> House<P> {
    /// Makes a key known. Signatures that it made before count when this returns, or soon after where there are many of its name.
    pub(crate) async fn register(
        self: &Arc<Self>,
        by: KeyFor,
        key: &PublicKey,
    ) -> Result<KeyId, DatabaseError> {
        let (id, settled) = self.db.register_key(by, key).await?;
        if settled || self.checking.behind().contains(&id) {
            return Ok(id);
        }
        let by = by.account();
        let mut left: VecDeque<(AccountId, i64)> = VecDeque::new();
        for account in self.db.open_signers(key.name()).await? {
            match by {
                Some(own) if own == account => left.push_front((account, 0)),
                _ => left.push_back((account, 0)),
            }
        }
        let key = key.clone();
        let mut open = Open { id, key, left };
        if self.look_at(&mut open, WAITED_FOR).await? {
            self.db.settle_key(id).await?;
        } else if self.checking.behind().insert(id) {
            let house = Arc::clone(self);
            tokio::spawn(on_behalf_of(by.unwrap_or(AccountId(0)), async move {
                let looked = house.look_at(&mut open, usize::MAX).await;
                let settled = match looked {
                    Ok(_) => house.db.settle_key(id).await,
                    Err(error) => Err(error),
                };
                // Whoever asks for the key next begins again.
                house.checking.behind().remove(&id);
                if let Err(error) = settled {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "signatures of a new key are not all looked at"
                    );
                }
            }));
        }
        Ok(id)
    }

    /// Looks at so many open signatures, the accounts in turn; whether none is left.
    async fn look_at(&self, open: &mut Open, most: usize) -> Result<bool, DatabaseError> {
        let mut looked = 0;
        while let Some((account, after)) = open.left.pop_front() {
            if looked >= most {
                open.left.push_front((account, after));
                return Ok(false);
            }
            let some = self
                .db
                .open_signatures(open.key.name(), account, after, BATCH)
                .await?;
            let Some(last) = some.last() else { continue };
            open.left.push_back((account, last.id));
            looked += some.len();
            let (key, turn) = (open.key.clone(), self.checking.turns.turn().await);
            let proven = tokio::task::spawn_blocking(move || {
                let proven: Vec<OpenSignature> = some.into_iter().filter(|o| made_by(&key, o)).collect();
                drop(turn);
                proven
            });
            let proven = proven.await.map_err(|e| DatabaseError::Backend(Box::new(e)))?;
            if !proven.is_empty() {
                let numbers: Vec<(i64, ObjectId)> = proven.iter().map(|o| (o.id, o.object_id)).collect();
                self.db.prove(open.id, &numbers).await?;
                // Somebody may trust the key already, and have looked.
                self.choices.changed(proven.iter().map(|o| &o.object.path));
            }
        }
        Ok(true)
    }
}

fn made_by(key: &PublicKey, open: &OpenSignature) -> bool {
    let signature = open.signature.parse::<Signature>();
    signature.is_ok_and(|s| key.verify(open.object.fingerprint().as_bytes(), &s))
}

/// Why signatures of an upload are refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignatureRefusal {
    #[error("cannot add '{path}': {error}")]
    Malformed {
        path: StorePath,
        error: firn_nix::signature::SignatureError,
    },
    #[error(
        "cannot add '{path}': its signature by the key '{key}', which you trust, is not over this path and content; sign it again, or leave the signature out"
    )]
    Wrong { path: StorePath, key: String },
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<SignatureRefusal> for StoreError {
    fn from(refusal: SignatureRefusal) -> Self {
        match refusal {
            SignatureRefusal::Database(error) => crate::resolve::failed(error),
            refusal => Self::new(refusal.to_string()),
        }
    }
}

/// A signature of an upload.
struct Brought<'c> {
    claim: usize,
    text: &'c str,
    signature: Signature,
}

impl<P: Ports> House<P> {
    /// What the signatures of claims prove, and the highest key number that was known. A wrong signature by one of the `trusted` keys is
    /// refused: its owner would wonder why the path is not usable.
    pub(crate) async fn prove(
        &self,
        claims: &[Claim],
        trusted: &[PublicKey],
    ) -> Result<(Vec<Proof>, KeyId), SignatureRefusal> {
        let mut brought: Vec<Brought<'_>> = Vec::new();
        for (number, claim) in claims.iter().enumerate() {
            for text in &claim.signatures {
                let signature = text.parse().map_err(|error| SignatureRefusal::Malformed {
                    path: claim.object.path.clone(),
                    error,
                })?;
                brought.push(Brought {
                    claim: number,
                    text,
                    signature,
                });
            }
        }
        if brought.is_empty() {
            return Ok((Vec::new(), KeyId(0)));
        }
        let names: BTreeSet<&str> = brought.iter().map(|b| b.signature.key_name()).collect();
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let (known, registry) = self.db.keys_named(&names).await?;
        let mut proofs = Vec::with_capacity(brought.len());
        let mut rest = brought.as_slice();
        while !rest.is_empty() {
            // As much as one turn is for, by how often a signature may have to be tried.
            let mut tries = 0;
            let fits = rest.iter().position(|b| {
                let same_name = known.iter().filter(|(_, k)| k.name() == b.signature.key_name());
                let object = claims.get(b.claim).map(|c| &c.object);
                let size = object.map_or(0, |object| object.references.len()) / REFERENCES + 1;
                tries += (same_name.take(MAX_SAME_NAME).count() + 1) * size;
                tries > BATCH as usize
            });
            let (batch, later) = rest.split_at(fits.unwrap_or(rest.len()).max(1));
            let _turn = self.checking.turns.turn().await;
            let checked = tokio::task::block_in_place(|| check(claims, batch, trusted, &known));
            proofs.extend(checked?);
            rest = later;
        }
        Ok((proofs, registry))
    }
}

fn check(
    claims: &[Claim],
    batch: &[Brought<'_>],
    trusted: &[PublicKey],
    known: &[(KeyId, PublicKey)],
) -> Result<Vec<Proof>, SignatureRefusal> {
    let mut proofs = Vec::with_capacity(batch.len());
    let mut latest: Option<(usize, String)> = None;
    for Brought {
        claim: number,
        text,
        signature,
    } in batch
    {
        let Some(object) = claims.get(*number).map(|c| &c.object) else {
            continue;
        };
        let message = match latest.take() {
            Some((same, message)) if same == *number => message,
            _ => object.fingerprint(),
        };
        let made_by = |key: &PublicKey| key.verify(message.as_bytes(), signature);
        // Whether it is refused must not depend on the keys that others trust.
        let named = trusted.iter().find(|k| k.name() == signature.key_name());
        if named.is_some_and(|key| !made_by(key)) {
            return Err(SignatureRefusal::Wrong {
                path: object.path.clone(),
                key: excerpt(signature.key_name()).to_string(),
            });
        }
        let same_name = || known.iter().filter(|(_, k)| k.name() == signature.key_name());
        let key = match named {
            Some(trusted) => same_name().find(|(_, k)| k == trusted),
            None => same_name().take(MAX_SAME_NAME).find(|(_, k)| made_by(k)),
        }
        .map(|(id, _)| *id);
        if key.is_some() || object.references.len() <= MAX_OPEN_REFERENCES {
            proofs.push(Proof {
                claim: *number,
                signature: (*text).to_owned(),
                key_name: signature.key_name().to_owned(),
                key,
            });
        }
        latest = Some((*number, message));
    }
    Ok(proofs)
}
