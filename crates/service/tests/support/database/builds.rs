//! Results, failures and runs.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::schedule::Past;
use firn_core::{AccountId, BuildId, BuildKey, Object, ObjectId};
use firn_nix::{StorePath, package_name};
use firn_service::ports::{
    BuildRecord, Builds, DatabaseError, DerivationDigest, FailureRecord, MAX_MARKS, Mark, OutputRecord,
    PastRun, RequestRecord, RunFailure, RunRecord, Usage,
};

use super::{Answer, MemoryDatabase, RunRow, State};

type Outcome = Result<BTreeMap<String, OutputRecord>, RunFailure>;

impl State {
    pub(super) fn run(&self, build: BuildId) -> Option<&RunRow> {
        self.runs.iter().find(|row| row.run.id == build)
    }

    /// Whether others may have what this account shared.
    fn given(&self, owner: Option<AccountId>, shares: bool) -> bool {
        shares && owner.is_none_or(|owner| self.gives(owner).results)
    }

    /// The first answer in this order that the account may have.
    pub(super) fn answer<'a>(
        &self,
        answers: impl Iterator<Item = &'a Answer> + Clone,
        account: AccountId,
        takes: bool,
    ) -> Option<BuildId> {
        let own = answers.clone().find(|answer| answer.owner == Some(account));
        let mut others = answers.filter(|answer| takes && self.given(answer.owner, answer.shares));
        Some(own.or_else(|| others.next())?.build)
    }

    fn result(&self, key: &BuildKey, account: AccountId, takes: bool) -> Option<BuildRecord> {
        let of_key = self.results.iter().filter(|answer| answer.key == *key);
        let row = self.run(self.answer(of_key, account, takes)?)?;
        Some(BuildRecord {
            run: row.run.clone(),
            outputs: row.outcome.clone().ok()?,
        })
    }

    fn remember(
        &mut self,
        run: &RunRecord,
        outcome: Outcome,
        owner: AccountId,
        shares: bool,
    ) -> Result<(), DatabaseError> {
        self.of(owner)?;
        if let Some(known) = self.run(run.id) {
            if known.run.key == run.key && known.outcome.is_ok() == outcome.is_ok() {
                return Ok(());
            }
            return Err(DatabaseError::Inconsistent {
                table: "build",
                what: format!("{} is another run", run.id),
            });
        }
        for output in outcome.iter().flat_map(BTreeMap::values) {
            self.object_id(&output.object);
        }
        self.runs.push(RunRow {
            owner: Some(owner),
            shares,
            run: run.clone(),
            outcome,
        });
        Ok(())
    }

    /// Runs that the account may know of, newest first.
    fn known(&self, account: AccountId, takes: bool) -> Vec<PastRun> {
        let known = |row: &&RunRow| row.owner == Some(account) || takes && self.given(row.owner, row.shares);
        let mut runs: Vec<PastRun> = self
            .runs
            .iter()
            .filter(known)
            .map(|row| self.past(row, account))
            .collect();
        runs.sort_by_key(|past| std::cmp::Reverse((past.run.started, past.run.id)));
        runs
    }

    fn past(&self, row: &RunRow, account: AccountId) -> PastRun {
        let id =
            |object: &Object| ObjectId(self.objects.iter().position(|o| o == object).unwrap() as i64 + 1);
        let outputs = row.outcome.iter().flatten();
        PastRun {
            run: row.run.clone(),
            own: row.owner == Some(account),
            outputs: outputs
                .map(|(name, o)| (name.clone(), (id(&o.object), o.object.clone())))
                .collect(),
        }
    }

    fn asked_for(&self, account: AccountId, key: &BuildKey) -> bool {
        let asked = |row: &RunRow| {
            let mut requests = self.requests.iter().filter(|r| r.account == account);
            row.owner == Some(account) || requests.any(|r| r.build == Some(row.run.id))
        };
        self.runs.iter().any(|row| row.run.key == *key && asked(row))
    }
}

impl MemoryDatabase {
    fn show(&self, record: &BuildRecord) {
        let objects = record.outputs.values().map(|output| &output.object);
        objects.for_each(|object| (self.witness)(&object.content));
    }
}

impl Builds for MemoryDatabase {
    async fn result(
        &self,
        key: &BuildKey,
        account: AccountId,
        takes: bool,
    ) -> Result<Option<BuildRecord>, DatabaseError> {
        Ok(self.open("result")?.result(key, account, takes))
    }

