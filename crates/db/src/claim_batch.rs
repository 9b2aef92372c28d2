//! Adding claims: a few statements for any number of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use firn_core::{AccountId, Claim, EvidenceKind};
use firn_nix::StorePath;
use firn_service::ports::DatabaseError;

use crate::decode::{Fields, kind_name};
use crate::dialect::Connection;
use crate::error::{backend, no_account, stored};
use crate::objects::{self, Digest, Stored};
use crate::query::{Query, Value, insert_rows};

/// Claims of one account, encoded outside of the transaction.
#[derive(Debug)]
pub struct ClaimBatch {
    objects: BTreeMap<Digest, Stored>,
    /// No object and kind twice, in the order given.
    claims: Vec<New>,
}

#[derive(Debug)]
struct New {
    object: Digest,
    path: String,
    kind: EvidenceKind,
    deriver: Option<String>,
    signatures: BTreeSet<String>,
    registered: i64,
}

impl ClaimBatch {
    /// Encodes claims; of two for the same object and kind the first stays, with the signatures of both.
    pub fn new(claims: &[Claim]) -> Result<Self, DatabaseError> {
        let mut objects = BTreeMap::new();
        let mut at: HashMap<(Digest, EvidenceKind), usize> = HashMap::with_capacity(claims.len());
        let mut new: Vec<New> = Vec::with_capacity(claims.len());
        for claim in claims {
            let object = Stored::new(&claim.object)?;
            let digest = object.digest;
            objects.insert(digest, object);
            let seen = at
                .get(&(digest, claim.kind))
                .and_then(|index| new.get_mut(*index));
            match seen {
                Some(earlier) => earlier.signatures.extend(claim.signatures.iter().cloned()),
                None => {
                    at.insert((digest, claim.kind), new.len());
                    new.push(New {
                        object: digest,
                        path: claim.object.path.base_name().to_owned(),
                        kind: claim.kind,
                        deriver: claim.deriver.as_ref().map(|d| d.base_name().to_owned()),
                        signatures: claim.signatures.clone(),
                        registered: stored(claim.registered)?,
                    });
                }
            }
        }
        Ok(Self { objects, claims: new })
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// Adds them.
    pub async fn record<C: Connection>(
        self,
        connection: &mut C,
        account: AccountId,
    ) -> Result<(), DatabaseError> {
        let count = i64::try_from(self.claims.len()).unwrap_or(i64::MAX);
        let first = reserve(connection, account, count).await?;
        let interned = objects::intern(connection, self.objects).await?;
        let known = self
            .claims
            .iter()
            .filter(|c| !interned.new.contains(&c.object))
            .map(|c| c.path.clone())
            .collect();
        let mut present = present(connection, account, known).await?;

        let mut rows: Vec<[Value; 8]> = Vec::with_capacity(self.claims.len());
        for (seq, mut claim) in (first..).zip(self.claims) {
            let object = interned.id(&claim.object)?;
            if let Some(signatures) = present.remove(&(object, claim.kind)) {
                let before = signatures.len();
                claim.signatures.extend(signatures);
                if claim.signatures.len() == before {
                    continue;
                }
            }
            rows.push([
                Value::Int(account.0),
                Value::Text(claim.path),
                Value::Int(object),
                Value::Text(kind_name(claim.kind).to_owned()),
                Value::Int(seq),
                Value::OptText(claim.deriver),
                Value::Text(encode_signatures(&claim.signatures)?),
                Value::Int(claim.registered),
            ]);
        }
        for query in insert_rows::<C, _>(
            "INSERT INTO claim (account, path, object, kind, seq, deriver, signatures, registered)",
            rows,
            "ON CONFLICT (account, path, object, kind) DO UPDATE SET signatures = excluded.signatures",
        ) {
            connection.fetch(query).await.map_err(backend)?;
        }
        Ok(())
    }
}

/// Adds signatures to all claims of an account for a path; false when there is none.
pub async fn add_signatures<C: Connection>(
    connection: &mut C,
    account: AccountId,
    path: &StorePath,
    signatures: &BTreeSet<String>,
) -> Result<bool, DatabaseError> {
    reserve(connection, account, 0).await?;
    let present = present(connection, account, vec![path.base_name().to_owned()]).await?;
    let any = !present.is_empty();
    for ((object, kind), mut united) in present {
        let before = united.len();
        united.extend(signatures.iter().cloned());
        if united.len() > before {
            let query = Query::new(
                "UPDATE claim SET signatures = $1 WHERE account = $2 AND path = $3 AND object = $4 AND kind = $5",
            )
            .text(encode_signatures(&united)?)
            .int(account.0)
            .text(path.base_name())
            .int(object)
            .text(kind_name(kind));
            connection.fetch(query).await.map_err(backend)?;
        }
    }
    Ok(any)
}

/// Takes the account's next `count` numbers for claims and returns the first. Until the end of the transaction no other one changes the
/// account's claims: the account's row is locked.
async fn reserve<C: Connection>(
    connection: &mut C,
    account: AccountId,
    count: i64,
) -> Result<i64, DatabaseError> {
    let query = Query::new("UPDATE account SET claims = claims + $1 WHERE id = $2 RETURNING claims")
        .int(count)
        .int(account.0);
    let rows = connection.fetch(query).await.map_err(backend)?;
    let row = rows.first().ok_or_else(|| no_account(account))?;
    Ok(Fields::new("account", row).int("claims")? - count + 1)
}

/// The account's claims for some paths: their signatures by object and kind.
async fn present<C: Connection>(
    connection: &mut C,
    account: AccountId,
    paths: Vec<String>,
) -> Result<HashMap<(i64, EvidenceKind), BTreeSet<String>>, DatabaseError> {
    if paths.is_empty() {
        return Ok(HashMap::new());
    }
    let query = signatures_of_paths::<C>(account, paths);
    let rows = connection.fetch(query).await.map_err(backend)?;
    rows.iter()
        .map(|row| {
            let mut fields = Fields::new("claim", row);
            fields.label = fields.text("path")?;
            let object = fields.int("object")?;
            Ok(((object, fields.kind("kind")?), fields.texts("signatures")?))
        })
        .collect()
}

/// Path, object, kind and signatures of the account's claims for some paths.
pub fn signatures_of_paths<C: Connection>(account: AccountId, paths: Vec<String>) -> Query {
    let sql = format!(
        "SELECT path, object, kind, signatures FROM claim WHERE account = $1 AND path {}",
        C::in_texts(2)
    );
    Query::new(sql).int(account.0).bind(Value::Texts(paths))
}

fn encode_signatures(signatures: &BTreeSet<String>) -> Result<String, DatabaseError> {
    serde_json::to_string(signatures).map_err(backend)
}
