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

/// The name of a host has no address.
#[derive(Debug, thiserror::Error)]
#[error("the name '{host}' does not resolve: {why}")]
pub(crate) struct UnknownHost {
    pub host: String,
    why: String,
}

/// Most lookups at once, for one account and for all together. Each holds a thread of the runtime for as long as the system's resolver
/// likes.
const LOOKUPS: usize = 8;
const ALL_LOOKUPS: usize = 128;
/// For how long a lookup is used again.
const LOOKUP_TTL: Duration = Duration::from_secs(5);

/// Places for lookups, of all accounts.
pub(crate) fn lookup_places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ALL_LOOKUPS))
}

/// Resolves names as the system does, for one account, and keeps the addresses that may be connected to. The connection is made to what
/// this returns, so that a name cannot change between check and use.
pub(crate) struct Resolver {
    allow_private: bool,
    lookups: Cache<String, Arc<[SocketAddr]>>,
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

impl Resolver {
    pub(crate) fn new(allow_private: bool, all: Arc<Semaphore>) -> Self {
        Self {
            allow_private,
            lookups: Cache::builder()
                .max_capacity(1000)
                .time_to_live(LOOKUP_TTL)
                .build(),
            own: Arc::new(Semaphore::new(LOOKUPS)),
            all,
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let allow_private = self.allow_private;
        let (lookups, own, all) = (self.lookups.clone(), self.own.clone(), self.all.clone());
        Box::pin(async move {
            let found = lookups
                .try_get_with(name.clone(), look_up(name.clone(), own, all))
                .await;
            let found = found.map_err(|e| UnknownHost {
                host: name.clone(),
                why: e.to_string(),
            })?;
            let allowed: Vec<SocketAddr> = found
                .iter()
                .copied()
                .filter(|address| allow_private || is_elsewhere(address.ip()))
                .collect();
            if allowed.is_empty() && !found.is_empty() {
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

/// The places are given back when the thread is, whoever still waits.
async fn look_up(name: String, own: Arc<Semaphore>, all: Arc<Semaphore>) -> io::Result<Arc<[SocketAddr]>> {
    let own = own.acquire_owned().await.map_err(io::Error::other)?;
    let place = all.acquire_owned().await.map_err(io::Error::other)?;
    let lookup = tokio::spawn(async move {
        let addresses = tokio::net::lookup_host((name, 0)).await.map(Iterator::collect);
        drop((own, place));
        addresses
    });
    lookup.await?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that take long to resolve take up the places of whoever asks for them.
    #[tokio::test]
    async fn slow_names_of_one_account_do_not_starve_another() {
        let all = lookup_places();
        let [one, other] = [(); 2].map(|()| Resolver::new(true, Arc::clone(&all)));
        let mut slow = Vec::new();
        while let (Ok(own), Ok(place)) = (
            Arc::clone(&one.own).try_acquire_owned(),
            Arc::clone(&all).try_acquire_owned(),
        ) {
            slow.push((own, place));
        }
        let name = |text: &str| text.parse::<Name>().unwrap();
        let mut waits = one.resolve(name("localhost"));
        let found = other.resolve(name("localhost"));
        tokio::select! {
            biased;
            _ = &mut waits => panic!("there is no place"),
            found = found => assert!(found.is_ok_and(|mut all| all.next().is_some())),
        }
        drop(slow);
        assert!(waits.await.is_ok());
    }
}
