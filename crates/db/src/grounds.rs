//! Which results are grounded: the port.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{AccountId, BuildId, Ground, ObjectId};
use firn_nix::StorePath;
use firn_service::ports::{DatabaseError, GroundedOutput, Grounds};

use crate::decode::{self, Fields, OBJECT};
use crate::dialect::Connection;
use crate::driver::{Driver, Repository};
use crate::error::backend;
use crate::inputs;
use crate::query::{Query, Value};

impl<D: Driver> Grounds for Repository<D> {
    async fn ground(
        &self,
        build: BuildId,
        ground: &Ground,
        drv_path: &StorePath,
    ) -> Result<(), DatabaseError> {
        let outputs = Query::new(
            "INSERT INTO grounded (ground, path, build, object)
             SELECT $1, object.path, build_output.build, object.id FROM build_output
             JOIN object ON object.id = build_output.object
             JOIN result ON result.build = build_output.build AND result.shared = 1
             WHERE build_output.build = $2
             ON CONFLICT DO NOTHING",
        )
        .blob(ground.0)
        .blob(build.0);
        let derivation = Query::new(
            "INSERT INTO grounded_from (ground, path, drv_path, build)
             SELECT grounded.ground, grounded.path, $3, grounded.build FROM grounded
             JOIN object ON object.id = grounded.object AND object.ca <> ''
             WHERE grounded.ground = $1 AND grounded.build = $2
             ON CONFLICT DO NOTHING",
        )
        .blob(ground.0)
        .blob(build.0)
        .text(drv_path.base_name());
        self.driver
            .write_soon(Box::new(move |connection| {
                Box::pin(async move {
                    for query in [outputs, derivation] {
                        connection.fetch(query).await.map_err(backend)?;
                    }
                    Ok(())
                })
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

    async fn grounded_from(
        &self,
        made: &BTreeSet<(StorePath, StorePath)>,
        ground: &Ground,
        account: AccountId,
        takes: bool,
    ) -> Result<BTreeSet<(StorePath, StorePath)>, DatabaseError> {
        if made.is_empty() {
            return Ok(BTreeSet::new());
        }
        self.driver.settle().await?;
        let query = from::<D::Connection>(made, ground, account, takes);
        let rows = self.driver.reader().await?.fetch(query).await.map_err(backend)?;
        let mut found = BTreeSet::new();
        for row in &rows {
            let mut fields = Fields::new("grounded_from", row);
            let made = (fields.path("path")?, fields.path("drv_path")?);
            found.insert(made);
        }
        // Paths and derivations were asked about apart.
        found.retain(|one| made.contains(one));
        Ok(found)
    }

    async fn inputs_of(
        &self,
        builds: &BTreeSet<BuildId>,
    ) -> Result<BTreeMap<BuildId, BTreeSet<ObjectId>>, DatabaseError> {
        if builds.is_empty() {
            return Ok(BTreeMap::new());
        }
        let ids = builds.iter().map(|id| id.0.to_vec()).collect();
        let query = Query::new(format!(
            "SELECT build.id, build.inputs FROM build WHERE build.id {}",
            D::Connection::in_blobs(1)
        ));
        let query = query.bind(Value::Blobs(ids));
        let rows = self.driver.reader().await?.fetch(query).await.map_err(backend)?;
        let decoded = rows.iter().map(|row| {
            let mut fields = Fields::new("build", row);
            let id = BuildId(fields.array("id")?);
            let bytes = fields.blob("inputs")?;
            let inputs = inputs::decode(bytes).map_err(|why| fields.bad("inputs", why))?;
            Ok((id, inputs))
        });
        decoded.collect()
    }
}

fn among<C: Connection>(objects: &BTreeSet<ObjectId>, ground: &Ground) -> Query {
    Query::new(format!(
        "SELECT DISTINCT grounded.object FROM grounded
         JOIN result ON result.build = grounded.build AND result.shared = 1
         WHERE grounded.ground = $1 AND grounded.object {} AND NOT EXISTS (
           SELECT 1 FROM grounded AS other JOIN result AS first ON first.build = other.build AND first.shared = 1
           WHERE other.ground = grounded.ground AND other.path = grounded.path AND other.object <> grounded.object
             AND first.seq < result.seq)",
        C::in_ints(2)
    ))
    .blob(ground.0)
    .bind(Value::Ints(objects.iter().map(|id| id.0).collect()))
}

fn outputs<C: Connection>(paths: &[StorePath], ground: &Ground, account: AccountId, takes: bool) -> Query {
    Query::new(format!(
        "SELECT grounded.build, grounded.object, {OBJECT}
         FROM grounded JOIN object ON object.id = grounded.object JOIN result ON result.build = grounded.build
         WHERE grounded.ground = $1 AND grounded.path {} AND (result.account = $2 OR ($3 = 1 AND result.shared = 1))
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

fn from<C: Connection>(
    made: &BTreeSet<(StorePath, StorePath)>,
    ground: &Ground,
    account: AccountId,
    takes: bool,
) -> Query {
    let names = |of: fn(&(StorePath, StorePath)) -> &StorePath| {
        let names = made.iter().map(|made| of(made).base_name().to_owned());
        Value::Texts(names.collect::<BTreeSet<_>>().into_iter().collect())
    };
    Query::new(format!(
        "SELECT DISTINCT grounded_from.path, grounded_from.drv_path FROM grounded_from
         JOIN result ON result.build = grounded_from.build
         WHERE grounded_from.ground = $1 AND grounded_from.path {} AND grounded_from.drv_path {}
           AND (result.account = $2 OR ($3 = 1 AND result.shared = 1))",
        C::in_texts(4),
        C::in_texts(5)
    ))
    .blob(ground.0)
    .int(account.0)
    .int(i64::from(takes))
    .bind(names(|(path, _)| path))
    .bind(names(|(_, drv_path)| drv_path))
}