    async fn record_build(
        &self,
        record: &BuildRecord,
        account: AccountId,
        shares: bool,
        takes: bool,
    ) -> Result<BuildRecord, DatabaseError> {
        let mut state = self.open("record_build")?;
        self.show(record);
        state.remember(&record.run, Ok(record.outputs.clone()), account, shares)?;
        if let Some(known) = state.result(&record.run.key, account, takes) {
            return Ok(known);
        }
        if shares {
            state.marks.retain(|mark| mark.key != record.run.key);
        }
        state.results.push(Answer::new(&record.run, account, shares));
        Ok(record.clone())
    }

    async fn record_check(
        &self,
        record: &BuildRecord,
        account: AccountId,
        shares: bool,
    ) -> Result<(), DatabaseError> {
        let mut state = self.open("record_check")?;
        self.show(record);
        state.remember(&record.run, Ok(record.outputs.clone()), account, shares)
    }

    async fn forget_result(&self, build: BuildId) -> Result<(), DatabaseError> {
        let mut state = self.open("forget_result")?;
        state.results.retain(|answer| answer.build != build);
        state.failures.retain(|answer| answer.build != build);
        Ok(())
    }

    async fn failure(
        &self,
        key: &BuildKey,
        account: AccountId,
        takes: bool,
    ) -> Result<Option<FailureRecord>, DatabaseError> {
        let state = self.open("failure")?;
        let newest_first = state.failures.iter().rev().filter(|answer| answer.key == *key);
        let build = state.answer(newest_first, account, takes);
        let row = build.and_then(|build| state.run(build));
        Ok(row.and_then(|row| {
            Some(FailureRecord {
                run: row.run.clone(),
                failure: row.outcome.clone().err()?,
            })
        }))
    }

    async fn record_failure(
        &self,
        record: &FailureRecord,
        account: AccountId,
        shares: bool,
    ) -> Result<(), DatabaseError> {
        let mut state = self.open("record_failure")?;
        match &record.failure {
            RunFailure::Builder(_) | RunFailure::OutputRejected(_) | RunFailure::TimedOut(_) => {}
            other => return Err(DatabaseError::Backend(format!("not kept: {other}").into())),
        }
        state.remember(&record.run, Err(record.failure.clone()), account, shares)?;
        let key = record.run.key;
        state
            .failures
            .retain(|answer| (answer.key, answer.owner) != (key, Some(account)));
        state.failures.push(Answer::new(&record.run, account, shares));
        Ok(())
    }

    async fn add_marks(&self, marks: &[Mark]) -> Result<(), DatabaseError> {
        let mut state = self.open("add_marks")?;
        for mark in marks {
            let has = state
                .marks
                .iter()
                .any(|m| (m.account, m.key) == (mark.account, mark.key));
            if !has && state.accounts.contains_key(&mark.account) {
                state.marks.push(mark.clone());
                state.ever_marked.insert(mark.account);
            }
        }
        Ok(())
    }

    async fn mark(&self, key: &BuildKey, account: AccountId) -> Result<Option<Mark>, DatabaseError> {
        let state = self.open("mark")?;
        let own: Vec<&Mark> = state.marks.iter().filter(|m| m.account == account).collect();
        let of_key = own.iter().find(|m| m.key == *key);
        let any = own.last().filter(|_| own.len() >= MAX_MARKS);
        Ok(of_key.or(any).map(|mark| (*mark).clone()))
    }

    async fn mark_of(&self, account: AccountId, drv_path: &StorePath) -> Result<Option<Mark>, DatabaseError> {
        let state = self.open("mark_of")?;
        let of = |m: &&Mark| m.account == account && m.drv_path == *drv_path;
        Ok(state.marks.iter().rfind(of).cloned())
    }

    async fn runs_of(
        &self,
        drv: &DerivationDigest,
        account: AccountId,
        takes: bool,
        limit: u32,
    ) -> Result<Vec<PastRun>, DatabaseError> {
        let mut runs = self.open("runs_of")?.known(account, takes);
        runs.retain(|past| past.run.drv == *drv);
        runs.truncate(limit as usize);
        Ok(runs)
    }

