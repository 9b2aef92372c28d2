//! Which build answers for a key, and recording one.

use std::collections::BTreeMap;

use firn_core::{AccountId, BuildId, BuildKey};
use firn_service::ports::{BuildRecord, DatabaseError, OutputRecord};

use crate::decode::{self, Fields, OBJECT};
use crate::dialect::{Connection, Row};
use crate::error::{backend, of_account, stored};
use crate::objects::{self, Digest, Stored};
use crate::query::{Query, Value, insert_rows};

/// How often a result may be withdrawn by others between two statements of one recording.
const ATTEMPTS: usize = 8;

/// The result of a key for an account with its outputs: its own, else, when it `takes`, the first that is shared by an account that
/// gives results, or that was removed.
pub fn result_query(key: &BuildKey, account: AccountId, takes: bool) -> Query {
    let sql = format!(
        "SELECT build.id, build.key, build.drv_path, build.started, build.stopped, build.wall_ms, build.cpu_user_us,
                build.cpu_system_us, build_output.name, {OBJECT}
         FROM build LEFT JOIN build_output ON build_output.build = build.id
         LEFT JOIN object ON object.id = build_output.object
         WHERE build.id = coalesce(
           (SELECT own.build FROM result AS own WHERE own.key = $1 AND own.account = $2),
           (SELECT other.build FROM result AS other LEFT JOIN account ON account.id = other.account
            WHERE $3 = 1 AND other.key = $1 AND other.shared = 1 AND (other.account IS NULL OR account.gives_results = 1)
            ORDER BY other.seq LIMIT 1))"
    );
    Query::new(sql).blob(key.0).int(account.0).int(i64::from(takes))
}

/// Asks that in one statement, so that no other transaction comes between build and outputs.
pub async fn result<C: Connection>(
    connection: &mut C,
    key: &BuildKey,
    account: AccountId,
    takes: bool,
) -> Result<Option<BuildRecord>, DatabaseError> {
    let query = result_query(key, account, takes);
    let rows = connection.fetch(query).await.map_err(backend)?;
    let mut result: Option<BuildRecord> = None;
    for row in &rows {
        let (record, output) = build_and_output(row)?;
        if record.key != *key {
            return Err(DatabaseError::Inconsistent {
                table: "result",
                what: format!("{key} has the build {} of {}", record.id, record.key),
            });
        }
        result.get_or_insert(record).outputs.extend(output);
    }
    Ok(result)
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
#[derive(Debug)]
pub struct NewBuild {
    id: BuildId,
    key: BuildKey,
    account: AccountId,
    shares: bool,
    insert: Query,
    objects: BTreeMap<Digest, Stored>,
    outputs: Vec<(String, Digest)>,
}

impl NewBuild {
    /// Encodes it.
    pub fn new(record: &BuildRecord, account: AccountId, shares: bool) -> Result<Self, DatabaseError> {
        let insert = Query::new(
            "INSERT INTO build (id, account, key, drv_path, started, stopped, wall_ms, cpu_user_us, cpu_system_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING RETURNING started",
        )
        .blob(record.id.0)
        .int(account.0)
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
            account,
            shares,
            insert,
            objects,
            outputs,
        })
    }

    /// Records it; returns the account's result of the key.
    pub async fn record<C: Connection>(self, connection: &mut C) -> Result<BuildRecord, DatabaseError> {
        let account = self.account;
        let inserted = connection.fetch(self.insert).await.map_err(of_account(account))?;
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
        if let Some(lock) = C::lock_result(&self.key) {
            connection.fetch(lock).await.map_err(backend)?;
        }
        for _ in 0..ATTEMPTS {
            if let Some(record) = result(connection, &self.key, account, self.shares).await? {
                return Ok(record);
            }
            let share = Query::new(
                "INSERT INTO result (key, build, account, shared) SELECT key, id, $3, $4 FROM build WHERE id = $1 AND key = $2
                 ON CONFLICT DO NOTHING",
            )
            .blob(self.id.0)
            .blob(self.key.0)
            .int(account.0)
            .int(i64::from(self.shares));
            connection.fetch(share).await.map_err(of_account(account))?;
        }
        Err(DatabaseError::Inconsistent {
            table: "build",
            what: format!("{} is not a build of {}", self.id, self.key),
        })
    }
}
