//! Decisions of accounts: the port.

use std::collections::BTreeMap;

use firn_core::{AccountId, Effective, KeyId, ObjectId, Trust};
use firn_nix::signature::PublicKey;
use firn_service::ports::{
    AccountChange, DatabaseError, KeyFor, Login, NewSigningKey, OpenSignature, Policies, Relation,
    SigningKey, Stored,
};

use crate::dialect::Connection;
use crate::driver::{Driver, Repository};
use crate::error::backend;
use crate::query::Query;
use crate::relations::Decision;
use crate::{counter, gives, logins, public_keys, relations, settings, shared, signing_keys};

type RowOf<D> = <<D as Driver>::Connection as Connection>::Row;

impl<D: Driver> Repository<D> {
    async fn read(&self, query: Query) -> Result<Vec<RowOf<D>>, DatabaseError> {
        self.driver.reader().await?.fetch(query).await.map_err(backend)
    }

    async fn decide(
        &self,
        decision: Decision,
        account: AccountId,
        other: AccountId,
        level: Option<Trust>,
    ) -> Result<(), DatabaseError> {
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(relations::decide(connection, decision, account, other, level))
            }))
            .await
    }
}

impl<D: Driver> Policies for Repository<D> {
    async fn epoch(&self) -> Result<u64, DatabaseError> {
        let epoch = counter::value(&self.read(counter::epoch()).await?)?;
        u64::try_from(epoch).map_err(|_| DatabaseError::Inconsistent {
            table: "counter",
            what: format!("the epoch {epoch} is negative"),
        })
    }

    async fn stored(&self, account: AccountId, ssh_key: Option<&str>) -> Result<Stored, DatabaseError> {
        let rows = self.read(settings::stored_query(account, ssh_key)).await?;
        settings::stored(account, ssh_key, &rows)
    }

    async fn change_account(&self, account: AccountId, change: &AccountChange) -> Result<(), DatabaseError> {
        let change = change.clone();
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(settings::change_account(connection, account, change))
            }))
            .await
    }

    async fn settle_gives(&self, defaults: &Effective) -> Result<u64, DatabaseError> {
        let defaults = defaults.clone();
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(gives::settle(connection, defaults))
            }))
            .await
    }

    async fn set_key(
        &self,
        account: AccountId,
        fingerprint: &str,
        name: &str,
        value: Option<&str>,
    ) -> Result<(), DatabaseError> {
        let (fingerprint, name, value) = (fingerprint.to_owned(), name.to_owned(), value.map(str::to_owned));
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(settings::set_key(connection, account, fingerprint, name, value))
            }))
            .await
    }

    async fn trust(
        &self,
        account: AccountId,
        other: AccountId,
        level: Option<Trust>,
    ) -> Result<(), DatabaseError> {
        self.decide(Decision::Trust, account, other, level).await
    }

    async fn let_read(
        &self,
        account: AccountId,
        other: AccountId,
        level: Option<Trust>,
    ) -> Result<(), DatabaseError> {
        self.decide(Decision::LetRead, account, other, level).await
    }

    async fn relations(&self, account: AccountId) -> Result<Vec<Relation>, DatabaseError> {
        let rows = self.read(relations::of_account_query(account)).await?;
        rows.iter().map(relations::decode).collect()
    }

    async fn keys_named(&self, names: &[String]) -> Result<(Vec<(KeyId, PublicKey)>, KeyId), DatabaseError> {
        let query = public_keys::named::<D::Connection>(names.to_vec());
        public_keys::decode_named(&self.read(query).await?)
    }

    async fn register_key(&self, by: KeyFor, key: &PublicKey) -> Result<(KeyId, bool), DatabaseError> {
        // Nearly always it is known, and then nobody has to wait.
        if let Some(known) = public_keys::decode_found(&self.read(public_keys::find(key)).await?)? {
            return Ok(known);
        }
        let key = key.clone();
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(async move { public_keys::register(connection, by, &key).await })
            }))
            .await
    }

    async fn open_signers(&self, key_name: &str) -> Result<Vec<AccountId>, DatabaseError> {
        let rows = self.read(public_keys::open_signers(key_name)).await?;
        rows.iter().map(public_keys::decode_signer).collect()
    }

    async fn open_signatures(
        &self,
        key_name: &str,
        account: AccountId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<OpenSignature>, DatabaseError> {
        let query = public_keys::open_signatures(key_name, account, after, limit);
        let rows = self.read(query).await?;
        rows.iter().map(public_keys::decode_open).collect()
    }

    async fn prove(&self, key: KeyId, proven: &[(i64, ObjectId)]) -> Result<(), DatabaseError> {
        let proven: Vec<(i64, i64)> = proven.iter().map(|(id, object)| (*id, object.0)).collect();
        if proven.is_empty() {
            return Ok(());
        }
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(async move { shared::prove(connection, key.0, &proven).await })
            }))
            .await
    }

    async fn settle_key(&self, key: KeyId) -> Result<(), DatabaseError> {
        let query = Query::new("UPDATE public_key SET settled = 1 WHERE id = $1").int(key.0);
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(async move { connection.fetch(query).await.map(|_| ()).map_err(backend) })
            }))
            .await
    }

    async fn logins(&self, account: AccountId) -> Result<BTreeMap<String, Login>, DatabaseError> {
        logins::decode(&self.read(logins::of_account_query(account)).await?)
    }

    async fn set_login(
        &self,
        account: AccountId,
        host: &str,
        login: Option<&Login>,
    ) -> Result<bool, DatabaseError> {
        let (host, login) = (host.to_owned(), login.cloned());
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(logins::set(connection, account, host, login))
            }))
            .await
    }

    async fn signing_keys(&self, account: AccountId) -> Result<Vec<SigningKey>, DatabaseError> {
        let rows = self.read(signing_keys::of_account_query(account)).await?;
        rows.iter().map(signing_keys::decode).collect()
    }

    async fn add_signing_key(
        &self,
        account: AccountId,
        key: &NewSigningKey,
        now: u64,
    ) -> Result<SigningKey, DatabaseError> {
        let key = key.clone();
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(signing_keys::add(connection, account, key, now))
            }))
            .await
    }
}
