//! Evidence: the port.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{AccountId, Claim, Evidence, KeyId, ObjectId, Policy, RealisationClaim, RealisationEvidence};
use firn_nix::realisation::DrvOutput;
use firn_nix::{NarHash, StorePath, base32};
use firn_service::ports::{DatabaseError, Proof, Views};

use crate::claim_batch::{self, ClaimBatch};
use crate::contents;
use crate::counter;
use crate::decode::{self, Fields, OBJECT};
use crate::dialect::Connection;
use crate::driver::{Driver, Repository};
use crate::error::backend;
use crate::evidence::{self, bind_policy, claims_seen};
use crate::query::{Query, Value};
use crate::realisations;
use crate::shared::{self, Objects};
use crate::told;

impl<D: Driver> Repository<D> {
    async fn read_paths(&self, query: Query) -> Result<BTreeSet<StorePath>, DatabaseError> {
        let rows = self.driver.reader().await?.fetch(query).await.map_err(backend)?;
        rows.iter()
            .map(|row| Fields::new("claim", row).path("path"))
            .collect()
    }
}

/// Objects whose references mention a hash part.
pub fn referrers<C: Connection>(policy: &Policy, hash_part: &str) -> Query {
    // A hash part has no characters that are special to LIKE, while a name may have.
    let sql = format!(
        "SELECT {OBJECT} FROM claim JOIN object ON object.id = claim.object
         WHERE {} AND object.refs LIKE $4
         UNION ALL
         SELECT {OBJECT} FROM told JOIN object ON object.id = told.object
         WHERE told.account = $1 AND {} AND object.refs LIKE $4",
        claims_seen::<C>(),
        told::by_trusted::<C>("told", 5)
    );
    let query = bind_policy(Query::new(sql), policy).text(format!("%{hash_part}%"));
    told::bind_told_by(query, policy)
}

/// Derivers of a path.
pub fn derivers<C: Connection>(policy: &Policy, path: &StorePath) -> Query {
    let sql = format!(
        "SELECT path, deriver FROM claim WHERE {} AND claim.path = $4 AND claim.deriver IS NOT NULL
         UNION ALL
         SELECT path, deriver FROM told WHERE told.account = $1 AND told.path = $4 AND told.deriver IS NOT NULL AND {}",
        claims_seen::<C>(),
        told::by_trusted::<C>("told", 5)
    );
    let query = bind_policy(Query::new(sql), policy).text(path.base_name());
    told::bind_told_by(query, policy)
}

impl<D: Driver> Views for Repository<D> {
    fn alone(&self) -> bool {
        self.driver.alone()
    }

