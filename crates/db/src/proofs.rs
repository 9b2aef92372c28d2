//! What the signatures of new claims prove, or may prove one day.

use std::collections::BTreeMap;

use firn_core::{AccountId, Claim, KeyId, Origin};
use firn_service::ports::{DatabaseError, MAX_OPEN_SIGNATURES, Proof};

use crate::counter;
use crate::decode::Fields;
use crate::dialect::Connection;
use crate::error::{WriteError, backend, stored};
use crate::objects::{Digest, Interned};
use crate::public_keys;
use crate::query::{Query, Value, insert_rows};
use crate::shared::may_share;

/// A proof together with what counts of its claim.
#[derive(Debug)]
pub struct Proven {
    object: Digest,
    origin: Origin,
    path: String,
    key: Option<KeyId>,
    key_name: String,
    signature: String,
    pub registered: i64,
    shareable: bool,
}

impl Proven {
    /// `name:base64`.
    pub fn signature(&self) -> &str {
        &self.signature
    }

    /// What tells its claim from the others of the account.
    pub const fn claim(&self) -> (Digest, Origin) {
        (self.object, self.origin)
    }
}

/// Joins proofs and claims; `digests` are those of the claims' objects.
pub fn of_claims(
    claims: &[Claim],
    digests: &[Digest],
    proofs: &[Proof],
) -> Result<Vec<Proven>, DatabaseError> {
    proofs
        .iter()
        .map(|proof| {
            let claim = claims.get(proof.claim).zip(digests.get(proof.claim));
            let (claim, digest) = claim.ok_or_else(|| backend(WriteError::NoClaim(proof.claim)))?;
            Ok(Proven {
                object: *digest,
                origin: claim.origin,
                path: claim.object.path.base_name().to_owned(),
                key: proof.key,
                key_name: proof.key_name.clone(),
                signature: proof.signature.clone(),
                registered: stored(claim.registered)?,
                shareable: claim.shareable && may_share(claim.origin),
            })
        })
        .collect()
}

/// That no key became known after `registry`; and keeps new ones out until the end of the transaction.
pub async fn check_registry<C: Connection>(connection: &mut C, registry: KeyId) -> Result<(), DatabaseError> {
    if let Some(lock) = C::KEEP_KEYS {
        connection.fetch(Query::new(lock)).await.map_err(backend)?;
    }
    let query = Query::new("SELECT coalesce(max(id), 0) FROM public_key");
    let rows = connection.fetch(query).await.map_err(backend)?;
    let newest = match rows.first() {
        Some(row) => Fields::new("public_key", row).int("id")?,
        None => 0,
    };
    if newest > registry.0 {
        return Err(DatabaseError::KeysChanged);
    }
    Ok(())
}

/// How many more signatures of an account may be open, of so many.
async fn room<C: Connection>(
    connection: &mut C,
    account: AccountId,
    wanted: usize,
) -> Result<usize, DatabaseError> {
    if wanted == 0 {
        return Ok(0);
    }
    let query = public_keys::open_of(account, MAX_OPEN_SIGNATURES);
    let rows = connection.fetch(query).await.map_err(backend)?;
    let open = match rows.first() {
        Some(row) => Fields::new("open_signature", row).int("count")?,
        None => 0,
    };
    Ok(usize::try_from(i64::from(MAX_OPEN_SIGNATURES) - open).unwrap_or(0))
}

/// Notes them; `gives` says whether their account shares. The claims have been written before.
pub async fn record<C: Connection>(
    connection: &mut C,
    interned: &Interned,
    account: AccountId,
    proofs: Vec<Proven>,
    gives: bool,
) -> Result<(), DatabaseError> {
    if proofs.is_empty() {
        return Ok(());
    }
    // One row each for what may be told twice, the shared one if there is one; in the order of the first.
    let mut signed: Vec<(Proven, i64, bool)> = Vec::new();
    let mut at: BTreeMap<(KeyId, i64, String), usize> = BTreeMap::new();
    let mut open: Vec<[Value; 5]> = Vec::new();
    for proof in proofs {
        let object = interned.id(&proof.object)?;
        let Some(key) = proof.key else {
            open.push([
                Value::Text(proof.key_name),
                Value::Int(account.0),
                Value::Int(object),
                Value::Text(proof.signature),
                Value::Int(proof.registered),
            ]);
            continue;
        };
        let shares = gives && proof.shareable;
        let place = (key, object, proof.signature.clone());
        match at.get(&place).and_then(|index| signed.get_mut(*index)) {
            Some((_, _, shared)) => *shared |= shares,
            None => {
                at.insert(place, signed.len());
                signed.push((proof, object, shares));
            }
        }
    }

    let count = i64::try_from(signed.len()).unwrap_or(i64::MAX);
    let first = counter::reserve_signed(connection, count).await?;
    open.truncate(room(connection, account, open.len()).await?);
    for query in insert_rows::<C, _>(
        "INSERT INTO open_signature (key_name, account, object, signature, registered)",
        open,
        "ON CONFLICT (object, key_name, signature) DO NOTHING",
    ) {
        connection.fetch(query).await.map_err(backend)?;
    }
    let mut rows: Vec<[Value; 7]> = Vec::with_capacity(signed.len());
    for (seq, (proof, object, shares)) in (first..).zip(signed) {
        let Some(KeyId(key)) = proof.key else { continue };
        rows.push([
            Value::Int(key),
            Value::Text(proof.path),
            Value::Int(object),
            Value::Text(proof.signature),
            Value::Int(i64::from(shares)),
            Value::Int(seq),
            Value::Int(proof.registered),
        ]);
    }
    for query in insert_rows::<C, _>(
        "INSERT INTO signed (key, path, object, signature, shared, seq, registered)",
        rows,
        "ON CONFLICT (key, path, object, signature) DO UPDATE SET shared = 1, seq = excluded.seq, registered = excluded.registered
         WHERE signed.shared = 0 AND excluded.shared = 1",
    ) {
        connection.fetch(query).await.map_err(backend)?;
    }
    Ok(())
}
