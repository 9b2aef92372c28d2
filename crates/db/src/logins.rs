//! Logins of accounts at the hosts of binary caches.

use std::collections::BTreeMap;

use firn_core::AccountId;
use firn_service::ports::{DatabaseError, Login, MAX_LOGINS};

use crate::claim_batch;
use crate::counter;
use crate::decode::Fields;
use crate::dialect::{Connection, Row};
use crate::error::backend;
use crate::query::Query;

/// An account's logins.
pub fn of_account_query(account: AccountId) -> Query {
    Query::new("SELECT host, username, password FROM login WHERE account = $1").int(account.0)
}

/// Reads the answer.
pub fn decode(rows: &[impl Row]) -> Result<BTreeMap<String, Login>, DatabaseError> {
    rows.iter()
        .map(|row| {
            let mut fields = Fields::new("login", row);
            let host = fields.text("host")?.to_owned();
            let login = Login {
                user: fields.text("username")?.to_owned(),
                password: fields.text("password")?.to_owned(),
            };
            Ok((host, login))
        })
        .collect()
}

/// Keeps or removes a login; whether there was one.
pub async fn set<C: Connection>(
    connection: &mut C,
    account: AccountId,
    host: String,
    login: Option<Login>,
) -> Result<bool, DatabaseError> {
    claim_batch::lock(connection, account).await?;
    let delete = Query::new("DELETE FROM login WHERE account = $1 AND host = $2 RETURNING host")
        .int(account.0)
        .text(host.clone());
    let before = connection.fetch(delete).await.map_err(backend)?;
    if let Some(login) = login {
        let others = Query::new("SELECT count(*) FROM login WHERE account = $1").int(account.0);
        let others = counter::number("login", &connection.fetch(others).await.map_err(backend)?)?;
        if usize::try_from(others).unwrap_or(usize::MAX) >= MAX_LOGINS {
            return Err(DatabaseError::TooMany {
                most: MAX_LOGINS,
                what: "logins",
            });
        }
        let insert =
            Query::new("INSERT INTO login (account, host, username, password) VALUES ($1, $2, $3, $4)")
                .int(account.0)
                .text(host)
                .text(login.user)
                .text(login.password);
        connection.fetch(insert).await.map_err(backend)?;
    }
    counter::next_epoch(connection).await?;
    Ok(!before.is_empty())
}