    async fn evidence(&self, policy: &Policy, paths: &[StorePath]) -> Result<Vec<Evidence>, DatabaseError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        evidence::fetch(&mut *self.driver.reader().await?, policy, paths).await
    }

    async fn paths_by_hash_part(
        &self,
        policy: &Policy,
        hash_part: &str,
    ) -> Result<BTreeSet<StorePath>, DatabaseError> {
        if base32::decode::<20>(hash_part.as_bytes()).is_none() {
            return Ok(BTreeSet::new());
        }
        self.read_paths(evidence::of_hash_part::<D::Connection>(policy, hash_part))
            .await
    }

    async fn paths(&self, policy: &Policy) -> Result<BTreeSet<StorePath>, DatabaseError> {
        let sql = format!(
            "SELECT claim.path FROM claim WHERE {} UNION ALL SELECT told.path FROM told WHERE told.account = $1 AND {}",
            claims_seen::<D::Connection>(),
            told::by_trusted::<D::Connection>("told", 4)
        );
        let query = bind_policy(Query::new(sql), policy);
        self.read_paths(told::bind_told_by(query, policy)).await
    }

    /// Reads all claims that the policy lets its account see, with their objects.
    async fn referrers(
        &self,
        policy: &Policy,
        path: &StorePath,
    ) -> Result<BTreeSet<StorePath>, DatabaseError> {
        let query = referrers::<D::Connection>(policy, path.hash_part());
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
        policy: &Policy,
        path: &StorePath,
    ) -> Result<BTreeSet<StorePath>, DatabaseError> {
        let query = derivers::<D::Connection>(policy, path);
        let rows = self.driver.reader().await?.fetch(query).await.map_err(backend)?;
        rows.iter()
            .map(|row| {
                let mut fields = Fields::new("claim", row);
                fields.label = fields.text("path")?;
                fields.path("deriver")
            })
            .collect()
    }

    async fn record_claims(
        &self,
        account: AccountId,
        claims: &[Claim],
        proofs: &[Proof],
        registry: KeyId,
    ) -> Result<(), DatabaseError> {
        let batch = ClaimBatch::new(claims, proofs, registry)?;
        if batch.is_empty() {
            return Ok(());
        }
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(batch.record(connection, account))
            }))
            .await
    }

    async fn tell(
        &self,
        policy: &Policy,
        objects: &BTreeMap<StorePath, ObjectId>,
    ) -> Result<BTreeSet<ObjectId>, DatabaseError> {
        if objects.is_empty() {
            return Ok(BTreeSet::new());
        }
        let objects = objects.iter().map(|(path, id)| (path.clone(), *id)).collect();
        let policy = policy.clone();
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(async move { told::tell(connection, &policy, objects).await })
            }))
            .await
    }

    async fn realisations(
        &self,
        policy: &Policy,
        ids: &[DrvOutput],
    ) -> Result<Vec<RealisationEvidence>, DatabaseError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        realisations::fetch(&mut *self.driver.reader().await?, policy, ids).await
    }

    async fn record_realisations(
        &self,
        account: AccountId,
        claims: &[RealisationClaim],
    ) -> Result<(), DatabaseError> {
        if claims.is_empty() {
            return Ok(());
        }
        let claims = claims.to_vec();
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(realisations::record(connection, account, claims))
            }))
            .await
    }

    async fn tell_realisations(
        &self,
        account: AccountId,
        told: &[RealisationEvidence],
    ) -> Result<(), DatabaseError> {
        if told.is_empty() {
            return Ok(());
        }
        let told = told.to_vec();
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(realisations::tell(connection, account, told))
            }))
            .await
    }

    async fn forget(&self, account: AccountId, paths: &[StorePath]) -> Result<u64, DatabaseError> {
        let names: Vec<String> = paths.iter().map(|p| p.base_name().to_owned()).collect();
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(forget(connection, account, names))
            }))
            .await
    }

    async fn contents(&self) -> Result<BTreeSet<NarHash>, DatabaseError> {
        contents::contents(&mut *self.driver.reader().await?).await
    }
}

async fn forget<C: Connection>(
    connection: &mut C,
    account: AccountId,
    paths: Vec<String>,
) -> Result<u64, DatabaseError> {
    claim_batch::lock(connection, account).await?;
    let delete = format!(
        "DELETE FROM claim WHERE account = $1 AND path {} RETURNING object",
        C::in_texts(2)
    );
    let delete = Query::new(delete)
        .int(account.0)
        .bind(Value::Texts(paths.clone()));
    let rows = connection.fetch(delete).await.map_err(backend)?;
    let mut told = 0;
    for table in ["told", "told_realisation"] {
        let sql = format!(
            "DELETE FROM {table} WHERE account = $1 AND path {} RETURNING path",
            C::in_texts(2)
        );
        let delete = Query::new(sql).int(account.0).bind(Value::Texts(paths.clone()));
        told += connection.fetch(delete).await.map_err(backend)?.len();
    }
    let objects: Result<BTreeSet<i64>, DatabaseError> = rows
        .iter()
        .map(|row| Fields::new("claim", row).int("object"))
        .collect();
    shared::refresh(connection, &Objects::These(objects?.into_iter().collect())).await?;
    counter::next_epoch(connection).await?;
    Ok((rows.len() + told) as u64)
}
