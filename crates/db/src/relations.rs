//! How accounts stand to each other.

use firn_core::{AccountId, AccountName, Trust};
use firn_service::ports::{DatabaseError, MAX_TRUSTED, Relation};

use crate::claim_batch;
use crate::counter;
use crate::decode::Fields;
use crate::dialect::{Connection, Row};
use crate::error::{backend, no_account, of_account};
use crate::query::Query;

/// What one account decides about another.
#[derive(Clone, Copy, Debug)]
pub enum Decision {
    /// How far it trusts the other.
    Trust,
    /// What it lets the other read.
    LetRead,
}

/// Sets, changes or takes back a decision.
pub async fn decide<C: Connection>(
    connection: &mut C,
    decision: Decision,
    account: AccountId,
    other: AccountId,
    level: Option<Trust>,
) -> Result<(), DatabaseError> {
    claim_batch::lock(connection, account).await?;
    if let (Decision::Trust, Some(_)) = (decision, level) {
        let others = Query::new("SELECT count(*) FROM trust WHERE account = $1 AND other <> $2");
        let others = others.int(account.0).int(other.0);
        let others = counter::number("trust", &connection.fetch(others).await.map_err(backend)?)?;
        if usize::try_from(others).unwrap_or(usize::MAX) >= MAX_TRUSTED {
            return Err(DatabaseError::TooMany {
                most: MAX_TRUSTED,
                what: "accounts that it trusts",
            });
        }
    }
    let query = match (decision, level) {
        (Decision::Trust, Some(_)) => {
            exists(connection, other).await?;
            Query::new(
                "INSERT INTO trust (account, other, level) VALUES ($1, $2, $3)
                 ON CONFLICT (account, other) DO UPDATE SET level = excluded.level",
            )
        }
        (Decision::LetRead, Some(_)) => Query::new(
            "INSERT INTO reader (account, other, level) VALUES ($1, $2, $3)
             ON CONFLICT (account, other) DO UPDATE SET level = excluded.level",
        ),
        (Decision::Trust, None) => Query::new("DELETE FROM trust WHERE account = $1 AND other = $2"),
        (Decision::LetRead, None) => Query::new("DELETE FROM reader WHERE account = $1 AND other = $2"),
    };
    let mut query = query.int(account.0).int(other.0);
    if let Some(level) = level {
        query = query.text(level.name());
    }
    connection.fetch(query).await.map_err(of_account(other))?;
    counter::next_epoch(connection).await
}

/// Whom somebody trusts is there when he begins to.
async fn exists<C: Connection>(connection: &mut C, account: AccountId) -> Result<(), DatabaseError> {
    let query = Query::new("SELECT id FROM account WHERE id = $1").int(account.0);
    match connection.fetch(query).await.map_err(backend)?.is_empty() {
        true => Err(no_account(account)),
        false => Ok(()),
    }
}

/// Those whom the account trusts or lets read, and those who trust it.
pub fn of_account_query(account: AccountId) -> Query {
    Query::new(
        "SELECT account.name, trusts.level, trusted_by.level, lets_read.level, may_read.level
         FROM account
         LEFT JOIN trust AS trusts ON trusts.account = $1 AND trusts.other = account.id
         LEFT JOIN trust AS trusted_by ON trusted_by.account = account.id AND trusted_by.other = $1
         LEFT JOIN reader AS lets_read ON lets_read.account = $1 AND lets_read.other = account.id
         LEFT JOIN reader AS may_read
           ON may_read.account = account.id AND may_read.other = $1 AND trusts.level IS NOT NULL
         WHERE account.id IN (SELECT other FROM trust WHERE account = $1 UNION SELECT other FROM reader WHERE account = $1
                              UNION SELECT account FROM trust WHERE other = $1)
         ORDER BY account.name",
    )
    .int(account.0)
}

/// One of them.
pub fn decode(row: &impl Row) -> Result<Relation, DatabaseError> {
    let mut fields = Fields::new("account", row);
    let name = fields.text("name")?;
    fields.label = name;
    let name = AccountName::parse(name).map_err(|e| fields.bad("name", e))?;
    fields.table = "trust";
    let trusts = fields.opt_trust("level")?;
    let trusted_by = fields.opt_trust("level")?;
    fields.table = "reader";
    Ok(Relation {
        name,
        trusts,
        trusted_by,
        lets_read: fields.opt_trust("level")?,
        may_read: fields.opt_trust("level")?,
    })
}