    async fn history(
        &self,
        packages: &BTreeSet<String>,
        system: &str,
        account: AccountId,
        takes: bool,
        limit: u32,
    ) -> Result<BTreeMap<String, Vec<Past>>, DatabaseError> {
        let state = self.open("history")?;
        let mut history: BTreeMap<String, Vec<Past>> = BTreeMap::new();
        for own in [true, false] {
            let mut found: BTreeMap<String, Vec<Past>> = BTreeMap::new();
            for PastRun {
                run,
                own: is,
                outputs,
            } in state.known(account, takes)
            {
                let package = package_name(run.drv_path.derivation_name().unwrap());
                if is != own || outputs.is_empty() || run.system != system || !packages.contains(package) {
                    continue;
                }
                let runs = found.entry(package.to_owned()).or_default();
                if runs.len() < limit as usize {
                    runs.push(Past {
                        own,
                        wall_ms: run.wall_ms,
                        cpu_us: run.cpu_user_us + run.cpu_system_us,
                        memory_peak: run.memory_peak,
                    });
                }
            }
            for (package, mut runs) in found {
                history.entry(package).or_default().append(&mut runs);
            }
        }
        Ok(history)
    }

    async fn producers(
        &self,
        objects: &BTreeSet<ObjectId>,
        account: AccountId,
        takes: bool,
    ) -> Result<Vec<PastRun>, DatabaseError> {
        let mut runs = self.open("producers")?.known(account, takes);
        runs.retain(|past| past.outputs.values().any(|(id, _)| objects.contains(id)));
        Ok(runs)
    }

    async fn run_of_request(
        &self,
        build: BuildId,
        account: AccountId,
    ) -> Result<Option<PastRun>, DatabaseError> {
        let state = self.open("run_of_request")?;
        let mut requests = state.requests.iter();
        if !requests.any(|r| r.account == account && r.build == Some(build)) {
            return Ok(None);
        }
        Ok(state.run(build).map(|row| state.past(row, account)))
    }

    async fn objects(&self, ids: &BTreeSet<ObjectId>) -> Result<BTreeMap<ObjectId, Object>, DatabaseError> {
        let state = self.open("objects")?;
        let numbered = (1..).map(ObjectId).zip(&state.objects);
        Ok(numbered
            .filter(|(id, _)| ids.contains(id))
            .map(|(id, object)| (id, object.clone()))
            .collect())
    }

    async fn irreproducible(
        &self,
        account: AccountId,
        takes: bool,
        limit: u32,
    ) -> Result<Vec<PastRun>, DatabaseError> {
        let state = self.open("irreproducible")?;
        let runs = state.known(account, takes);
        let of_key = |key: BuildKey| runs.iter().filter(move |past| past.run.key == key);
        let differ = |key: BuildKey| {
            let mut outputs = of_key(key).filter(|past| !past.outputs.is_empty());
            outputs
                .next()
                .is_some_and(|first| outputs.any(|other| other.outputs != first.outputs))
        };
        let mut keys: Vec<(u64, BuildKey)> = Vec::new();
        for past in &runs {
            let key = past.run.key;
            if !keys.iter().any(|(_, k)| *k == key) && differ(key) && state.asked_for(account, &key) {
                keys.push((past.run.started, key));
            }
        }
        keys.sort_by_key(|(started, key)| (std::cmp::Reverse(*started), *key));
        keys.truncate(limit as usize);
        Ok(keys
            .into_iter()
            .flat_map(|(_, key)| of_key(key))
            .cloned()
            .collect())
    }

    async fn record_request(&self, request: &RequestRecord) -> Result<(), DatabaseError> {
        self.open("record_request")?.requests.push(request.clone());
        Ok(())
    }

    async fn latest_request(
        &self,
        account: AccountId,
        drv_path: &StorePath,
    ) -> Result<Option<RequestRecord>, DatabaseError> {
        let state = self.open("latest_request")?;
        let asked = |r: &&RequestRecord| r.account == account && r.drv_path == *drv_path && r.build.is_some();
        // The last of equals.
        Ok(state
            .requests
            .iter()
            .filter(asked)
            .max_by_key(|r| r.time)
            .cloned())
    }

    async fn requests(&self, account: AccountId, limit: u32) -> Result<Vec<RequestRecord>, DatabaseError> {
        let state = self.open("requests")?;
        let of_account = state.requests.iter().filter(|r| r.account == account);
        let mut requests: Vec<RequestRecord> = of_account.cloned().collect();
        requests.sort_by_key(|r| r.time);
        requests.reverse();
        requests.truncate(limit as usize);
        Ok(requests)
    }

    async fn usage(
        &self,
        account: Option<AccountId>,
        since: u64,
        until: u64,
    ) -> Result<Usage, DatabaseError> {
        Ok(self.open("usage")?.usage(account, since..until))
    }
}
