//! Which network addresses caches may have: those of the public internet, unless the operator says otherwise.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

/// A host has no address that may be connected to.
#[derive(Debug, thiserror::Error)]
#[error("the host '{0}' is in a private network, and the operator has not set caches.allow-private-networks")]
pub(crate) struct PrivateNetwork(pub String);

/// Whether an address is of the public internet (IANA's special-purpose registries, RFC 6890 and later).
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224..=255, _, _)
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b, c, d, e, f) {
        // IPv4-mapped, and NAT64's well-known prefix.
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => embedded(g, h),
        // 6to4.
        (0x2002, high, low, ..) => embedded(high, low),
        // Teredo, benchmarks, ORCHID and other assignments; documentation.
        (0x2001, 0..=0x01ff | 0x0db8, ..) | (0x3fff, 0..=0x0fff, ..) => false,
        // Global unicast; all else is loopback, link-local, unique local, multicast or unassigned.
        (0x2000..=0x3fff, ..) => true,
        _ => false,
    }
}

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
                .filter(|address| allow_private || is_public(address.ip()))
                .collect();
            if allowed.is_empty() && !all.is_empty() {
                return Err(PrivateNetwork(name).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "fec0::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::808:808",
            "2002:7f00:1::",
            "2001:0:1::",
            "2001:db8::1",
            "100::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in [
            "1.1.1.1",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "2a04:4e42::644",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2001:4860:4860::8888",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
