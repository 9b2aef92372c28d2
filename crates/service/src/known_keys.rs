//! The public keys that anybody trusts, and the signatures that they made.
//!
//! A signature is checked once: when it comes, if its key is known, else when its key becomes known. A view needs no cryptography then.

use std::collections::BTreeSet;

use firn_core::{Claim, KeyId, ObjectId};
use firn_nix::StorePath;
use firn_nix::signature::{PublicKey, Signature};

use crate::StoreError;
use crate::ports::{DatabaseError, KeyFor, Policies, Proof};

/// Signatures that are read from the database at once.
const BATCH: u32 = 2048;

/// Known keys of one name that a new signature is tried with, the oldest first.
const MAX_SAME_NAME: usize = 4096;

/// Makes a key known. All signatures that it made before count when this returns.
pub(crate) async fn register(
    db: &impl Policies,
    by: KeyFor,
    key: &PublicKey,
) -> Result<KeyId, DatabaseError> {
    let (id, settled) = db.register_key(by, key).await?;
    if settled {
        return Ok(id);
    }
    let mut after = 0;
    loop {
        let open = db.open_signatures(key.name(), after, BATCH).await?;
        let Some(last) = open.last() else { break };
        after = last.id;
        let key = key.clone();
        let proven: Vec<(i64, ObjectId)> = tokio::task::spawn_blocking(move || {
            open.iter()
                .filter(|o| {
                    o.signature
                        .parse::<Signature>()
                        .is_ok_and(|s| key.verify(o.object.fingerprint().as_bytes(), &s))
                })
                .map(|o| (o.id, o.object_id))
                .collect()
        })
        .await
        .map_err(|e| DatabaseError::Backend(Box::new(e)))?;
        if !proven.is_empty() {
            db.prove(id, &proven).await?;
        }
    }
    db.settle_key(id).await?;
    Ok(id)
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

/// What the signatures of claims prove, and the highest key number that was known. A wrong signature by one of the `trusted` keys is
/// refused: its owner would wonder why the path is not usable.
pub(crate) async fn prove(
    db: &impl Policies,
    claims: &[Claim],
    trusted: &[PublicKey],
) -> Result<(Vec<Proof>, KeyId), SignatureRefusal> {
    let mut signatures: Vec<(usize, &str, Signature)> = Vec::new();
    for (number, claim) in claims.iter().enumerate() {
        for text in &claim.signatures {
            let signature = text.parse().map_err(|error| SignatureRefusal::Malformed {
                path: claim.object.path.clone(),
                error,
            })?;
            signatures.push((number, text, signature));
        }
    }
    if signatures.is_empty() {
        return Ok((Vec::new(), KeyId(0)));
    }
    let names: BTreeSet<&str> = signatures.iter().map(|(_, _, s)| s.key_name()).collect();
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let (known, registry) = db.keys_named(&names).await?;
    let proofs = tokio::task::block_in_place(|| {
        let mut proofs = Vec::with_capacity(signatures.len());
        let mut latest: Option<(usize, String)> = None;
        for (number, text, signature) in &signatures {
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
                    key: signature.key_name().escape_debug().to_string(),
                });
            }
            let same_name = || known.iter().filter(|(_, k)| k.name() == signature.key_name());
            let key = match named {
                Some(trusted) => same_name().find(|(_, k)| k == trusted),
                None => same_name().take(MAX_SAME_NAME).find(|(_, k)| made_by(k)),
            }
            .map(|(id, _)| *id);
            proofs.push(Proof {
                claim: *number,
                signature: (*text).to_owned(),
                key_name: signature.key_name().to_owned(),
                key,
            });
            latest = Some((*number, message));
        }
        Ok(proofs)
    })?;
    Ok((proofs, registry))
}
