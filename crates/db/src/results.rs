//! Which build answers for a key, and recording one.

use firn_core::{AccountId, BuildKey};
use firn_service::ports::{BuildRecord, DatabaseError};

use crate::dialect::Connection;
use crate::error::of_account;
use crate::query::Query;
use crate::recording::{ATTEMPTS, NewRun};
use crate::{marks, runs};

/// The result of a key for an account with its outputs: its own, else, when it `takes`, the first that is shared by an account that
/// gives results, or that was removed.
pub fn result_query(key: &BuildKey, account: AccountId, takes: bool) -> Query {
    runs::that(
        "build.id = coalesce(
           (SELECT own.build FROM result AS own WHERE own.key = $1 AND own.account = $2),
           (SELECT other.build FROM result AS other LEFT JOIN account ON account.id = other.account
            WHERE $3 = 1 AND other.key = $1 AND other.shared = 1 AND (other.account IS NULL OR account.gives_results = 1)
            ORDER BY other.seq LIMIT 1))",
    )
    .blob(key.0)
    .int(account.0)
    .int(i64::from(takes))
}

/// Asks that in one statement, so that no other transaction comes between build and outputs.
pub async fn result<C: Connection>(
    connection: &mut C,
    key: &BuildKey,
    account: AccountId,
    takes: bool,
) -> Result<Option<BuildRecord>, DatabaseError> {
    let told = runs::fetch(connection, result_query(key, account, takes))
        .await?
        .pop();
    told.map(|told| told.of_key("result", key)?.built()).transpose()
}

/// Records a successful run; returns the result of the key of an account that `takes` others' or does not.
pub async fn record<C: Connection>(
    connection: &mut C,
    mut new: NewRun,
    takes: bool,
) -> Result<BuildRecord, DatabaseError> {
    new.record(connection).await?;
    let account = new.account;
    for _ in 0..ATTEMPTS {
        if let Some(record) = result(connection, &new.key, account, takes).await? {
            return Ok(record);
        }
        let share = Query::new(
            "INSERT INTO result (key, build, account, shared) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .blob(new.key.0)
        .blob(new.id.0)
        .int(account.0)
        .int(i64::from(new.shares));
        connection.fetch(share).await.map_err(of_account(account))?;
        if new.shares {
            marks::forgive(connection, &new.key).await?;
        }
    }
    Err(DatabaseError::Inconsistent {
        table: "result",
        what: format!("{} has one that cannot be read", new.key),
    })
}
