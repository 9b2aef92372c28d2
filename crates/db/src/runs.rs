//! Runs that are remembered, and which of them an account may know of.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{AccountId, BuildId, BuildKey, Object, ObjectId};
use firn_service::ports::{
    BuildRecord, DatabaseError, DerivationDigest, FailureRecord, OutputRecord, PastRun, RunFailure, RunRecord,
};

use crate::decode::{self, Fields, OBJECT};
use crate::dialect::{Connection, Row};
use crate::error::backend;
use crate::inputs;
use crate::query::{Query, Value};

/// What `state` says of a run that succeeded.
pub const BUILT: &str = "built";

/// What [`of_rows`] reads of builds, one row for each output.
fn select() -> String {
    format!(
        "SELECT build.id, build.account, build.state, build.failure, build.key, build.drv_path, build.drv, build.system,
                build.started, build.stopped, build.wall_ms, build.cpu_user_us, build.cpu_system_us,
                build.memory_peak, build.disk_bytes, build.inputs,
                build_output.name, build_output.object, {OBJECT}"
    )
}

/// Builds that meet a condition, in the order that follows it.
pub fn that(condition: &str) -> Query {
    Query::new(format!(
        "{} FROM build {OUTPUTS} WHERE {condition} ORDER BY build.started DESC, build.id DESC",
        select()
    ))
}

const OUTPUTS: &str = "LEFT JOIN build_output ON build_output.build = build.id
         LEFT JOIN object ON object.id = build_output.object";

/// Condition that an account (`$1`) may know of a run, when `$2` says whether it takes: its own, and those shared by an account that
/// gives results, or that was removed.
fn known(build: &str) -> String {
    format!(
        "({build}.account = $1 OR ($2 = 1 AND {build}.shared = 1 AND ({build}.account IS NULL OR EXISTS (
           SELECT 1 FROM account AS giver WHERE giver.id = {build}.account AND giver.gives_results = 1))))"
    )
}

fn bind(query: Query, account: AccountId, takes: bool) -> Query {
    query.int(account.0).int(i64::from(takes))
}

/// The latest known runs of a derivation.
pub fn of_derivation(drv: &DerivationDigest, account: AccountId, takes: bool, limit: u32) -> Query {
    let query = that(&format!(
        "build.id IN (SELECT one.id FROM build AS one WHERE one.drv = $3 AND {}
                      ORDER BY one.started DESC, one.id DESC LIMIT $4)",
        known("one")
    ));
    bind(query, account, takes).blob(drv.0).int(i64::from(limit))
}

/// Known runs that one of these objects came out of.
pub fn producers<C: Connection>(objects: &BTreeSet<ObjectId>, account: AccountId, takes: bool) -> Query {
    let query = that(&format!(
        "build.id IN (SELECT made.build FROM build_output AS made WHERE made.object {}) AND {}",
        C::in_ints(3),
        known("build")
    ));
    bind(query, account, takes).bind(Value::Ints(objects.iter().map(|id| id.0).collect()))
}

/// A run that answered a request of the account.
pub fn of_request(build: BuildId, account: AccountId) -> Query {
    that(
        "build.id = $1
         AND EXISTS (SELECT 1 FROM request WHERE request.build = build.id AND request.account = $2)",
    )
    .blob(build.0)
    .int(account.0)
}

/// Known runs of keys that the account asked for and whose known runs have different outputs.
pub fn irreproducible(account: AccountId, takes: bool, limit: u32) -> Query {
    let sql = format!(
        "WITH one AS (
           SELECT build.id, build.key, build.started FROM differing CROSS JOIN build
           WHERE build.key = differing.key AND {known} AND EXISTS (
             SELECT 1 FROM build AS asked WHERE asked.key = differing.key AND (asked.account = $1 OR EXISTS (
               SELECT 1 FROM request WHERE request.build = asked.id AND request.account = $1)))
         ), latest AS (
           SELECT key, max(started) AS started FROM one
           WHERE key IN (SELECT one.key FROM one JOIN build_output ON build_output.build = one.id
                         GROUP BY one.key, build_output.name HAVING count(DISTINCT build_output.object) > 1)
           GROUP BY key ORDER BY 2 DESC, 1 LIMIT $3
         )
         {select} FROM latest JOIN build ON build.key = latest.key {OUTPUTS} WHERE {known}
         ORDER BY latest.started DESC, latest.key, build.started DESC, build.id DESC",
        select = select(),
        known = known("build"),
    );
    bind(Query::new(sql), account, takes).int(i64::from(limit))
}

/// A run with all that is stored of it.
pub struct Told {
    /// What it was.
    pub run: RunRecord,
    account: Option<AccountId>,
    failure: Option<RunFailure>,
    outputs: BTreeMap<String, (ObjectId, Object)>,
}

