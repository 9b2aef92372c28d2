//! Keys that sign for an account.

use firn_core::AccountId;
use firn_service::ports::{DatabaseError, MAX_SIGNING_KEYS, NewSigningKey, SigningKey};

use crate::claim_batch;
use crate::counter;
use crate::decode::Fields;
use crate::dialect::{Connection, Row};
use crate::error::{backend, of_account, stored};
use crate::query::Query;

/// An account's keys, the active one first, then the newest.
pub fn of_account_query(account: AccountId) -> Query {
    Query::new(
        "SELECT secret, created, active FROM signing_key WHERE account = $1 ORDER BY active DESC, created DESC, id DESC",
    )
    .int(account.0)
}

/// One of them.
pub fn decode(row: &impl Row) -> Result<SigningKey, DatabaseError> {
    let mut fields = Fields::new("signing_key", row);
    Ok(SigningKey {
        secret: fields.text("secret")?.to_owned(),
        created: fields.unsigned("created")?,
        active: fields.bool("active")?,
    })
}

/// Adds a key and makes it the active one.
pub async fn add<C: Connection>(
    connection: &mut C,
    account: AccountId,
    key: NewSigningKey,
    now: u64,
) -> Result<SigningKey, DatabaseError> {
    claim_batch::lock(connection, account).await?;
    let count = Query::new("SELECT count(*) FROM signing_key WHERE account = $1").int(account.0);
    let before = counter::number("signing_key", &connection.fetch(count).await.map_err(backend)?)?;
    let before = usize::try_from(before).unwrap_or(usize::MAX);
    if before >= MAX_SIGNING_KEYS {
        return Err(DatabaseError::TooMany {
            most: MAX_SIGNING_KEYS,
            what: "signing keys",
        });
    }
    let secret = key.secret(before).map_err(backend)?;
    insert(connection, account, secret.clone(), stored(now)?).await?;
    Ok(SigningKey {
        secret,
        created: now,
        active: true,
    })
}

/// Adds a key and makes it the active one. The account's row is locked, or new.
pub async fn insert<C: Connection>(
    connection: &mut C,
    account: AccountId,
    secret: String,
    now: i64,
) -> Result<(), DatabaseError> {
    let retire = Query::new("UPDATE signing_key SET active = 0 WHERE account = $1 AND active = 1");
    let insert =
        Query::new("INSERT INTO signing_key (account, secret, created, active) VALUES ($1, $2, $3, 1)");
    for query in [retire.int(account.0), insert.int(account.0).text(secret).int(now)] {
        connection.fetch(query).await.map_err(of_account(account))?;
    }
    Ok(())
}
