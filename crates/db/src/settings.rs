//! What was set, and whose evidence that lets an account see.

use std::collections::BTreeMap;

use firn_core::AccountId;
use firn_service::ports::{AccountChange, Changed, DatabaseError, Stored};

use crate::claim_batch;
use crate::counter;
use crate::decode::Fields;
use crate::dialect::{Connection, Row};
use crate::error::{backend, no_account};
use crate::gives;
use crate::query::{Query, Value};

/// Everything of [`Stored`], in one statement, so that the epoch is that of all the rest. The first column says what a row is.
pub fn stored_query(account: AccountId, ssh_key: Option<&str>) -> Query {
    Query::new(
        "SELECT CAST(0 AS BIGINT), counter.value, account.name, '', CAST(0 AS BIGINT)
         FROM counter JOIN account ON account.id = $1 WHERE counter.name = 'epoch'
         UNION ALL
         SELECT 1, 0, name, value, 0 FROM account_setting WHERE account = $1
         UNION ALL
         SELECT 2, 0, key_setting.name, key_setting.value, 0
         FROM ssh_key JOIN key_setting ON key_setting.ssh_key = ssh_key.id
         WHERE ssh_key.account = $1 AND ssh_key.fingerprint = $2
         UNION ALL
         SELECT 3, trust.other, trust.level, CASE WHEN account.gives_evidence = 1 THEN reader.level END, trust.seq
         FROM trust LEFT JOIN reader ON reader.account = trust.other AND reader.other = trust.account
         LEFT JOIN account ON account.id = trust.other
         WHERE trust.account = $1 AND trust.other <> $1
         UNION ALL
         SELECT 4, 0, '', '', 0 FROM ssh_key WHERE account = $1 AND fingerprint = $2",
    )
    .int(account.0)
    .bind(Value::OptText(ssh_key.map(str::to_owned)))
}

/// Reads the answer. Of an account that does not exist there is not even the epoch, of a key that is not its own nothing says that it is.
pub fn stored(account: AccountId, ssh_key: Option<&str>, rows: &[impl Row]) -> Result<Stored, DatabaseError> {
    if rows.is_empty() {
        return Err(no_account(account));
    }
    let mut stored = Stored::default();
    let mut accounts = BTreeMap::new();
    let (mut whose, mut key_is_there) = (String::new(), false);
    for row in rows {
        let mut fields = Fields::new("account_setting", row);
        let which = fields.int("row")?;
        match which {
            0 => {
                fields.table = "counter";
                stored.epoch = fields.unsigned("value")?;
                fields.table = "account";
                whose = fields.text("name")?.to_owned();
            }
            1 | 2 => {
                fields.int("")?;
                let name = fields.text("name")?.to_owned();
                let value = fields.text("value")?.to_owned();
                let settings = match which {
                    1 => &mut stored.account,
                    _ => &mut stored.key,
                };
                settings.insert(name, value);
            }
            4 => key_is_there = true,
            _ => {
                fields.table = "trust";
                let other = AccountId(fields.int("other")?);
                let trusted = fields.trust("level")?;
                fields.table = "reader";
                let readable = fields.opt_trust("level")?;
                accounts.insert(fields.int("seq")?, (other, trusted, readable));
            }
        }
    }
    if let Some(fingerprint) = ssh_key.filter(|_| !key_is_there) {
        return Err(DatabaseError::NoKey {
            account: whose,
            fingerprint: fingerprint.to_owned(),
        });
    }
    for (other, trusted, readable) in accounts.into_values() {
        stored.trusted.push((other, trusted));
        stored
            .accounts
            .extend(readable.map(|readable| (other, trusted.min(readable))));
    }
    Ok(stored)
}

/// Changes what is set for an account, and what follows from it for others.
pub async fn change_account<C: Connection>(
    connection: &mut C,
    account: AccountId,
    change: AccountChange,
) -> Result<(), DatabaseError> {
    // What is read after this is what holds: nobody else changes the account's settings before the end.
    let gave_evidence = claim_batch::lock(connection, account).await?;
    let query = Query::new("SELECT name, value FROM account_setting WHERE account = $1").int(account.0);
    let mut settings = BTreeMap::new();
    for row in connection.fetch(query).await.map_err(backend)? {
        let mut fields = Fields::new("account_setting", &row);
        settings.insert(fields.text("name")?.to_owned(), fields.text("value")?.to_owned());
    }
    let Changed { name, value, gives } = change.apply(settings)?;
    let set = match value {
        Some(value) => Query::new(
            "INSERT INTO account_setting (account, name, value) VALUES ($1, $2, $3)
             ON CONFLICT (account, name) DO UPDATE SET value = excluded.value",
        )
        .int(account.0)
        .text(name)
        .text(value),
        None => Query::new("DELETE FROM account_setting WHERE account = $1 AND name = $2")
            .int(account.0)
            .text(name),
    };
    connection.fetch(set).await.map_err(backend)?;
    gives::give(connection, account, gave_evidence, gives).await?;
    counter::next_epoch(connection).await
}

/// A setting of one of the account's SSH keys.
pub async fn set_key<C: Connection>(
    connection: &mut C,
    account: AccountId,
    fingerprint: String,
    name: String,
    value: Option<String>,
) -> Result<(), DatabaseError> {
    claim_batch::lock(connection, account).await?;
    // Nobody removes the key before the end of the transaction: to set something is to refer to it.
    let find = Query::new(format!(
        "SELECT id FROM ssh_key WHERE account = $1 AND fingerprint = $2 {}",
        C::FOR_UPDATE
    ))
    .int(account.0)
    .bind(Value::words(&fingerprint));
    let found = connection.fetch(find).await.map_err(backend)?;
    let Some(row) = found.first() else {
        let whose = Query::new("SELECT name FROM account WHERE id = $1").int(account.0);
        let whose = connection.fetch(whose).await.map_err(backend)?;
        let row = whose.first().ok_or_else(|| no_account(account))?;
        return Err(DatabaseError::NoKey {
            account: Fields::new("account", row).text("name")?.to_owned(),
            fingerprint,
        });
    };
    let key = Fields::new("ssh_key", row).int("id")?;
    let set = match value {
        Some(value) => Query::new(
            "INSERT INTO key_setting (ssh_key, name, value) VALUES ($1, $2, $3)
             ON CONFLICT (ssh_key, name) DO UPDATE SET value = excluded.value",
        )
        .int(key)
        .text(name)
        .text(value),
        None => Query::new("DELETE FROM key_setting WHERE ssh_key = $1 AND name = $2")
            .int(key)
            .text(name),
    };
    connection.fetch(set).await.map_err(backend)?;
    counter::next_epoch(connection).await
}