impl Told {
    /// As an account that may know of it sees it.
    pub fn past(self, account: AccountId) -> PastRun {
        PastRun {
            own: self.account == Some(account),
            run: self.run,
            outputs: self.outputs,
        }
    }

    /// As a result.
    pub fn built(self) -> Result<BuildRecord, DatabaseError> {
        if self.failure.is_some() {
            return Err(inconsistent("result", &self.run, "failed"));
        }
        let outputs = self.outputs.into_iter();
        Ok(BuildRecord {
            run: self.run,
            outputs: outputs
                .map(|(name, (_, object))| (name, OutputRecord { object }))
                .collect(),
        })
    }

    /// As a failure.
    pub fn failed(self) -> Result<FailureRecord, DatabaseError> {
        match self.failure {
            Some(failure) => Ok(FailureRecord {
                run: self.run,
                failure,
            }),
            None => Err(inconsistent("failure", &self.run, "did not fail")),
        }
    }

    /// That it is of the key that it was found by.
    pub fn of_key(self, table: &'static str, key: &BuildKey) -> Result<Self, DatabaseError> {
        if self.run.key == *key {
            return Ok(self);
        }
        Err(DatabaseError::Inconsistent {
            table,
            what: format!("{key} has the build {} of {}", self.run.id, self.run.key),
        })
    }
}

fn inconsistent(table: &'static str, run: &RunRecord, what: &str) -> DatabaseError {
    DatabaseError::Inconsistent {
        table,
        what: format!("{} has the build {}, which {what}", run.key, run.id),
    }
}

/// Runs a query of this module.
pub async fn fetch<C: Connection>(connection: &mut C, query: Query) -> Result<Vec<Told>, DatabaseError> {
    of_rows(&connection.fetch(query).await.map_err(backend)?)
}

/// Runs in the order of their rows; those of one run stand together.
fn of_rows(rows: &[impl Row]) -> Result<Vec<Told>, DatabaseError> {
    let mut all: Vec<Told> = Vec::new();
    for row in rows {
        let mut fields = Fields::new("build", row);
        let id = BuildId(fields.array("id")?);
        if all.last().is_none_or(|told| told.run.id != id) {
            all.push(run(id, &mut fields)?);
        } else {
            fields.skip(15);
        }
        fields.table = "build_output";
        let name = fields.opt_text("name")?;
        let number = fields.opt_int("object")?;
        let object = decode::object(&mut fields)?;
        if let (Some(told), Some(name), Some(number), Some(object)) = (all.last_mut(), name, number, object) {
            told.outputs.insert(name.to_owned(), (ObjectId(number), object));
        }
    }
    Ok(all)
}

fn run<R: Row>(id: BuildId, fields: &mut Fields<'_, R>) -> Result<Told, DatabaseError> {
    let account = fields.opt_int("account")?.map(AccountId);
    let state = fields.text("state")?;
    let words = fields.text("failure")?;
    let key = BuildKey(fields.array("key")?);
    let drv_path = fields.text("drv_path")?;
    fields.label = drv_path;
    let run = RunRecord {
        id,
        key,
        drv_path: fields.parse_path("drv_path", drv_path)?,
        drv: DerivationDigest(fields.array("drv")?),
        system: fields.text("system")?.to_owned(),
        started: fields.unsigned("started")?,
        stopped: fields.unsigned("stopped")?,
        wall_ms: fields.unsigned("wall_ms")?,
        cpu_user_us: fields.unsigned("cpu_user_us")?,
        cpu_system_us: fields.unsigned("cpu_system_us")?,
        memory_peak: fields.opt_unsigned("memory_peak")?,
        disk_bytes: fields.unsigned("disk_bytes")?,
        inputs: {
            let bytes = fields.blob("inputs")?;
            inputs::decode(bytes).map_err(|why| fields.bad("inputs", why))?
        },
    };
    let words = || words.to_owned();
    let failure = match state {
        BUILT => None,
        "failed" => Some(RunFailure::Builder(words())),
        "rejected" => Some(RunFailure::OutputRejected(words())),
        "timed-out" => Some(RunFailure::TimedOut(words())),
        other => return Err(fields.bad("state", format_args!("'{}'", other.escape_debug()))),
    };
    Ok(Told {
        run,
        account,
        failure,
        outputs: BTreeMap::new(),
    })
}

/// How a failure is stored: state and words. `None` for those that are not kept.
pub fn state(failure: &RunFailure) -> Option<(&'static str, &str)> {
    match failure {
        RunFailure::Builder(words) => Some(("failed", words)),
        RunFailure::OutputRejected(words) => Some(("rejected", words)),
        RunFailure::TimedOut(words) => Some(("timed-out", words)),
        RunFailure::InputRejected(_)
        | RunFailure::LogLimit(_)
        | RunFailure::Exhausted(_)
        | RunFailure::Cancelled
        | RunFailure::Infrastructure(_) => None,
    }
}
