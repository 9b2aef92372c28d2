//! How requests were answered, one by one and in sum.

use firn_core::{AccountId, BuildId, Rung};
use firn_service::ports::{DatabaseError, RequestRecord, Usage};

use crate::decode::Fields;
use crate::dialect::{Connection, Row};
use crate::error::{backend, stored};
use crate::query::{Query, Value};

/// Notes a request.
pub fn insert(request: &RequestRecord) -> Result<Query, DatabaseError> {
    Ok(Query::new(
        "INSERT INTO request (account, drv_path, rung, reason, build, time, wall_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .int(request.account.0)
    .text(request.drv_path.base_name())
    .bind(Value::OptText(request.rung.map(|rung| rung.name().to_owned())))
    .bind(Value::words(&request.reason))
    .bind(Value::OptBlob(request.build.map(|build| build.0.to_vec())))
    .int(stored(request.time)?)
    .int(stored(request.wall_ms)?))
}

/// The latest requests, newest first.
pub fn latest(account: AccountId, limit: u32) -> Query {
    Query::new(
        "SELECT drv_path, rung, reason, build, time, wall_ms FROM request
         WHERE account = $1 ORDER BY time DESC, id DESC LIMIT $2",
    )
    .int(account.0)
    .int(i64::from(limit))
}

fn rung<R: Row>(fields: &mut Fields<'_, R>) -> Result<Option<Rung>, DatabaseError> {
    fields
        .opt_text("rung")?
        .map(|name| Rung::parse(name).ok_or_else(|| fields.bad("rung", name.escape_debug())))
        .transpose()
}

/// One of them.
pub fn decode(account: AccountId, row: &impl Row) -> Result<RequestRecord, DatabaseError> {
    let mut fields = Fields::new("request", row);
    let drv_path = fields.text("drv_path")?;
    fields.label = drv_path;
    Ok(RequestRecord {
        account,
        drv_path: fields.parse_path("drv_path", drv_path)?,
        rung: rung(&mut fields)?,
        reason: fields.text("reason")?.to_owned(),
        build: fields.opt_array("build")?.map(BuildId),
        time: fields.unsigned("time")?,
        wall_ms: fields.unsigned("wall_ms")?,
    })
}

/// Sums over all of an account's requests and claims.
pub async fn usage<C: Connection>(connection: &mut C, account: AccountId) -> Result<Usage, DatabaseError> {
    let requests = Query::new(
        "SELECT request.rung, count(*), CAST(coalesce(sum(build.cpu_user_us + build.cpu_system_us), 0) AS BIGINT)
         FROM request LEFT JOIN build ON build.id = request.build WHERE request.account = $1 GROUP BY request.rung",
    )
    .int(account.0);
    let paths = Query::new("SELECT count(DISTINCT path) FROM claim WHERE account = $1").int(account.0);
    let bytes = Query::new(
        "SELECT CAST(coalesce(sum(size), 0) AS BIGINT) FROM (
           SELECT max(object.nar_size) AS size FROM claim JOIN object ON object.id = claim.object
           WHERE claim.account = $1 GROUP BY object.content) AS contents",
    )
    .int(account.0);

    let mut usage = Usage::default();
    for row in &connection.fetch(requests).await.map_err(backend)? {
        let mut fields = Fields::new("request", row);
        let rung = rung(&mut fields)?;
        usage.requests.insert(rung, fields.unsigned("count")?);
        let cpu_us = fields.unsigned("cpu")?;
        match rung {
            Some(Rung::Built) => usage.cpu_us += cpu_us,
            Some(Rung::Shared | Rung::Joined | Rung::Trusted) => usage.saved_cpu_us += cpu_us,
            Some(Rung::AlreadyValid | Rung::Substituted) | None => {}
        }
    }
    for (table, query, sum) in [
        ("claim", paths, &mut usage.paths),
        ("object", bytes, &mut usage.bytes),
    ] {
        for row in &connection.fetch(query).await.map_err(backend)? {
            *sum = Fields::new(table, row).unsigned("nar_size")?;
        }
    }
    Ok(usage)
}
