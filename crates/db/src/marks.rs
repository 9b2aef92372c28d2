//! Accounts that took part in a shared run without an outcome, by build key.

use firn_core::{AccountId, BuildKey};
use firn_nix::StorePath;
use firn_service::ports::{DatabaseError, MAX_MARKS, Mark};

use crate::decode::Fields;
use crate::dialect::{Connection, Row};
use crate::error::{backend, of_account, stored};
use crate::query::{Query, Value};

/// Adds one, unless there is one or the account is gone.
pub fn insert(mark: &Mark) -> Result<(AccountId, Query), DatabaseError> {
    let query = Query::new(
        "INSERT INTO mark (account, key, drv_path, why, time)
         SELECT account.id, $2, $3, $4, $5 FROM account WHERE account.id = $1 ON CONFLICT DO NOTHING",
    )
    .int(mark.account.0)
    .blob(mark.key.0)
    .text(mark.drv_path.base_name())
    .bind(Value::words(&mark.why))
    .int(stored(mark.time)?);
    Ok((mark.account, query))
}

/// Adds them.
pub async fn add<C: Connection>(
    connection: &mut C,
    inserts: Vec<(AccountId, Query)>,
) -> Result<(), DatabaseError> {
    for (account, insert) in inserts {
        connection.fetch(insert).await.map_err(of_account(account))?;
    }
    Ok(())
}

/// The mark of a key, or any one of an account that has too many.
pub fn of_key(key: &BuildKey, account: AccountId) -> Query {
    Query::new(
        "SELECT key, drv_path, why, time FROM mark
         WHERE account = $1 AND (key = $2 OR (SELECT count(*) FROM mark AS every WHERE every.account = $1) >= $3)
         ORDER BY CASE WHEN key = $2 THEN 0 ELSE 1 END, time DESC, key LIMIT 1",
    )
    .int(account.0)
    .blob(key.0)
    .int(i64::try_from(MAX_MARKS).unwrap_or(i64::MAX))
}

/// The latest mark of a derivation.
pub fn of_derivation(account: AccountId, drv_path: &StorePath) -> Query {
    Query::new(
        "SELECT key, drv_path, why, time FROM mark WHERE account = $1 AND drv_path = $2
         ORDER BY time DESC, key LIMIT 1",
    )
    .int(account.0)
    .text(drv_path.base_name())
}

/// Takes all of a key away.
pub async fn forgive<C: Connection>(connection: &mut C, key: &BuildKey) -> Result<(), DatabaseError> {
    let query = Query::new("DELETE FROM mark WHERE key = $1").blob(key.0);
    connection.fetch(query).await.map(|_| ()).map_err(backend)
}

/// One of them.
pub fn decode(account: AccountId, row: &impl Row) -> Result<Mark, DatabaseError> {
    let mut fields = Fields::new("mark", row);
    let key = BuildKey(fields.array("key")?);
    let drv_path = fields.text("drv_path")?;
    fields.label = drv_path;
    Ok(Mark {
        account,
        key,
        drv_path: fields.parse_path("drv_path", drv_path)?,
        why: fields.text("why")?.to_owned(),
        time: fields.unsigned("time")?,
    })
}
