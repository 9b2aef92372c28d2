//! Which network addresses caches may have: those of the public internet, unless the operator says otherwise.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use firn_sandbox::{is_own, is_public};
use moka::future::Cache;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

/// A host has no address that may be connected to.
#[derive(Debug, thiserror::Error)]
#[error(
    "the host '{0}' is this machine or in a private network, and the operator has not set caches.allow-private-networks"
)]
pub(crate) struct PrivateNetwork(pub String);

/// Most lookups at once. Each holds a thread of the runtime for as long as the system's resolver likes.
const LOOKUPS: usize = 32;
/// For how long a lookup is used again.
const LOOKUP_TTL: Duration = Duration::from_secs(5);

/// Resolves names as the system does, and keeps the addresses that may be connected to. The connection is made to what this returns,
/// so that a name cannot change between check and use.
pub(crate) struct Resolver {
    allow_private: bool,
    lookups: Cache<String, Arc<[SocketAddr]>>,
    places: Arc<Semaphore>,
}

impl Resolver {
    pub(crate) fn new(allow_private: bool) -> Self {
        Self {
            allow_private,
            lookups: Cache::builder()
                .max_capacity(1000)
                .time_to_live(LOOKUP_TTL)
                .build(),
            places: Arc::new(Semaphore::new(LOOKUPS)),
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let allow_private = self.allow_private;
        let (lookups, places) = (self.lookups.clone(), self.places.clone());
        Box::pin(async move {
            let all = lookups
                .try_get_with(name.clone(), look_up(name.clone(), places))
                .await
                .map_err(|e| io::Error::new(e.kind(), e.to_string()))?;
            let allowed: Vec<SocketAddr> = all
                .iter()
                .copied()
                .filter(|address| allow_private || is_elsewhere(address.ip()))
                .collect();
            if allowed.is_empty() && !all.is_empty() {
                return Err(PrivateNetwork(name).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the public internet, and not this machine's.
pub(crate) fn is_elsewhere(address: IpAddr) -> bool {
    is_public(address) && !is_own(address)
}

/// The place is given back when the thread is, whoever still waits.
async fn look_up(name: String, places: Arc<Semaphore>) -> io::Result<Arc<[SocketAddr]>> {
    let place = places.acquire_owned().await.map_err(io::Error::other)?;
    let lookup = tokio::spawn(async move {
        let addresses = tokio::net::lookup_host((name, 0)).await.map(Iterator::collect);
        drop(place);
        addresses
    });
    lookup.await?
}
