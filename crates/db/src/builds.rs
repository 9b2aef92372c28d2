//! Build results and requests: the port.

use firn_core::{AccountId, BuildId, BuildKey};
use firn_service::ports::{BuildRecord, Builds, DatabaseError, RequestRecord, Usage};

use crate::dialect::Connection as _;
use crate::driver::{Driver, Repository};
use crate::error::{backend, of_account};
use crate::query::Query;
use crate::requests;
use crate::results::{self, NewBuild};

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
    ) -> Result<BuildRecord, DatabaseError> {
        let build = NewBuild::new(record, account, shares)?;
        self.driver
            .write(Box::new(move |connection| Box::pin(build.record(connection))))
            .await
    }

    async fn forget_result(&self, build: BuildId) -> Result<(), DatabaseError> {
        let query = Query::new("DELETE FROM build WHERE id = $1").blob(build.0);
        self.driver
            .write(Box::new(move |connection| {
                Box::pin(async move { connection.fetch(query).await.map(|_| ()).map_err(backend) })
            }))
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

    async fn requests(&self, account: AccountId, limit: u32) -> Result<Vec<RequestRecord>, DatabaseError> {
        self.driver.settle().await?;
        let query = requests::latest(account, limit);
        let rows = self.driver.reader().await?.fetch(query).await.map_err(backend)?;
        rows.iter().map(|row| requests::decode(account, row)).collect()
    }

    async fn usage(&self, account: AccountId) -> Result<Usage, DatabaseError> {
        self.driver.settle().await?;
        requests::usage(&mut *self.driver.reader().await?, account).await
    }
}
