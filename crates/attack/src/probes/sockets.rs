//! Ways out by sockets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::{Outcome, host, raw};

const STREAM: usize = libc::SOCK_STREAM as usize;
const VSOCK: usize = 40;

/// All families of which a socket can be had.
pub(crate) fn families() -> Outcome {
    let had = (0..=46usize).filter(|family| {
        [
            libc::SOCK_STREAM,
            libc::SOCK_DGRAM,
            libc::SOCK_RAW,
            libc::SOCK_SEQPACKET,
        ]
        .iter()
        .any(|&kind| raw::call(libc::SYS_socket, &[*family, kind as usize, 0]).is_ok())
    });
    Outcome::value(had.map(|family| family.to_string()).collect::<Vec<_>>().join(","))
}

pub(crate) fn vsock() -> Outcome {
    Outcome::of(raw::call(libc::SYS_socket, &[VSOCK, STREAM, 0]))
}

pub(crate) fn vsock_pair() -> Outcome {
    let pair = [0u32; 2];
    Outcome::of(raw::call(
        libc::SYS_socketpair,
        &[VSOCK, STREAM, 0, raw::at(&pair)],
    ))
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn vsock_x32() -> Outcome {
    Outcome::of(raw::call_x32(libc::SYS_socket, &[VSOCK, STREAM, 0]))
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn vsock_i386() -> Outcome {
    Outcome::of(raw::call_i386(359, &[VSOCK as u32, STREAM as u32, 0]))
}

/// The one call for all that 32-bit programs had before.
#[cfg(target_arch = "x86_64")]
pub(crate) fn vsock_socketcall() -> Outcome {
    let mut args = Vec::new();
    [VSOCK as u32, STREAM as u32, 0]
        .iter()
        .for_each(|arg| args.extend(arg.to_le_bytes()));
    Outcome::of(raw::call_i386(102, &[1, raw::low(&args)]))
}

/// Read everything that goes by.
pub(crate) fn packet() -> Outcome {
    Outcome::of(raw::call(
        libc::SYS_socket,
        &[libc::AF_PACKET as usize, libc::SOCK_RAW as usize, 0x0300],
    ))
}

/// The cryptography of the kernel.
pub(crate) fn alg() -> Outcome {
    Outcome::of(raw::call(
        libc::SYS_socket,
        &[libc::AF_ALG as usize, libc::SOCK_SEQPACKET as usize, 0],
    ))
}

pub(crate) fn raw_inet() -> Outcome {
    Outcome::of(raw::call(
        libc::SYS_socket,
        &[
            libc::AF_INET as usize,
            libc::SOCK_RAW as usize,
            libc::IPPROTO_ICMP as usize,
        ],
    ))
}

pub(crate) fn outside() -> Outcome {
    connect((Ipv4Addr::new(8, 8, 8, 8), 53).into())
}

pub(crate) fn outside_v6() -> Outcome {
    connect((Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888), 53).into())
}

pub(crate) fn outside_udp() -> Outcome {
    let send = || UdpSocket::bind("0.0.0.0:0")?.send_to(b"x", "8.8.8.8:53");
    Outcome::of_io(send())
}

/// Where a cloud tells its machines their secrets.
pub(crate) fn metadata() -> Outcome {
    connect((Ipv4Addr::new(169, 254, 169, 254), 80).into())
}

/// A service that listens on the host's own loopback device.
pub(crate) fn host_loopback() -> Outcome {
    connect(
        (
            Ipv4Addr::LOCALHOST,
            host::var(host::PORT).parse().expect("a port"),
        )
            .into(),
    )
}

pub(super) fn connect(to: SocketAddr) -> Outcome {
    match TcpStream::connect_timeout(&to, Duration::from_secs(5)) {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Outcome::value("timed out"),
        result => Outcome::of_io(result),
    }
}

pub(crate) fn interfaces() -> Outcome {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let names: Vec<_> = text
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim()))
        .collect();
    Outcome::value(names.join(","))
}

/// Switch a device off.
pub(crate) fn interface_down() -> Outcome {
    let Ok(socket) = raw::call(
        libc::SYS_socket,
        &[libc::AF_INET as usize, libc::SOCK_DGRAM as usize, 0],
    ) else {
        return Outcome::Absent;
    };
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    Outcome::of(raw::call(
        libc::SYS_ioctl,
        &[socket, libc::SIOCSIFFLAGS as usize, raw::at(&request)],
    ))
}

pub(crate) fn abstract_socket() -> Outcome {
    let address = std::os::unix::net::SocketAddr::from_abstract_name(host::var(host::ABSTRACT));
    Outcome::of_io(address.and_then(|address| UnixStream::connect_addr(&address)))
}

pub(crate) fn path_socket() -> Outcome {
    Outcome::of_io(UnixStream::connect(host::var(host::SOCKET)))
}

/// What happens to devices of the host, which the kernel tells to every network namespace of the host's own users.
pub(crate) fn device_events() -> Outcome {
    const KOBJECT_UEVENT: usize = 15;
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK;
    let socket = match raw::call(
        libc::SYS_socket,
        &[libc::AF_NETLINK as usize, kind as usize, KOBJECT_UEVENT],
    ) {
        Ok(socket) => socket,
        Err(errno) => return Outcome::Denied(errno),
    };
    // Family, number (the kernel chooses), group 1.
    let address = [libc::AF_NETLINK as u32, 0, 1];
    if let Err(errno) = raw::call(libc::SYS_bind, &[socket, raw::at(&address), 12]) {
        return Outcome::Denied(errno);
    }
    std::thread::sleep(Duration::from_millis(500));
    let buffer = [0u8; 4096];
    match raw::call(
        libc::SYS_recvfrom,
        &[socket, raw::at(&buffer), buffer.len(), 0, 0, 0],
    ) {
        Ok(_) => Outcome::Leaked("events of devices".to_owned()),
        Err(libc::EAGAIN) => Outcome::Hidden,
        Err(errno) => Outcome::Denied(errno),
    }
}
