//! Build results, runs and requests: the port.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::schedule::Past;
use firn_core::{AccountId, BuildId, BuildKey, Object, ObjectId};
use firn_nix::StorePath;
use firn_service::ports::{
    BuildRecord, Builds, DatabaseError, DerivationDigest, FailureRecord, Mark, PastRun, RequestRecord, Usage,
};

use crate::dialect::Connection as _;
use crate::driver::{Driver, Repository};
use crate::error::{backend, of_account};
use crate::query::Query;
use crate::recording::NewRun;
use crate::{failures, history, marks, objects, requests, results, runs, usage};

impl<D: Driver> Repository<D> {
    async fn past_runs(&self, query: Query, account: AccountId) -> Result<Vec<PastRun>, DatabaseError> {
        let told = runs::fetch(&mut *self.driver.reader().await?, query).await?;
        Ok(told.into_iter().map(|told| told.past(account)).collect())
    }

    async fn read_requests(
        &self,
        query: Query,
        account: AccountId,
    ) -> Result<Vec<RequestRecord>, DatabaseError> {
        self.driver.settle().await?;
        let rows = self.driver.reader().await?.fetch(query).await.map_err(backend)?;
        rows.iter().map(|row| requests::decode(account, row)).collect()
    }
}

impl<D: Driver> Repository<D> {
    async fn read_mark(&self, query: Query, account: AccountId) -> Result<Option<Mark>, DatabaseError> {
        let rows = self.driver.reader().await?.fetch(query).await.map_err(backend)?;
        rows.first().map(|row| marks::decode(account, row)).transpose()
    }
}

impl<D: Driver> Builds for Repository<D> {
    async fn result(
        &self,
        key: &BuildKey,
        account: AccountId,
        takes: bool,
    ) -> Result<Option<BuildRecord>, DatabaseError> {
        results::result(&mut *self.driver.reader().await?, key, account, takes).await
    }

    async fn record_build(
        &self,
        record: &BuildRecord,
        account: AccountId,
        shares: bool,
        takes: bool,
    ) -> Result<BuildRecord, DatabaseError> {
        let new = NewRun::built(record, account, shares)?;
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(results::record(connection, new, takes))
            }))
            .await
    }

    async fn record_check(
        &self,
        record: &BuildRecord,
        account: AccountId,
        shares: bool,
    ) -> Result<(), DatabaseError> {
        let mut new = NewRun::built(record, account, shares)?;
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(async move { new.record(connection).await })
            }))
            .await
    }

    async fn forget_result(&self, build: BuildId) -> Result<(), DatabaseError> {
        let answers = ["result", "failure"]
            .map(|table| Query::new(format!("DELETE FROM {table} WHERE build = $1")).blob(build.0));
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(async move {
                    for query in answers {
                        connection.fetch(query).await.map_err(backend)?;
                    }
                    Ok(())
                })
            }))
            .await
    }

    async fn failure(
        &self,
        key: &BuildKey,
        account: AccountId,
        takes: bool,
    ) -> Result<Option<FailureRecord>, DatabaseError> {
        failures::failure(&mut *self.driver.reader().await?, key, account, takes).await
    }

    async fn record_failure(
        &self,
        record: &FailureRecord,
        account: AccountId,
        shares: bool,
    ) -> Result<(), DatabaseError> {
        let new = NewRun::failed(record, account, shares)?;
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(failures::record(connection, new))
            }))
            .await
    }

    async fn add_marks(&self, marks: &[Mark]) -> Result<(), DatabaseError> {
        let inserts = marks.iter().map(marks::insert).collect::<Result<Vec<_>, _>>()?;
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(marks::add(connection, inserts))
            }))
            .await
    }

    async fn mark(&self, key: &BuildKey, account: AccountId) -> Result<Option<Mark>, DatabaseError> {
        self.read_mark(marks::of_key(key, account), account).await
    }

    async fn mark_of(&self, account: AccountId, drv_path: &StorePath) -> Result<Option<Mark>, DatabaseError> {
        self.read_mark(marks::of_derivation(account, drv_path), account)
            .await
    }

    async fn runs_of(
        &self,
        drv: &DerivationDigest,
        account: AccountId,
        takes: bool,
        limit: u32,
    ) -> Result<Vec<PastRun>, DatabaseError> {
        self.past_runs(runs::of_derivation(drv, account, takes, limit), account)
            .await
    }

    async fn history(
        &self,
        packages: &BTreeSet<String>,
        system: &str,
        account: AccountId,
        takes: bool,
        limit: u32,
    ) -> Result<BTreeMap<String, Vec<Past>>, DatabaseError> {
        if packages.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut reader = self.driver.reader().await?;
        history::history(&mut *reader, packages, system, account, takes, limit).await
    }

    async fn producers(
        &self,
        objects: &BTreeSet<ObjectId>,
        account: AccountId,
        takes: bool,
    ) -> Result<Vec<PastRun>, DatabaseError> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        self.past_runs(runs::producers::<D::Connection>(objects, account, takes), account)
            .await
    }

    async fn run_of_request(
        &self,
        build: BuildId,
        account: AccountId,
    ) -> Result<Option<PastRun>, DatabaseError> {
        self.driver.settle().await?;
        let mut runs = self.past_runs(runs::of_request(build, account), account).await?;
        Ok(runs.pop())
    }

    async fn objects(&self, ids: &BTreeSet<ObjectId>) -> Result<BTreeMap<ObjectId, Object>, DatabaseError> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let query = objects::of_ids::<D::Connection>(ids);
        let rows = self.driver.reader().await?.fetch(query).await.map_err(backend)?;
        rows.iter().map(objects::of_id).collect()
    }

    async fn irreproducible(
        &self,
        account: AccountId,
        takes: bool,
        limit: u32,
    ) -> Result<Vec<PastRun>, DatabaseError> {
        self.driver.settle().await?;
        self.past_runs(runs::irreproducible(account, takes, limit), account)
            .await
    }

    async fn record_request(&self, request: &RequestRecord) -> Result<(), DatabaseError> {
        let account = request.account;
        let query = requests::insert(request)?;
        self.driver
            .write_soon(Box::new(move |connection| {
                Box::pin(async move {
                    connection
                        .fetch(query)
                        .await
                        .map(|_| ())
                        .map_err(of_account(account))
                })
            }))
            .await
    }

    async fn latest_request(
        &self,
        account: AccountId,
        drv_path: &StorePath,
    ) -> Result<Option<RequestRecord>, DatabaseError> {
        let query = requests::latest_of(account, drv_path);
        Ok(self.read_requests(query, account).await?.pop())
    }

    async fn requests(&self, account: AccountId, limit: u32) -> Result<Vec<RequestRecord>, DatabaseError> {
        self.read_requests(requests::latest(account, limit), account)
            .await
    }

    async fn usage(
        &self,
        account: Option<AccountId>,
        since: u64,
        until: u64,
    ) -> Result<Usage, DatabaseError> {
        self.driver.settle().await?;
        usage::usage(&mut *self.driver.reader().await?, account, since, until).await
    }
}
