//! What a run is expected to take, and what is kept for it.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::Isolation;
use firn_core::schedule::{Capacity, Expected, Reservation, Ticket};
use firn_nix::package_name;

use crate::House;
use crate::ports::{Builds as _, DatabaseError, Job, Ports};
use crate::run::Asked;
use crate::terms::Sharing;

/// Runs of a package that are looked at.
const RUNS: u32 = 5;

/// What there is for all builds together, and what is kept for one of which nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes of memory. `None` is not counted.
    pub memory: Option<u64>,
    /// Processors. `None` is not counted.
    pub cpus: Option<u32>,
    /// Bytes for a build of which nothing is known.
    pub unknown_memory: u64,
    /// Bytes that every build in a virtual machine takes.
    pub machine_memory: u64,
    /// Whether a build may use no more memory than was reserved, at its first try.
    pub limit_to_reservation: bool,
}

impl Room {
    /// With so many builds at once.
    pub(crate) fn capacity(&self, slots: usize) -> Capacity {
        Capacity {
            slots,
            memory: self.memory.unwrap_or(u64::MAX),
            cpus: self.cpus.map_or(u64::MAX, |cpus| u64::from(cpus) * 1000),
        }
    }

    fn reservation(&self, expected: Expected, job: &Job) -> Reservation {
        let unknown = Reservation {
            memory: self.unknown_memory,
            cpus: 1000,
        };
        let mut reservation = expected.reservation(unknown);
        if job.isolation == Isolation::Vm {
            reservation.memory = self.machine_memory;
        }
        reservation.memory = reservation.memory.min(most(job));
        reservation
    }
}

/// Bytes of memory that the operator lets a build have.
fn most(job: &Job) -> u64 {
    match job.isolation {
        Isolation::Vm => u64::MAX,
        Isolation::Namespaces => job.limits.memory_bytes.unwrap_or(u64::MAX),
    }
}

/// Sets the limit of a first try.
pub(crate) fn limit(job: &mut Job, room: &Room, reservation: Reservation) {
    if room.limit_to_reservation && job.isolation == Isolation::Namespaces && reservation.memory > 0 {
        job.limits.memory_bytes = Some(reservation.memory.min(most(job)));
    }
}

/// What to reserve for a second try of a build that was killed for lack of memory; `None` when it would fare no better: as much as a
/// build may have at all, so that how a build ends does not depend on what was expected of it.
pub(crate) fn once_more(
    room: &Room,
    whole: &Job,
    reserved: Reservation,
    peak: Option<u64>,
) -> Option<Reservation> {
    if whole.isolation == Isolation::Vm {
        return None;
    }
    let limit = most(whole);
    let all = limit.min(room.memory.unwrap_or(u64::MAX));
    let was_limited = room.limit_to_reservation && reserved.memory < limit;
    // It was the builds together that had too much, not this one alone.
    let below_its_limit = peak.is_none_or(|peak| peak < limit / 16 * 15);
    let more = was_limited || (reserved.memory < all && below_its_limit);
    more.then_some(Reservation {
        memory: all,
        cpus: reserved.cpus,
    })
}

impl<P: Ports> House<P> {
    /// What runs of derivations of these names are expected to take, by name; nothing for names of which nothing is known.
    pub(crate) async fn expected(
        &self,
        sharing: Sharing,
        system: &str,
        derivations: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, Expected>, DatabaseError> {
        let packages: BTreeSet<String> = derivations
            .iter()
            .map(|name| package_name(name).to_owned())
            .collect();
        let Sharing { account, takes, .. } = sharing;
        let past = self.db.history(&packages, system, account, takes, RUNS).await?;
        let expected = derivations.iter().filter_map(|name| {
            let runs = past.get(package_name(name))?;
            Some((name.clone(), Expected::from(runs)))
        });
        Ok(expected.collect())
    }

    /// What a run waits with.
    pub(crate) async fn ticket(&self, asked: &Asked, job: &Job) -> Ticket {
        let name = job.drv_path.derivation_name().unwrap_or_default().to_owned();
        let names = BTreeSet::from([name]);
        let expected = match self.expected(asked.sharing, &job.class.system, &names).await {
            Ok(expected) => expected.into_values().next().unwrap_or_default(),
            Err(error) => {
                // It is for the order only.
                tracing::warn!(error = &error as &dyn std::error::Error, "no history of a build");
                Expected::default()
            }
        };
        Ticket {
            account: asked.sharing.account,
            share: asked.share,
            urgency: if asked.urgency == 0 {
                expected.wall_ms
            } else {
                asked.urgency
            },
            reservation: self.settings.room.reservation(expected, job),
        }
    }
}
