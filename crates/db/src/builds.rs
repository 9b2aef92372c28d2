//! Build results and requests.

use std::collections::BTreeMap;

use firn_core::{AccountId, BuildId, BuildKey, Rung};
use firn_service::ports::{BuildRecord, Builds, DatabaseError, OutputRecord, RequestRecord};

use crate::decode::{self, Fields, OBJECT};
use crate::dialect::{Connection, Row};
use crate::driver::{Driver, Repository};
use crate::error::{backend, of_account, stored};
use crate::objects::{self, Digest, Stored};
use crate::query::{Query, Value, insert_rows};

/// How often a result may be withdrawn by others between two statements of one recording.
const ATTEMPTS: usize = 8;

/// The shared result of a key, in one statement, so that no other transaction comes between build and outputs.
async fn shared<C: Connection>(
    connection: &mut C,
    key: &BuildKey,
) -> Result<Option<BuildRecord>, DatabaseError> {
    let sql = format!(
        "SELECT build.id, build.key, build.drv_path, build.started, build.stopped, build.wall_ms, build.cpu_user_us,
                build.cpu_system_us, build_output.name, {OBJECT}
         FROM result JOIN build ON build.id = result.build
         LEFT JOIN build_output ON build_output.build = build.id LEFT JOIN object ON object.id = build_output.object
         WHERE result.key = $1"
    );
    let rows = connection
        .fetch(Query::new(sql).blob(key.0))
        .await
        .map_err(backend)?;
    let mut shared: Option<BuildRecord> = None;
    for row in &rows {
        let (record, output) = build_and_output(row)?;
        if record.key != *key {
            return Err(DatabaseError::Inconsistent {
                table: "result",
                what: format!("{key} has the build {} of {}", record.id, record.key),
            });
        }
        shared.get_or_insert(record).outputs.extend(output);
    }
    Ok(shared)
}

type Output = (String, OutputRecord);

fn build_and_output(row: &impl Row) -> Result<(BuildRecord, Option<Output>), DatabaseError> {
    let mut fields = Fields::new("build", row);
    let id = BuildId(fields.array("id")?);
    let key = BuildKey(fields.array("key")?);
    let drv_path = fields.text("drv_path")?;
    fields.label = drv_path;
    let record = BuildRecord {
        id,
        key,
        drv_path: fields.parse_path("drv_path", drv_path)?,
        outputs: BTreeMap::new(),
        started: fields.unsigned("started")?,
        stopped: fields.unsigned("stopped")?,
        wall_ms: fields.unsigned("wall_ms")?,
        cpu_user_us: fields.unsigned("cpu_user_us")?,
        cpu_system_us: fields.unsigned("cpu_system_us")?,
    };
    let name = fields.opt_text("name")?;
    let object = decode::object(&mut fields)?;
    let output = name
        .zip(object)
        .map(|(name, object)| (name.to_owned(), OutputRecord { object }));
    Ok((record, output))
}

/// A build, encoded outside of the transaction.
struct NewBuild {
    id: BuildId,
    key: BuildKey,
    insert: Query,
    objects: BTreeMap<Digest, Stored>,
    outputs: Vec<(String, Digest)>,
}

impl NewBuild {
    fn new(record: &BuildRecord) -> Result<Self, DatabaseError> {
        let insert = Query::new(
            "INSERT INTO build (id, key, drv_path, started, stopped, wall_ms, cpu_user_us, cpu_system_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING RETURNING started",
        )
        .blob(record.id.0)
        .blob(record.key.0)
        .text(record.drv_path.base_name())
        .int(stored(record.started)?)
        .int(stored(record.stopped)?)
        .int(stored(record.wall_ms)?)
        .int(stored(record.cpu_user_us)?)
        .int(stored(record.cpu_system_us)?);
        let mut objects = BTreeMap::new();
        let mut outputs = Vec::new();
        for (name, output) in &record.outputs {
            let object = Stored::new(&output.object)?;
            outputs.push((name.clone(), object.digest));
            objects.insert(object.digest, object);
        }
        Ok(Self {
            id: record.id,
            key: record.key,
            insert,
            objects,
            outputs,
        })
    }

