//! Adding claims: a few statements for any number of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use firn_core::{AccountId, Claim, KeyId, Origin};
use firn_service::ports::{DatabaseError, MAX_SIGNATURES, Proof};

use crate::decode::Fields;
use crate::dialect::Connection;
use crate::error::{backend, no_account, stored};
use crate::objects::{self, Digest, Stored};
use crate::proofs::{self, Proven};
use crate::query::{Query, Value, insert_rows};
use crate::shared::{self, Objects};

/// Claims of one account with what their signatures prove, encoded outside of the transaction.
#[derive(Debug)]
pub struct ClaimBatch {
    objects: BTreeMap<Digest, Stored>,
    /// No object and origin twice, in the order given.
    claims: Vec<New>,
    proofs: Vec<Proven>,
    registry: KeyId,
    dropped: Dropped,
}

/// Signatures that their claims have no room for: they are nobody's, and prove nothing.
type Dropped = HashSet<(Digest, Origin, String)>;

#[derive(Debug)]
struct New {
    object: Digest,
    path: String,
    origin: Origin,
    deriver: Option<String>,
    signatures: BTreeSet<String>,
    registered: i64,
    cache: Option<String>,
    shareable: bool,
}

impl New {
    /// Adds signatures as long as there is room: those that it has stay.
    fn sign(&mut self, brought: impl IntoIterator<Item = String>, dropped: &mut Dropped) {
        for signature in brought {
            if self.signatures.len() < MAX_SIGNATURES || self.signatures.contains(&signature) {
                self.signatures.insert(signature);
            } else {
                dropped.insert((self.object, self.origin, signature));
            }
        }
    }
}

