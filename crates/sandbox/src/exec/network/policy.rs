//! What may be connected to.

use std::net::{IpAddr, SocketAddr};

use crate::{IpRange, RESOLVER, Relay, is_own, is_public};

const DNS: u16 = 53;

/// The address on the host to connect to for the command's `wanted`; none when it may not.
pub(super) fn destination(relay: &Relay, wanted: SocketAddr) -> Option<SocketAddr> {
    if wanted.ip() == IpAddr::V4(RESOLVER) {
        return relay.resolvers.first().copied().filter(|_| wanted.port() == DNS);
    }
    let address = wanted.ip().to_canonical();
    let allow = || relay.allow.iter().filter(|range| range.contains(address));
    // A range of many says nothing of the host that happens to be in it.
    let allowed = match is_own(address) {
        true => allow().any(IpRange::is_one),
        false => is_public(address) || allow().next().is_some(),
    };
    allowed.then_some(SocketAddr::new(address, wanted.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(relay: &Relay, wanted: &str) -> Option<String> {
        destination(relay, wanted.parse().unwrap()).map(|address| address.to_string())
    }

    #[test]
    fn the_resolver_is_one_port() {
        let relay = Relay {
            allow: vec!["198.18.0.0/15".parse().unwrap()],
            resolvers: vec!["127.0.0.53:53".parse().unwrap()],
        };
        assert_eq!(reached(&relay, "198.18.0.53:53").unwrap(), "127.0.0.53:53");
        assert_eq!(reached(&relay, "198.18.0.53:22"), None);
        assert_eq!(reached(&Relay::default(), "198.18.0.53:53"), None);
    }

    #[test]
    fn special_ranges_are_reached_where_they_are_allowed() {
        let nothing = Relay::default();
        for private in [
            "10.0.0.1:80",
            "169.254.169.254:80",
            "[fd00:ec2::254]:80",
            "127.0.0.1:22",
            "[::ffff:10.0.0.1]:80",
        ] {
            assert_eq!(reached(&nothing, private), None, "{private}");
        }
        assert_eq!(reached(&nothing, "1.1.1.1:443").unwrap(), "1.1.1.1:443");
        let some = Relay {
            allow: vec!["10.0.0.0/24".parse().unwrap()],
            resolvers: Vec::new(),
        };
        assert_eq!(reached(&some, "10.0.0.1:80").unwrap(), "10.0.0.1:80");
        assert_eq!(reached(&some, "10.0.1.1:80"), None);
    }

    #[test]
    fn the_host_itself_is_allowed_by_its_address_alone() {
        let relay = |range: &str| Relay {
            allow: vec![range.parse().unwrap()],
            resolvers: Vec::new(),
        };
        assert_eq!(reached(&relay("127.0.0.0/8"), "127.0.0.1:80"), None);
        assert_eq!(
            reached(&relay("127.0.0.1"), "127.0.0.1:80").unwrap(),
            "127.0.0.1:80"
        );
    }
}
