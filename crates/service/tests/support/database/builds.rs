//! Results and requests.

use std::collections::BTreeSet;

use firn_core::{AccountId, BuildId, BuildKey, Rung};
use firn_service::ports::{BuildRecord, Builds, DatabaseError, RequestRecord, Usage};

use super::{MemoryDatabase, ResultRow, State};

impl State {
    fn result(&self, key: &BuildKey, account: AccountId, takes: bool) -> Option<&BuildRecord> {
        let of_key = || self.results.iter().filter(|row| row.record.key == *key);
        let own = of_key().find(|row| row.owner == Some(account));
        let shared = |row: &&ResultRow| row.shares && row.owner.is_none_or(|owner| self.gives(owner).results);
        let found = own.or_else(|| of_key().find(shared).filter(|_| takes));
        found.map(|row| &row.record)
    }
}

impl Builds for MemoryDatabase {
    async fn result(
        &self,
        key: &BuildKey,
        account: AccountId,
        takes: bool,
    ) -> Result<Option<BuildRecord>, DatabaseError> {
        Ok(self.open("result")?.result(key, account, takes).cloned())
    }

    async fn record_build(
        &self,
        record: &BuildRecord,
        account: AccountId,
        shares: bool,
    ) -> Result<BuildRecord, DatabaseError> {
        let mut state = self.open("record_build")?;
        state.of(account)?;
        record
            .outputs
            .values()
            .for_each(|o| (self.witness)(&o.object.content));
        // Who gives takes.
        if let Some(known) = state.result(&record.key, account, shares) {
            return Ok(known.clone());
        }
        state.results.push(ResultRow {
            owner: Some(account),
            shares,
            record: record.clone(),
        });
        Ok(record.clone())
    }

    async fn forget_result(&self, build: BuildId) -> Result<(), DatabaseError> {
        self.open("forget_result")?
            .results
            .retain(|row| row.record.id != build);
        Ok(())
    }

    async fn record_request(&self, request: &RequestRecord) -> Result<(), DatabaseError> {
        self.open("record_request")?.requests.push(request.clone());
        Ok(())
    }

    async fn requests(&self, account: AccountId, limit: u32) -> Result<Vec<RequestRecord>, DatabaseError> {
        let state = self.open("requests")?;
        let of_account = state.requests.iter().rev().filter(|r| r.account == account);
        Ok(of_account.take(limit as usize).cloned().collect())
    }

    async fn usage(&self, account: AccountId) -> Result<Usage, DatabaseError> {
        let state = self.open("usage")?;
        let mut usage = Usage::default();
        for request in state.requests.iter().filter(|r| r.account == account) {
            *usage.requests.entry(request.rung).or_default() += 1;
            let run = state
                .results
                .iter()
                .find(|row| Some(row.record.id) == request.build);
            let cpu = run.map_or(0, |row| row.record.cpu_user_us + row.record.cpu_system_us);
            match request.rung {
                Some(Rung::Built) => usage.cpu_us += cpu,
                _ => usage.saved_cpu_us += cpu,
            }
        }
        let own = || state.claims.iter().filter(|row| row.owner == account);
        let paths: BTreeSet<_> = own().map(|row| &row.claim.object.path).collect();
        let contents: BTreeSet<_> = own()
            .map(|row| (row.claim.object.content, row.claim.object.nar_size))
            .collect();
        usage.paths = paths.len() as u64;
        usage.bytes = contents.into_iter().map(|(_, size)| size).sum();
        Ok(usage)
    }
}
