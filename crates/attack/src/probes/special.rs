//! Addresses that a build with a network must not reach either.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::sockets::connect;
use crate::{Outcome, host};

/// A service that listens on an address of the host that others can see.
pub(crate) fn own_address() -> Outcome {
    connect(host::var(host::ADDRESS).parse().expect("an address and a port"))
}

/// The same address, written as IPv6.
pub(crate) fn own_address_mapped() -> Outcome {
    let address: SocketAddr = host::var(host::ADDRESS).parse().expect("an address and a port");
    match address.ip() {
        std::net::IpAddr::V4(v4) => connect((v4.to_ipv6_mapped(), address.port()).into()),
        std::net::IpAddr::V6(_) => connect(address),
    }
}

/// The first that answers otherwise than the first of all.
fn all(addresses: &[&str]) -> Outcome {
    let mut outcomes = addresses
        .iter()
        .map(|address| (address, connect(address.parse().expect("an address and a port"))));
    let Some((_, first)) = outcomes.next() else {
        return Outcome::Absent;
    };
    match outcomes.find(|(_, outcome)| *outcome != first) {
        Some((address, other)) => Outcome::value(format_args!("{address} {other}")),
        None => first,
    }
}

pub(crate) fn private() -> Outcome {
    all(&[
        "10.0.0.1:80",
        "172.16.0.1:80",
        "192.168.0.1:80",
        "100.64.0.1:80",
        "198.18.0.2:80",
        "240.0.0.1:80",
    ])
}

pub(crate) fn private_v6() -> Outcome {
    all(&[
        "[fd00:ec2::254]:80",
        "[fd66:6972:6e00::53]:53",
        "[fc00::1]:80",
        "[64:ff9b::a9fe:a9fe]:80",
    ])
}

/// The resolver of builds with a network stands for the host's, which may be a service of the host: one port of it.
pub(crate) fn resolver() -> Outcome {
    all(&["198.18.0.53:22", "198.18.0.53:80", "198.18.0.53:2222"])
}

/// What others take for a service of the system.
pub(crate) fn low_port() -> Outcome {
    let bound = [
        TcpListener::bind("0.0.0.0:25").map(drop),
        UdpSocket::bind("0.0.0.0:53").map(drop),
    ];
    match bound.into_iter().find(Result::is_ok) {
        Some(_) => Outcome::Reached,
        None => Outcome::of_io(TcpListener::bind("0.0.0.0:25")),
    }
}
