//! Which results are grounded: the port.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{AccountId, BuildId, Ground, ObjectId};
use firn_nix::StorePath;
use firn_service::ports::{DatabaseError, GroundedOutput, Grounds};

use crate::decode::{self, Fields, OBJECT};
use crate::dialect::Connection;
use crate::driver::{Driver, Repository};
use crate::error::backend;
use crate::query::{Query, Value};

impl<D: Driver> Grounds for Repository<D> {
    async fn ground(&self, build: BuildId, ground: &Ground) -> Result<(), DatabaseError> {
        let query = Query::new(
            "INSERT INTO grounded (ground, path, build, object)
             SELECT $1, object.path, build_output.build, object.id FROM build_output
             JOIN object ON object.id = build_output.object WHERE build_output.build = $2
             ON CONFLICT DO NOTHING",
        )
        .blob(ground.0)
        .blob(build.0);
        self.driver
            .write_soon(Box::new(move |connection| {
                Box::pin(async move { connection.fetch(query).await.map(|_| ()).map_err(backend) })
            }))
            .await
    }

    async fn grounded(
        &self,
        objects: &BTreeSet<ObjectId>,
        ground: &Ground,
    ) -> Result<BTreeSet<ObjectId>, DatabaseError> {
        if objects.is_empty() {
            return Ok(BTreeSet::new());
        }
        self.driver.settle().await?;
        let query = among::<D::Connection>(objects, ground);
        let rows = self.driver.reader().await?.fetch(query).await.map_err(backend)?;
        let ids = rows
            .iter()
            .map(|row| Fields::new("grounded", row).int("object").map(ObjectId));
        ids.collect()
    }

    async fn grounded_outputs(
        &self,
        paths: &[StorePath],
        ground: &Ground,
        account: AccountId,
        takes: bool,
    ) -> Result<BTreeMap<StorePath, GroundedOutput>, DatabaseError> {
        let mut found = BTreeMap::new();
        if paths.is_empty() {
            return Ok(found);
        }
        self.driver.settle().await?;
        let query = outputs::<D::Connection>(paths, ground, account, takes);
        let rows = self.driver.reader().await?.fetch(query).await.map_err(backend)?;
        for row in &rows {
            let mut fields = Fields::new("grounded", row);
            let build = BuildId(fields.array("build")?);
            let id = ObjectId(fields.int("object")?);
            let object = decode::object(&mut fields)?.ok_or_else(|| fields.bad("object", "is missing"))?;
            let path = object.path.clone();
            // The best comes first.
            found.entry(path).or_insert(GroundedOutput { build, id, object });
        }
        Ok(found)
    }
}

fn among<C: Connection>(objects: &BTreeSet<ObjectId>, ground: &Ground) -> Query {
    Query::new(format!(
        "SELECT DISTINCT grounded.object FROM grounded WHERE grounded.ground = $1 AND grounded.object {}",
        C::in_ints(2)
    ))
    .blob(ground.0)
    .bind(Value::Ints(objects.iter().map(|id| id.0).collect()))
}

fn outputs<C: Connection>(paths: &[StorePath], ground: &Ground, account: AccountId, takes: bool) -> Query {
    Query::new(format!(
        "SELECT grounded.build, grounded.object, {OBJECT}
         FROM grounded JOIN object ON object.id = grounded.object
         JOIN result ON result.build = grounded.build
         LEFT JOIN account AS giver ON giver.id = result.account
         WHERE grounded.ground = $1 AND grounded.path {}
           AND (result.account = $2 OR ($3 = 1 AND result.shared = 1
                AND (result.account IS NULL OR giver.gives_results = 1)))
         ORDER BY CASE WHEN result.account = $2 THEN 0 ELSE 1 END, result.seq",
        C::in_texts(4)
    ))
    .blob(ground.0)
    .int(account.0)
    .int(i64::from(takes))
    .bind(Value::Texts(
        paths.iter().map(|p| p.base_name().to_owned()).collect(),
    ))
}
