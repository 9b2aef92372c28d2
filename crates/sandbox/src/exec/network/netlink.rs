//! Addresses and routes of this network namespace (rtnetlink(7)).

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

pub(super) struct Netlink(OwnedFd);

const REQUEST_ACK: u16 = 0x1 | 0x4;
const CREATE: u16 = 0x400;
const HEADER: usize = 16;

/// A message under construction, in the machine's byte order.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let mut this = Self(vec![0; 4]);
        this.u16(kind).u16(REQUEST_ACK | flags).u32(1).u32(0);
        this
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    /// Values are whole words here.
    fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.u16(length).u16(kind).bytes(value)
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

fn family(v6: bool) -> u8 {
    (if v6 { libc::AF_INET6 } else { libc::AF_INET }) as u8
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self(socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE.
            None,
        )?))
    }

    fn ask(&self, message: &mut Message) -> io::Result<()> {
        let length = u32::try_from(message.0.len()).unwrap_or(u32::MAX);
        if let Some(head) = message.0.first_chunk_mut::<4>() {
            *head = length.to_ne_bytes();
        }
        send(&self.0, &message.0, SendFlags::empty())?;
        let mut answer = [0; 4096];
        let (length, _) = recv(&self.0, &mut answer, RecvFlags::empty())?;
        let error = answer
            .get(..length)
            .and_then(|answer| answer.get(HEADER..)?.first_chunk::<4>());
        match error.map(|bytes| i32::from_ne_bytes(*bytes)) {
            Some(0) => Ok(()),
            Some(error) => Err(io::Error::from_raw_os_error(-error)),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    pub(super) fn up(&self, index: u32, mtu: u32) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        let mut message = Message::new(libc::RTM_NEWLINK, 0);
        message.bytes(&[0, 0]).u16(0).u32(index).u32(up).u32(up);
        self.ask(message.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes()))
    }

    /// That one address; nothing is in reach by having it.
    pub(super) fn address(&self, index: u32, address: IpAddr) -> io::Result<()> {
        const NO_DUPLICATE_DETECTION: u8 = 0x02;
        let bytes = octets(address);
        let prefix = (bytes.len() * 8) as u8;
        let mut message = Message::new(libc::RTM_NEWADDR, CREATE);
        message
            .bytes(&[family(address.is_ipv6()), prefix, NO_DUPLICATE_DETECTION, 0])
            .u32(index);
        message.attribute(libc::IFA_LOCAL, &bytes);
        self.ask(message.attribute(libc::IFA_ADDRESS, &bytes))
    }

    pub(super) fn default_route(&self, index: u32, v6: bool) -> io::Result<()> {
        let scope = if v6 {
            libc::RT_SCOPE_UNIVERSE
        } else {
            libc::RT_SCOPE_LINK
        };
        let [table, protocol, kind] = [libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, libc::RTN_UNICAST];
        let mut message = Message::new(libc::RTM_NEWROUTE, CREATE);
        message
            .bytes(&[family(v6), 0, 0, 0, table, protocol, scope, kind])
            .u32(0);
        self.ask(message.attribute(libc::RTA_OIF, &index.to_ne_bytes()))
    }
}
