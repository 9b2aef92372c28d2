//! What may be connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::{RESOLVER, Relay, is_public};

const DNS: u16 = 53;

/// The address on the host to connect to for the command's `wanted`; none when it may not.
pub(super) fn destination(relay: &Relay, wanted: SocketAddr) -> Option<SocketAddr> {
    if wanted.ip() == IpAddr::V4(RESOLVER) {
        return relay.resolvers.first().copied().filter(|_| wanted.port() == DNS);
    }
    let address = wanted.ip().to_canonical();
    let allowed = relay.allow.iter().any(|range| range.contains(address));
    (allowed || (is_public(address) && !is_own(address))).then_some(SocketAddr::new(address, wanted.port()))
}

/// Whether an address is the host's own: what the kernel would send from to get there is that address itself, or a socket can have it. Asked
/// each time, because addresses come and go.
fn is_own(address: IpAddr) -> bool {
    let (any, nobodys): (IpAddr, IpAddr) = match address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(240, 0, 0, 1).into()),
        IpAddr::V6(_) => (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1).into(),
        ),
    };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        // Sends nothing.
        socket.connect((address, DNS))?;
        socket.local_addr()
    });
    let can_have = |address: IpAddr| UdpSocket::bind((address, 0)).is_ok();
    // On hosts where a socket can have any address (ip_nonlocal_bind) that says nothing.
    source.is_ok_and(|source| source.ip() == address) || (can_have(address) && !can_have(nobodys))
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
    fn addresses_of_this_machine_are_its_own() {
        assert!(is_own(Ipv4Addr::LOCALHOST.into()) && is_own(Ipv6Addr::LOCALHOST.into()));
        assert!(is_own(Ipv4Addr::new(127, 1, 2, 3).into()));
        assert!(!is_own(Ipv4Addr::new(1, 1, 1, 1).into()));
    }
}
