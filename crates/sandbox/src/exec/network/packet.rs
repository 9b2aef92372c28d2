//! What packets of the command are, and the answers that are no TCP.

use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable, Icmpv6Packet, Icmpv6Repr,
    IpAddress, IpProtocol, IpRepr, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpPacket, UdpPacket, UdpRepr,
};

/// Bytes of a refused packet's contents that its refusal repeats: both ports and a sequence number are in it.
const QUOTED: usize = 64;
const HOPS: u8 = 64;

/// One connection of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
}

/// What the relay makes of a packet.
pub(super) enum Packet<'a> {
    /// The first of a connection.
    Syn(Ends),
    /// The rest.
    Segment(Ends),
    Datagram(Ends, &'a [u8]),
    /// Pieces, and what is neither.
    Other,
}

pub(super) fn look(packet: &[u8]) -> Packet<'_> {
    look_into(packet).unwrap_or(Packet::Other)
}

/// Addresses, protocol and contents.
fn open(packet: &[u8]) -> Option<(IpAddr, IpAddr, IpProtocol, &[u8])> {
    match packet.first()? >> 4 {
        4 => {
            let ip = Ipv4Packet::new_checked(packet).ok()?;
            let whole = !ip.more_frags() && ip.frag_offset() == 0;
            let contents = Ipv4Packet::new_checked(packet).ok()?;
            let (start, end) = (
                usize::from(contents.header_len()),
                usize::from(contents.total_len()),
            );
            whole.then_some(())?;
            Some((
                ip.src_addr().into(),
                ip.dst_addr().into(),
                ip.next_header(),
                packet.get(start..end)?,
            ))
        }
        6 => {
            let ip = Ipv6Packet::new_checked(packet).ok()?;
            let (start, end) = (ip.header_len(), ip.total_len());
            Some((
                ip.src_addr().into(),
                ip.dst_addr().into(),
                ip.next_header(),
                packet.get(start..end)?,
            ))
        }
        _ => None,
    }
}

fn look_into(packet: &[u8]) -> Option<Packet<'_>> {
    let (source, target, protocol, contents) = open(packet)?;
    let ends = |from, to| Ends {
        from: SocketAddr::new(source, from),
        to: SocketAddr::new(target, to),
    };
    match protocol {
        IpProtocol::Tcp => {
            let tcp = TcpPacket::new_checked(contents).ok()?;
            let ends = ends(tcp.src_port(), tcp.dst_port());
            Some(if tcp.syn() && !tcp.ack() {
                Packet::Syn(ends)
            } else {
                Packet::Segment(ends)
            })
        }
        IpProtocol::Udp => {
            let udp = UdpPacket::new_checked(contents).ok()?;
            let (start, end) = (8, usize::from(udp.len()));
            Some(Packet::Datagram(
                ends(udp.src_port(), udp.dst_port()),
                contents.get(start..end)?,
            ))
        }
        _ => None,
    }
}

/// Why a packet goes nowhere.
#[derive(Clone, Copy)]
pub(super) enum Refusal {
    /// It may not.
    Forbidden,
    /// There is no way.
    Unreachable,
}

/// The ICMP message that tells the command's kernel, so that its program need not wait.
pub(super) fn refusal(packet: &[u8], why: Refusal) -> Option<Vec<u8>> {
    let (source, target, protocol, contents) = open(packet)?;
    let data = contents.get(..QUOTED.min(contents.len()))?;
    let sums = ChecksumCapabilities::default();
    match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let header = |src_addr, dst_addr, next_header, payload_len| Ipv4Repr {
                src_addr,
                dst_addr,
                next_header,
                payload_len,
                hop_limit: HOPS,
            };
            let icmp = Icmpv4Repr::DstUnreachable {
                reason: match why {
                    Refusal::Forbidden => Icmpv4DstUnreachable::NetProhibited,
                    Refusal::Unreachable => Icmpv4DstUnreachable::HostUnreachable,
                },
                header: header(source, target, protocol, contents.len()),
                data,
            };
            let ip = header(target, source, IpProtocol::Icmp, icmp.buffer_len());
            Some(emit(&IpRepr::Ipv4(ip), |payload| {
                icmp.emit(&mut Icmpv4Packet::new_unchecked(payload), &sums);
            }))
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            let header = |src_addr, dst_addr, next_header, payload_len| Ipv6Repr {
                src_addr,
                dst_addr,
                next_header,
                payload_len,
                hop_limit: HOPS,
            };
            let icmp = Icmpv6Repr::DstUnreachable {
                reason: match why {
                    Refusal::Forbidden => Icmpv6DstUnreachable::AdminProhibit,
                    Refusal::Unreachable => Icmpv6DstUnreachable::AddrUnreachable,
                },
                header: header(source, target, protocol, contents.len()),
                data,
            };
            let ip = header(target, source, IpProtocol::Icmpv6, icmp.buffer_len());
            Some(emit(&IpRepr::Ipv6(ip), |payload| {
                icmp.emit(&target, &source, &mut Icmpv6Packet::new_unchecked(payload), &sums);
            }))
        }
        _ => None,
    }
}

/// The answer to a datagram.
pub(super) fn datagram(ends: &Ends, bytes: &[u8]) -> Vec<u8> {
    let udp = UdpRepr {
        src_port: ends.to.port(),
        dst_port: ends.from.port(),
    };
    let (source, target) = (IpAddress::from(ends.to.ip()), IpAddress::from(ends.from.ip()));
    let length = udp.header_len() + bytes.len();
    let ip = IpRepr::new(source, target, IpProtocol::Udp, length, HOPS);
    emit(&ip, |payload| {
        udp.emit(
            &mut UdpPacket::new_unchecked(payload),
            &source,
            &target,
            bytes.len(),
            |to| to.copy_from_slice(bytes),
            &ChecksumCapabilities::default(),
        );
    })
}

fn emit(ip: &IpRepr, contents: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut packet = vec![0; ip.buffer_len()];
    ip.emit(&mut packet, &ChecksumCapabilities::default());
    if let Some(payload) = packet.get_mut(ip.header_len()..) {
        contents(payload);
    }
    packet
}
