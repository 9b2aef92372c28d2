//! How requests were answered, one by one.

use firn_core::{AccountId, BuildId, Rung};
use firn_nix::StorePath;
use firn_service::ports::{DatabaseError, RequestRecord};

use crate::decode::Fields;
use crate::dialect::Row;
use crate::error::stored;
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

/// The latest request for a derivation that a run answered.
pub fn latest_of(account: AccountId, drv_path: &StorePath) -> Query {
    Query::new(
        "SELECT drv_path, rung, reason, build, time, wall_ms FROM request
         WHERE account = $1 AND drv_path = $2 AND build IS NOT NULL ORDER BY time DESC, id DESC LIMIT 1",
    )
    .int(account.0)
    .text(drv_path.base_name())
}

/// Which rung answered.
pub fn rung<R: Row>(fields: &mut Fields<'_, R>) -> Result<Option<Rung>, DatabaseError> {
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
        reason: fields.text("reason")?.into(),
        build: fields.opt_array("build")?.map(BuildId),
        time: fields.unsigned("time")?,
        wall_ms: fields.unsigned("wall_ms")?,
    })
}