impl ClaimBatch {
    /// Encodes claims; of two for the same object and origin the first stays, with the signatures of both.
    pub fn new(claims: &[Claim], proofs: &[Proof], registry: KeyId) -> Result<Self, DatabaseError> {
        let mut objects = BTreeMap::new();
        let mut at: HashMap<(Digest, Origin), usize> = HashMap::with_capacity(claims.len());
        let mut new: Vec<New> = Vec::with_capacity(claims.len());
        let mut digests = Vec::with_capacity(claims.len());
        let mut dropped = Dropped::new();
        for claim in claims {
            let object = Stored::new(&claim.object)?;
            let digest = object.digest;
            objects.insert(digest, object);
            digests.push(digest);
            let seen = at
                .get(&(digest, claim.origin))
                .and_then(|index| new.get_mut(*index));
            match seen {
                Some(earlier) => {
                    earlier.sign(claim.signatures.iter().cloned(), &mut dropped);
                    earlier.shareable |= claim.shareable;
                }
                None => {
                    at.insert((digest, claim.origin), new.len());
                    let mut one = New {
                        object: digest,
                        path: claim.object.path.base_name().to_owned(),
                        origin: claim.origin,
                        deriver: claim.deriver.as_ref().map(|d| d.base_name().to_owned()),
                        signatures: BTreeSet::new(),
                        registered: stored(claim.registered)?,
                        cache: claim.cache.clone(),
                        shareable: claim.shareable,
                    };
                    one.sign(claim.signatures.iter().cloned(), &mut dropped);
                    new.push(one);
                }
            }
        }
        Ok(Self {
            objects,
            claims: new,
            proofs: proofs::of_claims(claims, &digests, proofs)?,
            registry,
            dropped,
        })
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// Adds them.
    pub async fn record<C: Connection>(
        mut self,
        connection: &mut C,
        account: AccountId,
    ) -> Result<(), DatabaseError> {
        let count = i64::try_from(self.claims.len()).unwrap_or(i64::MAX);
        let (first, gives) = reserve(connection, account, count).await?;
        if !self.proofs.is_empty() {
            proofs::check_registry(connection, self.registry).await?;
        }
        let interned = objects::intern(connection, self.objects).await?;
        let known = self
            .claims
            .iter()
            .filter(|c| !interned.new.contains(&c.object))
            .map(|c| c.path.clone())
            .collect();
        let mut present = present(connection, account, known).await?;

        let mut rows: Vec<[Value; 10]> = Vec::with_capacity(self.claims.len());
        let mut opened = Vec::new();
        let mut early = HashMap::new();
        for (seq, mut claim) in (first..).zip(self.claims) {
            let object = interned.id(&claim.object)?;
            if let Some(earlier) = present.remove(&(object, claim.origin)) {
                claim.registered = earlier.registered;
                early.insert((claim.object, claim.origin), earlier.registered);
                let before = earlier.signatures.len();
                let brought = std::mem::replace(&mut claim.signatures, earlier.signatures);
                claim.sign(brought, &mut self.dropped);
                if claim.shareable && !earlier.shareable && gives && shared::may_share(claim.origin) {
                    opened.push(object);
                }
                if claim.signatures.len() == before && (earlier.shareable || !claim.shareable) {
                    continue;
                }
                claim.shareable |= earlier.shareable;
            }
            rows.push([
                Value::Int(account.0),
                Value::Text(claim.path),
                Value::Int(object),
                Value::Text(claim.origin.name().to_owned()),
                Value::Int(seq),
                Value::OptText(claim.deriver),
                Value::Text(encode_signatures(&claim.signatures)?),
                Value::Int(claim.registered),
                Value::OptText(claim.cache),
                Value::Int(i64::from(claim.shareable)),
            ]);
        }
        for query in insert_rows::<C, _>(
            "INSERT INTO claim (account, path, object, origin, seq, deriver, signatures, registered, cache, shareable)",
            rows,
            "ON CONFLICT (account, path, object, origin)
             DO UPDATE SET signatures = excluded.signatures, shareable = excluded.shareable",
        ) {
            connection.fetch(query).await.map_err(backend)?;
        }
        // A signature that comes later to a claim is as old as the claim.
        for proof in &mut self.proofs {
            if let Some(registered) = early.get(&proof.claim()) {
                proof.registered = *registered;
            }
        }
        self.proofs.retain(|proof| {
            let (object, origin) = proof.claim();
            let signature = || proof.signature().to_owned();
            self.dropped.is_empty() || !self.dropped.contains(&(object, origin, signature()))
        });
        proofs::record(connection, &interned, account, self.proofs, gives).await?;
        // What a claim had from a place that wants a login is now known from one that wants none.
        shared::refresh(connection, &Objects::These(opened)).await
    }
}

/// Takes the account's next `count` numbers for claims; the first of them, and whether the account gives evidence. Until the end of the
/// transaction no other one changes the account's claims or decisions: the account's row is locked.
async fn reserve<C: Connection>(
    connection: &mut C,
    account: AccountId,
    count: i64,
) -> Result<(i64, bool), DatabaseError> {
    let query =
        Query::new("UPDATE account SET claims = claims + $1 WHERE id = $2 RETURNING claims, gives_evidence")
            .int(count)
            .int(account.0);
    let rows = connection.fetch(query).await.map_err(backend)?;
    let row = rows.first().ok_or_else(|| no_account(account))?;
    let mut fields = Fields::new("account", row);
    Ok((fields.int("claims")? - count + 1, fields.bool("gives_evidence")?))
}

/// Locks the account's row; whether it gives evidence.
pub async fn lock<C: Connection>(connection: &mut C, account: AccountId) -> Result<bool, DatabaseError> {
    Ok(reserve(connection, account, 0).await?.1)
}

struct Present {
    signatures: BTreeSet<String>,
    registered: i64,
    shareable: bool,
}

/// The account's claims for some paths, by object and origin.
async fn present<C: Connection>(
    connection: &mut C,
    account: AccountId,
    paths: Vec<String>,
) -> Result<HashMap<(i64, Origin), Present>, DatabaseError> {
    if paths.is_empty() {
        return Ok(HashMap::new());
    }
    let query = present_of_paths::<C>(account, paths);
    let rows = connection.fetch(query).await.map_err(backend)?;
    rows.iter()
        .map(|row| {
            let mut fields = Fields::new("claim", row);
            fields.label = fields.text("path")?;
            let key = (fields.int("object")?, fields.origin("origin")?);
            let present = Present {
                signatures: fields.texts("signatures")?,
                registered: fields.int("registered")?,
                shareable: fields.bool("shareable")?,
            };
            Ok((key, present))
        })
        .collect()
}

/// What is compared of the account's claims for some paths.
pub fn present_of_paths<C: Connection>(account: AccountId, paths: Vec<String>) -> Query {
    let sql = format!(
        "SELECT path, object, origin, signatures, registered, shareable FROM claim WHERE account = $1 AND path {}",
        C::in_texts(2)
    );
    Query::new(sql).int(account.0).bind(Value::Texts(paths))
}

fn encode_signatures(signatures: &BTreeSet<String>) -> Result<String, DatabaseError> {
    serde_json::to_string(signatures).map_err(backend)
}
