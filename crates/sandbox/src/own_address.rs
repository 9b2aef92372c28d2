//! Whether an address is this machine's.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use crate::range::meant;

/// Any port: nothing is sent.
const PORT: u16 = 53;

/// Whether an address is the machine's own: what the kernel would send from to get there is that address itself, or a socket can have it.
/// Asked each time, because addresses come and go. Where the kernel does not say, it is.
#[must_use]
pub fn is_own(address: IpAddr) -> bool {
    let address = meant(address);
    let (any, nobodys): (IpAddr, IpAddr) = match address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(240, 0, 0, 1).into()),
        IpAddr::V6(_) => (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1).into(),
        ),
    };
    let Ok(socket) = UdpSocket::bind((any, 0)) else {
        return true;
    };
    let source = match socket.connect((address, PORT)) {
        Ok(()) => socket.local_addr().map(|source| source.ip()),
        // No way there: none of its own, either.
        Err(e)
            if matches!(
                e.kind(),
                ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable
            ) =>
        {
            Ok(any)
        }
        Err(e) => Err(e),
    };
    let can_have = |address: IpAddr| match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        Err(e) => e.kind() != ErrorKind::AddrNotAvailable,
    };
    match source {
        // On machines where a socket can have any address (ip_nonlocal_bind) that says nothing.
        Ok(source) => source == address || (can_have(address) && !can_have(nobodys)),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_its_own() {
        for own in [
            "127.0.0.1",
            "127.1.2.3",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
        ] {
            assert!(is_own(own.parse().unwrap()), "{own}");
        }
        for other in ["1.1.1.1", "64:ff9b::101:101"] {
            assert!(!is_own(other.parse().unwrap()), "{other}");
        }
    }
}
