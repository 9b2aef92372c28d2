//! The command's end: a device with an address, and the way to everywhere.

use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use super::super::io_ext::Named;
use super::netlink::Netlink;
use crate::sys;

/// What devices are made of.
pub(crate) const TUN: &str = "/dev/net/tun";

/// Of packets that stay on this machine: the largest.
pub(super) const MTU: u16 = 65520;

/// The command's addresses. Of benchmark and unique local ranges: nothing outside has them.
const ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(198, 18, 0, 1);
const ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0xfd66, 0x6972, 0x6e00, 0, 0, 0, 0, 1);

/// Make the device in the namespace of that process, which must be the last thing this process does. Whether there is IPv6 is decided by
/// whether the host has a way to the internet by it: programs try it first.
pub(super) fn make(of: &OwnedFd, privileged: bool) -> Result<OwnedFd, String> {
    let v6 = host_has_v6();
    let flags = if privileged {
        libc::CLONE_NEWNET
    } else {
        libc::CLONE_NEWNET | libc::CLONE_NEWUSER
    };
    sys::join_namespaces(std::os::fd::AsFd::as_fd(of), flags).named(|| "enter the network namespace")?;
    let tun = rustix::fs::open(
        TUN,
        OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .named(|| format!("open {TUN}"))?;
    let index = sys::make_tun(std::os::fd::AsFd::as_fd(&tun), c"net0").named(|| "TUNSETIFF")?;
    let netlink = Netlink::open().named(|| "netlink")?;
    netlink
        .up(index, u32::from(MTU))
        .named(|| "bring the device up")?;
    netlink
        .address(index, ADDRESS.into())
        .named(|| "give the device an address")?;
    netlink.default_route(index, false).named(|| "add a route")?;
    if v6 {
        netlink
            .address(index, ADDRESS_V6.into())
            .named(|| "give the device an IPv6 address")?;
        netlink.default_route(index, true).named(|| "add an IPv6 route")?;
    }
    Ok(tun)
}

/// Nothing is sent: it is only looked for a route.
fn host_has_v6() -> bool {
    let public = Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 1);
    std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
        .is_ok_and(|socket| socket.connect((public, 53)).is_ok())
}
