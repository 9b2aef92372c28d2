//! Evidence.

use std::collections::BTreeSet;

use firn_core::{AccountId, Claim};
use firn_nix::{NarHash, StorePath, base32};
use firn_service::ports::{DatabaseError, Views};

use crate::claim_batch::{self, ClaimBatch};
use crate::contents;
use crate::decode::{self, Fields, OBJECT};
use crate::dialect::{Connection, Row};
use crate::driver::{Driver, Repository};
use crate::error::backend;
use crate::query::{Query, Value};

/// Claims with their objects; a condition on `claim` is to follow.
fn select_claims() -> String {
    format!(
        "SELECT claim.seq, claim.path, claim.kind, claim.deriver, claim.signatures, claim.registered, {OBJECT}
         FROM claim JOIN object ON object.id = claim.object WHERE claim.account = $1 AND "
    )
}

/// The account's claims for some paths.
pub fn claims_of_paths<C: Connection>(account: AccountId, paths: Vec<String>) -> Query {
    Query::new(format!("{}claim.path {}", select_claims(), C::in_texts(2)))
        .int(account.0)
        .bind(Value::Texts(paths))
}

/// The account's claims for paths that begin with a hash part.
pub fn claims_of_hash_part(account: AccountId, hash_part: &str) -> Query {
    // '.' is the character after '-'.
    Query::new(format!("{}claim.path >= $2 AND claim.path < $3", select_claims()))
        .int(account.0)
        .text(format!("{hash_part}-"))
        .text(format!("{hash_part}."))
}

/// Runs such a query; oldest first.
async fn fetch_claims<C: Connection>(connection: &mut C, query: Query) -> Result<Vec<Claim>, DatabaseError> {
    let rows = connection.fetch(query).await.map_err(backend)?;
    let mut claims: Vec<(i64, Claim)> = rows.iter().map(claim).collect::<Result<_, _>>()?;
    claims.sort_unstable_by_key(|(seq, _)| *seq);
    Ok(claims.into_iter().map(|(_, claim)| claim).collect())
}

fn claim(row: &impl Row) -> Result<(i64, Claim), DatabaseError> {
    let mut fields = Fields::new("claim", row);
    let seq = fields.int("seq")?;
    let path = fields.text("path")?;
    fields.label = path;
    let kind = fields.kind("kind")?;
    let deriver = fields.opt_path("deriver")?;
    let signatures = fields.texts("signatures")?;
    let registered = fields.unsigned("registered")?;
    let object = decode::object(&mut fields)?.ok_or_else(|| fields.bad("path", "is null"))?;
    if object.path.base_name() != path {
        return Err(fields.bad("path", format_args!("a claim says {path}")));
    }
    let claim = Claim {
        object,
        kind,
        deriver,
        signatures,
        registered,
    };
    Ok((seq, claim))
}

impl<D: Driver> Views for Repository<D> {
    async fn claims(&self, account: AccountId, paths: &[StorePath]) -> Result<Vec<Claim>, DatabaseError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let names = paths.iter().map(|p| p.base_name().to_owned()).collect();
        let query = claims_of_paths::<D::Connection>(account, names);
        fetch_claims(&mut *self.driver.reader().await?, query).await
    }

    async fn claims_by_hash_part(
        &self,
        account: AccountId,
        hash_part: &str,
    ) -> Result<Vec<Claim>, DatabaseError> {
        if base32::decode::<20>(hash_part.as_bytes()).is_none() {
            return Ok(Vec::new());
        }
        let query = claims_of_hash_part(account, hash_part);
        fetch_claims(&mut *self.driver.reader().await?, query).await
    }

    async fn paths(&self, account: AccountId) -> Result<BTreeSet<StorePath>, DatabaseError> {
        let query = Query::new("SELECT DISTINCT path FROM claim WHERE account = $1").int(account.0);
        let rows = self.driver.reader().await?.fetch(query).await.map_err(backend)?;
        rows.iter()
            .map(|row| Fields::new("claim", row).path("path"))
            .collect()
    }

    /// Reads all claims of the account, with their objects.
    async fn referrers(
        &self,
        account: AccountId,
        path: &StorePath,
    ) -> Result<BTreeSet<StorePath>, DatabaseError> {
        // A hash part has no characters that are special to LIKE, while a name may have.
        let sql = format!(
            "SELECT DISTINCT {OBJECT} FROM claim JOIN object ON object.id = claim.object
             WHERE claim.account = $1 AND object.refs LIKE $2"
        );
        let query = Query::new(sql)
            .int(account.0)
            .text(format!("%{}%", path.hash_part()));
        let rows = self.driver.reader().await?.fetch(query).await.map_err(backend)?;
        let mut referrers = BTreeSet::new();
        for row in &rows {
            match decode::object(&mut Fields::new("object", row))? {
                Some(object) if object.references.contains(path) => referrers.insert(object.path),
                _ => false,
            };
        }
        Ok(referrers)
    }

    async fn derivers(
        &self,
        account: AccountId,
        path: &StorePath,
    ) -> Result<BTreeSet<StorePath>, DatabaseError> {
        let query = Query::new(
            "SELECT DISTINCT path, deriver FROM claim WHERE account = $1 AND path = $2 AND deriver IS NOT NULL",
        )
        .int(account.0)
        .text(path.base_name());
        let rows = self.driver.reader().await?.fetch(query).await.map_err(backend)?;
        rows.iter()
            .map(|row| {
                let mut fields = Fields::new("claim", row);
                fields.label = fields.text("path")?;
                fields.path("deriver")
            })
            .collect()
    }

    async fn record_claims(&self, account: AccountId, claims: &[Claim]) -> Result<(), DatabaseError> {
        let batch = ClaimBatch::new(claims)?;
        if batch.is_empty() {
            return Ok(());
        }
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(batch.record(connection, account))
            }))
            .await
    }

    async fn add_signatures(
        &self,
        account: AccountId,
        path: &StorePath,
        signatures: &BTreeSet<String>,
    ) -> Result<bool, DatabaseError> {
        let (path, signatures) = (path.clone(), signatures.clone());
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(
                    async move { claim_batch::add_signatures(connection, account, &path, &signatures).await },
                )
            }))
            .await
    }

    async fn contents(&self) -> Result<BTreeSet<NarHash>, DatabaseError> {
        contents::contents(&mut *self.driver.reader().await?).await
    }
}
