//! Accounts and keys.

use firn_core::{AccountId, AccountName};
use firn_service::ports::{Account, Accounts, DatabaseError, Gives, SshKey};

use crate::claim_batch;
use crate::counter;
use crate::decode::{self, ACCOUNT, Fields};
use crate::dialect::{Connection, Row};
use crate::driver::{Driver, Repository};
use crate::error::{backend, stored};
use crate::query::{Query, Value};
use crate::removal;
use crate::signing_keys;

impl<D: Driver> Repository<D> {
    async fn read_accounts(&self, query: Query) -> Result<Vec<Account>, DatabaseError> {
        let rows = self.driver.reader().await?.fetch(query).await.map_err(backend)?;
        rows.iter().map(decode::account).collect()
    }
}

fn key(row: &impl Row) -> Result<SshKey, DatabaseError> {
    let mut fields = Fields::new("ssh_key", row);
    let fingerprint = fields.text("fingerprint")?;
    fields.label = fingerprint;
    Ok(SshKey {
        fingerprint: fingerprint.to_owned(),
        algorithm: fields.text("algorithm")?.to_owned(),
        blob: fields.blob("blob")?.to_owned(),
        comment: fields.text("comment")?.to_owned(),
        added: fields.unsigned("added")?,
    })
}

impl<D: Driver> Accounts for Repository<D> {
    async fn create_account(
        &self,
        name: &AccountName,
        signing_key: &str,
        gives: Gives,
        now: u64,
    ) -> Result<Account, DatabaseError> {
        let query = Query::new(format!(
            "INSERT INTO account (name, created, gives_evidence, gives_results) VALUES ($1, $2, $3, $4)
             ON CONFLICT (name) DO NOTHING RETURNING {ACCOUNT}"
        ))
        .text(name.as_str())
        .int(stored(now)?)
        .int(i64::from(gives.evidence))
        .int(i64::from(gives.results));
        let taken = DatabaseError::AccountExists(name.to_string());
        let (secret, now) = (signing_key.to_owned(), stored(now)?);
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(async move {
                    let rows = connection.fetch(query).await.map_err(backend)?;
                    let account = decode::account(rows.first().ok_or(taken)?)?;
                    signing_keys::insert(connection, account.id, secret, now).await?;
                    Ok(account)
                })
            }))
            .await
    }

    async fn account(&self, name: &AccountName) -> Result<Option<Account>, DatabaseError> {
        let query = Query::new(format!("SELECT {ACCOUNT} FROM account WHERE name = $1")).text(name.as_str());
        Ok(self.read_accounts(query).await?.pop())
    }

    async fn accounts(&self) -> Result<Vec<Account>, DatabaseError> {
        let query = Query::new(format!("SELECT {ACCOUNT} FROM account ORDER BY name"));
        self.read_accounts(query).await
    }

    async fn remove_account(&self, name: &AccountName) -> Result<(), DatabaseError> {
        let name = name.clone();
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(async move { removal::remove(connection, &name).await })
            }))
            .await
    }

    async fn add_key(&self, account: AccountId, key: &SshKey) -> Result<(), DatabaseError> {
        // The update changes nothing; it makes the statement say whose the key is.
        let query = Query::new(
            "INSERT INTO ssh_key (account, blob, algorithm, fingerprint, comment, added)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (blob) DO UPDATE SET blob = excluded.blob RETURNING account",
        )
        .int(account.0)
        .blob(key.blob.as_slice())
        .bind(Value::words(&key.algorithm))
        .bind(Value::words(&key.fingerprint))
        .bind(Value::words(&key.comment))
        .int(stored(key.added)?);
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(async move {
                    claim_batch::lock(connection, account).await?;
                    let rows = connection.fetch(query).await.map_err(backend)?;
                    for row in &rows {
                        if Fields::new("ssh_key", row).int("account")? != account.0 {
                            return Err(DatabaseError::KeyTaken);
                        }
                    }
                    Ok(())
                })
            }))
            .await
    }

    async fn keys(&self, account: AccountId) -> Result<Vec<SshKey>, DatabaseError> {
        let query = Query::new(
            "SELECT fingerprint, algorithm, blob, comment, added FROM ssh_key WHERE account = $1 ORDER BY id",
        )
        .int(account.0);
        let rows = self.driver.reader().await?.fetch(query).await.map_err(backend)?;
        rows.iter().map(key).collect()
    }

    async fn remove_key(&self, account: &Account, fingerprint: &str) -> Result<(), DatabaseError> {
        let id = account.id;
        let query = Query::new("DELETE FROM ssh_key WHERE account = $1 AND fingerprint = $2 RETURNING id")
            .int(account.id.0)
            .bind(Value::words(fingerprint));
        let none = DatabaseError::NoKey {
            account: account.name.to_string(),
            fingerprint: fingerprint.to_owned(),
        };
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(async move {
                    claim_batch::lock(connection, id).await?;
                    let rows = connection.fetch(query).await.map_err(backend)?;
                    rows.first().map(|_| ()).ok_or(none)?;
                    counter::next_epoch(connection).await
                })
            }))
            .await
    }

    async fn account_by_key(&self, blob: &[u8]) -> Result<Option<Account>, DatabaseError> {
        let query = Query::new(format!(
            "SELECT {ACCOUNT} FROM ssh_key JOIN account ON account.id = ssh_key.account WHERE ssh_key.blob = $1"
        ))
        .blob(blob);
        Ok(self.read_accounts(query).await?.pop())
    }
}
