//! Remembering a run, whatever came out.

use std::collections::BTreeMap;

use firn_core::{AccountId, BuildId, BuildKey};
use firn_nix::package_name;
use firn_service::ports::{BuildRecord, DatabaseError, FailureRecord, RunRecord};

use crate::claim_batch;
use crate::decode::Fields;
use crate::dialect::Connection;
use crate::error::{WriteError, backend, of_account, stored};
use crate::inputs;
use crate::objects::{self, Digest, Stored};
use crate::query::{Query, Value, insert_rows};
use crate::runs;

/// How often others may withdraw what a recording relies on, between two of its statements.
pub const ATTEMPTS: usize = 8;

/// A run, encoded outside of the transaction.
#[derive(Debug)]
pub struct NewRun {
    /// Its number.
    pub id: BuildId,
    /// What was asked.
    pub key: BuildKey,
    /// Whom it was run for.
    pub account: AccountId,
    /// Whether others may have it.
    pub shares: bool,
    state: &'static str,
    insert: Query,
    objects: BTreeMap<Digest, Stored>,
    outputs: Vec<(String, Digest)>,
}

impl NewRun {
    /// Encodes one that succeeded.
    pub fn built(record: &BuildRecord, account: AccountId, shares: bool) -> Result<Self, DatabaseError> {
        let mut objects = BTreeMap::new();
        let mut outputs = Vec::new();
        let mut bytes = 0_u64;
        for (name, output) in &record.outputs {
            let object = Stored::new(&output.object)?;
            bytes = bytes.saturating_add(output.object.nar_size);
            outputs.push((name.clone(), object.digest));
            objects.insert(object.digest, object);
        }
        let mut new = Self::new(&record.run, (runs::BUILT, ""), bytes, account, shares)?;
        (new.objects, new.outputs) = (objects, outputs);
        Ok(new)
    }

    /// Encodes one that failed.
    pub fn failed(record: &FailureRecord, account: AccountId, shares: bool) -> Result<Self, DatabaseError> {
        let state = runs::state(&record.failure);
        let state = state.ok_or_else(|| backend(WriteError::NotKept(record.failure.to_string())))?;
        Self::new(&record.run, state, 0, account, shares)
    }

    fn new(
        run: &RunRecord,
        (state, words): (&'static str, &str),
        output_bytes: u64,
        account: AccountId,
        shares: bool,
    ) -> Result<Self, DatabaseError> {
        let drv_name = run.drv_path.derivation_name().unwrap_or(run.drv_path.name());
        let insert = Query::new(
            "INSERT INTO build (id, account, shared, state, key, drv_path, drv, package, system, started, stopped, wall_ms, cpu_user_us,
                                cpu_system_us, memory_peak, disk_bytes, output_bytes, failure, inputs)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
             ON CONFLICT (id) DO NOTHING RETURNING started",
        )
        .blob(run.id.0)
        .int(account.0)
        .int(i64::from(shares))
        .text(state)
        .blob(run.key.0)
        .text(run.drv_path.base_name())
        .blob(run.drv.0)
        .text(package_name(drv_name))
        .bind(Value::words(&run.system))
        .int(stored(run.started)?)
        .int(stored(run.stopped)?)
        .int(stored(run.wall_ms)?)
        .int(stored(run.cpu_user_us)?)
        .int(stored(run.cpu_system_us)?)
        .bind(Value::OptInt(run.memory_peak.map(stored).transpose()?))
        .int(stored(run.disk_bytes)?)
        .int(stored(output_bytes)?)
        .bind(Value::words(words))
        .blob(inputs::encode(&run.inputs)?);
        Ok(Self {
            id: run.id,
            key: run.key,
            account,
            shares,
            state,
            insert,
            objects: BTreeMap::new(),
            outputs: Vec::new(),
        })
    }

    /// Records it, unless it is there, and keeps it there until the end of the transaction, during which no other one records a run of
    /// the key.
    pub async fn record<C: Connection>(&mut self, connection: &mut C) -> Result<(), DatabaseError> {
        for _ in 0..ATTEMPTS {
            let insert = self.insert.clone();
            let inserted = connection.fetch(insert).await.map_err(of_account(self.account))?;
            if !inserted.is_empty() {
                self.record_outputs(connection).await?;
                return self.compare(connection).await;
            }
            // Accounts are locked before builds, as the insert does when there is something to insert.
            claim_batch::lock(connection, self.account).await?;
            if self.find(connection).await? {
                return self.lock(connection).await;
            }
        }
        Err(self.mismatch())
    }

    /// Whether the same run is there. It stays there.
    async fn find<C: Connection>(&self, connection: &mut C) -> Result<bool, DatabaseError> {
        let sql = format!("SELECT key, state FROM build WHERE id = $1 {}", C::FOR_UPDATE);
        let rows = connection
            .fetch(Query::new(sql).blob(self.id.0))
            .await
            .map_err(backend)?;
        let Some(row) = rows.first() else {
            return Ok(false);
        };
        let mut fields = Fields::new("build", row);
        let (key, state) = (fields.array("key")?, fields.text("state")?);
        if key != self.key.0 || state != self.state {
            return Err(self.mismatch());
        }
        Ok(true)
    }

    fn mismatch(&self) -> DatabaseError {
        DatabaseError::Inconsistent {
            table: "build",
            what: format!(
                "{} is not a build of {} that was {}",
                self.id, self.key, self.state
            ),
        }
    }

    async fn record_outputs<C: Connection>(&mut self, connection: &mut C) -> Result<(), DatabaseError> {
        let interned = objects::intern(connection, std::mem::take(&mut self.objects)).await?;
        let mut rows = Vec::with_capacity(self.outputs.len());
        for (name, digest) in std::mem::take(&mut self.outputs) {
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
        Ok(())
    }

    async fn lock<C: Connection>(&self, connection: &mut C) -> Result<(), DatabaseError> {
        if let Some(lock) = C::lock_result(&self.key) {
            connection.fetch(lock).await.map_err(backend)?;
        }
        Ok(())
    }

    /// Notes the key when another run of it has other outputs.
    async fn compare<C: Connection>(&self, connection: &mut C) -> Result<(), DatabaseError> {
        self.lock(connection).await?;
        let query = differs(&self.id, &self.key);
        connection.fetch(query).await.map(|_| ()).map_err(backend)
    }
}

/// Notes a key when the outputs of one of its runs are not those of all others.
pub fn differs(id: &BuildId, key: &BuildKey) -> Query {
    Query::new(
        "INSERT INTO differing (key)
         SELECT build.key FROM build JOIN build_output AS theirs ON theirs.build = build.id
         JOIN build_output AS ours ON ours.build = $2 AND ours.name = theirs.name
         WHERE build.key = $1 AND ours.object <> theirs.object
         LIMIT 1 ON CONFLICT (key) DO NOTHING",
    )
    .blob(key.0)
    .blob(id.0)
}
