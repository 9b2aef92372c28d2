//! What accounts give to others: follows from their settings and from the operator's.

use std::collections::BTreeMap;

use firn_core::{AccountId, Effective};
use firn_service::ports::{DatabaseError, Gives};

use crate::claim_batch;
use crate::counter;
use crate::decode::Fields;
use crate::dialect::{Connection, Row};
use crate::error::backend;
use crate::query::{Query, Value};
use crate::shared::{self, Objects};

/// What an account gives from now on. The account's row is locked.
pub async fn give<C: Connection>(
    connection: &mut C,
    account: AccountId,
    gave_evidence: bool,
    gives: Gives,
) -> Result<(), DatabaseError> {
    let give = Query::new("UPDATE account SET gives_evidence = $1, gives_results = $2 WHERE id = $3")
        .int(i64::from(gives.evidence))
        .int(i64::from(gives.results))
        .int(account.0);
    connection.fetch(give).await.map_err(backend)?;
    if gives.evidence != gave_evidence {
        shared::refresh(connection, &Objects::Of(account)).await?;
    }
    Ok(())
}

/// Makes all accounts give what follows from their settings and these defaults; how many did not.
pub async fn settle<C: Connection>(connection: &mut C, defaults: Effective) -> Result<u64, DatabaseError> {
    let differing = differing(connection, &defaults).await?;
    // All rows are locked before anything else is, as all who change something do it.
    for account in differing.keys() {
        claim_batch::lock(connection, *account).await?;
    }
    let differing = match differing.is_empty() {
        true => return Ok(0),
        // What others changed before their rows were locked.
        false => self::differing(connection, &defaults).await?,
    };
    for (account, (gave, gives)) in &differing {
        give(connection, *account, gave.evidence, *gives).await?;
    }
    counter::next_epoch(connection).await?;
    Ok(u64::try_from(differing.len()).unwrap_or(u64::MAX))
}

/// Accounts that give something else than what follows: what they give, and what follows.
async fn differing<C: Connection>(
    connection: &mut C,
    defaults: &Effective,
) -> Result<BTreeMap<AccountId, (Gives, Gives)>, DatabaseError> {
    let accounts = Query::new("SELECT id, gives_evidence, gives_results FROM account ORDER BY id");
    let accounts = connection.fetch(accounts).await.map_err(backend)?;
    let names = Gives::SETTINGS.map(str::to_owned).to_vec();
    let sql = format!(
        "SELECT account, name, value FROM account_setting WHERE name {}",
        C::in_texts(1)
    );
    let rows = connection.fetch(Query::new(sql).bind(Value::Texts(names))).await;
    let mut settings: BTreeMap<AccountId, BTreeMap<String, String>> = BTreeMap::new();
    for row in rows.map_err(backend)? {
        let mut fields = Fields::new("account_setting", &row);
        let account = AccountId(fields.int("account")?);
        let (name, value) = (fields.text("name")?.to_owned(), fields.text("value")?.to_owned());
        settings.entry(account).or_default().insert(name, value);
    }
    let nothing = BTreeMap::new();
    let mut differing = BTreeMap::new();
    for row in &accounts {
        let (account, gives) = decode(row)?;
        let follows = Gives::of_account(defaults, settings.get(&account).unwrap_or(&nothing));
        if follows != gives {
            differing.insert(account, (gives, follows));
        }
    }
    Ok(differing)
}

/// An account's number and what it gives.
pub fn decode(row: &impl Row) -> Result<(AccountId, Gives), DatabaseError> {
    let mut fields = Fields::new("account", row);
    let account = AccountId(fields.int("id")?);
    let gives = Gives {
        evidence: fields.bool("gives_evidence")?,
        results: fields.bool("gives_results")?,
    };
    Ok((account, gives))
}