    async fn record<C: Connection>(self, connection: &mut C) -> Result<BuildRecord, DatabaseError> {
        let inserted = connection.fetch(self.insert).await.map_err(backend)?;
        if !inserted.is_empty() {
            let interned = objects::intern(connection, self.objects).await?;
            let mut rows = Vec::with_capacity(self.outputs.len());
            for (name, digest) in self.outputs {
                let object = interned.id(&digest)?;
                rows.push([
                    Value::Blob(self.id.0.to_vec()),
                    Value::Text(name),
                    Value::Int(object),
                ]);
            }
            for query in insert_rows::<C, _>("INSERT INTO build_output (build, name, object)", rows, "") {
                connection.fetch(query).await.map_err(backend)?;
            }
        }
        for _ in 0..ATTEMPTS {
            let share = Query::new(
                "INSERT INTO result (key, build) SELECT key, id FROM build WHERE id = $1 AND key = $2
                 ON CONFLICT DO NOTHING",
            )
            .blob(self.id.0)
            .blob(self.key.0);
            connection.fetch(share).await.map_err(backend)?;
            if let Some(record) = shared(connection, &self.key).await? {
                return Ok(record);
            }
        }
        Err(DatabaseError::Inconsistent {
            table: "build",
            what: format!("{} is not a build of {}", self.id, self.key),
        })
    }
}

fn request(account: AccountId, row: &impl Row) -> Result<RequestRecord, DatabaseError> {
    let mut fields = Fields::new("request", row);
    let drv_path = fields.text("drv_path")?;
    fields.label = drv_path;
    let rung = fields.opt_text("rung")?;
    Ok(RequestRecord {
        account,
        drv_path: fields.parse_path("drv_path", drv_path)?,
        rung: rung
            .map(|name| Rung::parse(name).ok_or_else(|| fields.bad("rung", name.escape_debug())))
            .transpose()?,
        reason: fields.text("reason")?.to_owned(),
        build: fields.opt_array("build")?.map(BuildId),
        time: fields.unsigned("time")?,
        wall_ms: fields.unsigned("wall_ms")?,
    })
}

impl<D: Driver> Builds for Repository<D> {
    async fn result(&self, key: &BuildKey) -> Result<Option<BuildRecord>, DatabaseError> {
        shared(&mut *self.driver.reader().await?, key).await
    }

    async fn record_build(&self, record: &BuildRecord) -> Result<BuildRecord, DatabaseError> {
        let build = NewBuild::new(record)?;
        self.driver
            .write(Box::new(move |connection| Box::pin(build.record(connection))))
            .await
    }

    async fn forget_result(&self, key: &BuildKey) -> Result<(), DatabaseError> {
        let query =
            Query::new("DELETE FROM build WHERE id = (SELECT build FROM result WHERE key = $1)").blob(key.0);
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(async move { connection.fetch(query).await.map(|_| ()).map_err(backend) })
            }))
            .await
    }

    async fn record_request(&self, request: &RequestRecord) -> Result<(), DatabaseError> {
        let account = request.account;
        let query = Query::new(
            "INSERT INTO request (account, drv_path, rung, reason, build, time, wall_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .int(account.0)
        .text(request.drv_path.base_name())
        .bind(Value::OptText(request.rung.map(|rung| rung.name().to_owned())))
        .bind(Value::words(&request.reason))
        .bind(Value::OptBlob(request.build.map(|build| build.0.to_vec())))
        .int(stored(request.time)?)
        .int(stored(request.wall_ms)?);
        self.driver
            .write_soon(Box::new(move |connection| {
                Box::pin(async move {
                    connection
                        .fetch(query)
                        .await
                        .map(|_| ())
                        .map_err(of_account(account))
                })
            }))
            .await
    }

    async fn requests(&self, account: AccountId, limit: u32) -> Result<Vec<RequestRecord>, DatabaseError> {
        self.driver.settle().await?;
        let query = Query::new(
            "SELECT drv_path, rung, reason, build, time, wall_ms FROM request
             WHERE account = $1 ORDER BY time DESC, id DESC LIMIT $2",
        )
        .int(account.0)
        .int(i64::from(limit));
        let rows = self.driver.reader().await?.fetch(query).await.map_err(backend)?;
        rows.iter().map(|row| request(account, row)).collect()
    }
}
