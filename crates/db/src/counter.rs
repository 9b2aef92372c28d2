//! Numbers of which there is one: the epoch, and the order in which signatures became visible.

use firn_service::ports::DatabaseError;

use crate::decode::Fields;
use crate::dialect::{Connection, Row};
use crate::error::backend;
use crate::query::Query;

/// The epoch. One row, and the whole question.
pub fn epoch() -> Query {
    Query::new("SELECT value FROM counter WHERE name = 'epoch'")
}

/// The number in such an answer.
pub fn value(rows: &[impl Row]) -> Result<i64, DatabaseError> {
    number("counter", rows)
}

/// The number that is all of an answer about a table.
pub fn number(table: &'static str, rows: &[impl Row]) -> Result<i64, DatabaseError> {
    let row = rows.first().ok_or_else(|| DatabaseError::Inconsistent {
        table,
        what: "a row is missing".to_owned(),
    })?;
    Fields::new(table, row).int("value")
}

/// Begins a new epoch. The last statement of a transaction: until its end no other one begins one.
pub async fn next_epoch<C: Connection>(connection: &mut C) -> Result<(), DatabaseError> {
    let query = Query::new("UPDATE counter SET value = value + 1 WHERE name = 'epoch'");
    connection.fetch(query).await.map(|_| ()).map_err(backend)
}

/// Takes the next `count` places in the order of signatures and returns the first. Until the end of the transaction no other one
/// changes signatures, and what others have committed before is seen.
pub async fn reserve_signed<C: Connection>(connection: &mut C, count: i64) -> Result<i64, DatabaseError> {
    let query = Query::new("UPDATE counter SET value = value + $1 WHERE name = 'signed' RETURNING value");
    let rows = connection.fetch(query.int(count)).await.map_err(backend)?;
    Ok(value(&rows)? - count + 1)
}
