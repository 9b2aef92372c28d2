//! Sums.

use std::collections::BTreeSet;
use std::ops::Range;

use firn_core::{AccountId, Origin, Rung};
use firn_service::ports::Usage;

use super::State;

impl State {
    pub(super) fn usage(&self, account: Option<AccountId>, span: Range<u64>) -> Usage {
        let meant = |owner: AccountId| account.is_none_or(|account| account == owner);
        let mut usage = Usage::default();
        for request in &self.requests {
            if !meant(request.account) || !span.contains(&request.time) {
                continue;
            }
            let sums = usage.rungs.entry(request.rung).or_default();
            sums.requests += 1;
            if let Some(Rung::AlreadyValid | Rung::Substituted) = request.rung {
                continue;
            }
            if let Some(row) = request.build.and_then(|build| self.run(build)) {
                sums.cpu_us += row.run.cpu_user_us + row.run.cpu_system_us;
                sums.wall_ms += row.run.wall_ms;
                let outputs = row.outcome.iter().flat_map(|outputs| outputs.values());
                sums.output_bytes += outputs.map(|output| output.object.nar_size).sum::<u64>();
            }
        }
        let mut paths = BTreeSet::new();
        let mut contents = BTreeSet::new();
        let mut came = BTreeSet::new();
        for row in self.claims.iter().filter(|row| meant(row.owner)) {
            let object = &row.claim.object;
            paths.insert(&object.path);
            contents.insert((object.content, object.nar_size));
            if span.contains(&row.claim.registered) {
                came.insert((row.claim.origin, row.owner, object.content, object.nar_size));
            }
        }
        let sum = |wanted: Origin| {
            let of_origin = came.iter().filter(|(origin, ..)| *origin == wanted);
            of_origin.map(|(.., size)| size).sum()
        };
        usage.uploaded_bytes = sum(Origin::Uploaded);
        usage.substituted_bytes = sum(Origin::Substituted);
        usage.paths = paths.len() as u64;
        usage.bytes = contents.into_iter().map(|(_, size)| size).sum();
        usage
    }
}
