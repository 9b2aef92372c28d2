//! Which failure answers for a key, and recording one.

use firn_core::{AccountId, BuildKey};
use firn_service::ports::{DatabaseError, FailureRecord};

use crate::dialect::Connection;
use crate::error::{backend, of_account};
use crate::query::Query;
use crate::recording::NewRun;
use crate::runs;

/// The failure of a key for an account: its own, else, when it `takes`, the latest that is shared by an account that gives results, or
/// that was removed.
pub fn failure_query(key: &BuildKey, account: AccountId, takes: bool) -> Query {
    runs::that(
        "build.id = coalesce(
           (SELECT own.build FROM failure AS own WHERE own.key = $1 AND own.account = $2),
           (SELECT other.build FROM failure AS other LEFT JOIN account ON account.id = other.account
            WHERE $3 = 1 AND other.key = $1 AND other.shared = 1 AND (other.account IS NULL OR account.gives_results = 1)
            ORDER BY other.seq DESC LIMIT 1))",
    )
    .blob(key.0)
    .int(account.0)
    .int(i64::from(takes))
}

/// Asks that.
pub async fn failure<C: Connection>(
    connection: &mut C,
    key: &BuildKey,
    account: AccountId,
    takes: bool,
) -> Result<Option<FailureRecord>, DatabaseError> {
    let told = runs::fetch(connection, failure_query(key, account, takes))
        .await?
        .pop();
    told.map(|told| told.of_key("failure", key)?.failed()).transpose()
}

/// Records a failed run in the place of the account's earlier one.
pub async fn record<C: Connection>(connection: &mut C, mut new: NewRun) -> Result<(), DatabaseError> {
    new.record(connection).await?;
    let earlier = Query::new("DELETE FROM failure WHERE key = $1 AND account = $2")
        .blob(new.key.0)
        .int(new.account.0);
    connection.fetch(earlier).await.map_err(backend)?;
    let failure = Query::new("INSERT INTO failure (key, build, account, shared) VALUES ($1, $2, $3, $4)")
        .blob(new.key.0)
        .blob(new.id.0)
        .int(new.account.0)
        .int(i64::from(new.shares));
    connection
        .fetch(failure)
        .await
        .map(|_| ())
        .map_err(of_account(new.account))
}
