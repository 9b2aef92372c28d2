//! The loop of the relay.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::Socket;
use smoltcp::time::Instant as Time;
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv6Address};

use super::device::MTU;
use super::flow::{self, Flow, Stage};
use super::names::Names;
use super::packet::{self, Ends, Packet, Refusal};
use super::policy;
use crate::{RESOLVER, Relay};

/// Most connections at a time.
const MOST: usize = 512;
/// Packets that are read before the others have their turn.
const BATCH: usize = 256;
/// Our address where there is only IPv6; nothing answers at it.
const SELF_V6: Ipv6Address = Ipv6Address::new(0xfd66, 0x6972, 0x6e00, 0, 0, 0, 0, 0x53);

/// Packets to and from the command.
struct Wire {
    tun: OwnedFd,
    /// Read, and for our TCP.
    waiting: VecDeque<Vec<u8>>,
}

impl Wire {
    /// A packet that finds no room is lost, as packets are.
    fn send(&self, packet: &[u8]) {
        let _ = rustix::io::write(&self.tun, packet);
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sender<'a>(&'a OwnedFd);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = vec![0; length];
        let result = f(&mut packet);
        let _ = rustix::io::write(self.0, &packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: Time) -> Option<(Received, Sender<'_>)> {
        let packet = self.waiting.pop_front()?;
        Some((Received(packet), Sender(&self.tun)))
    }

    fn transmit(&mut self, _: Time) -> Option<Sender<'_>> {
        Some(Sender(&self.tun))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = usize::from(MTU);
        capabilities
    }
}

/// A relay at work.
pub(super) struct Running {
    relay: Relay,
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    flows: HashMap<Ends, Flow>,
    names: Names,
    began: Instant,
}

impl Running {
    pub(super) fn new(tun: OwnedFd, relay: &Relay) -> io::Result<Self> {
        let mut wire = Wire {
            tun,
            waiting: VecDeque::new(),
        };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = RandomState::new().build_hasher().finish();
        let mut interface = Interface::new(config, &mut wire, Time::ZERO);
        // Every address is ours: whoever the command connects to, it talks to this TCP.
        interface.set_any_ip(true);
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::new(IpAddr::V4(RESOLVER).into(), 32));
            let _ = addresses.push(IpCidr::new(SELF_V6.into(), 128));
        });
        let full = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        interface
            .routes_mut()
            .add_default_ipv4_route(RESOLVER)
            .map_err(full)?;
        interface
            .routes_mut()
            .add_default_ipv6_route(SELF_V6)
            .map_err(full)?;
        Ok(Self {
            relay: relay.clone(),
            wire,
            interface,
            sockets: SocketSet::new(Vec::new()),
            flows: HashMap::new(),
            names: Names::new(&relay.resolvers),
            began: Instant::now(),
        })
    }

    fn time(&self) -> Time {
        Time::from_micros(i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    /// Until the helper is gone, which is an error like any other.
    pub(super) fn run(&mut self, helper: &OwnedFd) -> io::Result<Infallible> {
        let mut buffer = vec![0; usize::from(u16::MAX) + 1];
        loop {
            self.receive(&mut buffer)?;
            self.poll();
            self.pump();
            self.poll();
            self.wait(helper)?;
            for (ends, answer) in self.names.answers() {
                self.wire.send(&packet::datagram(&ends, &answer));
            }
        }
    }

    fn poll(&mut self) {
        let now = self.time();
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..BATCH {
            let length = match rustix::io::read(&self.wire.tun, &mut *buffer) {
                Ok(length) => length,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            self.take(buffer.get(..length).unwrap_or_default());
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) {
        match packet::look(bytes) {
            Packet::Syn(ends) if !self.flows.contains_key(&ends) => self.begin(ends, bytes),
            Packet::Syn(ends) | Packet::Segment(ends) => match self.flows.get(&ends) {
                // It says the same again.
                Some(Flow {
                    stage: Stage::Connecting(_),
                    ..
                }) => {}
                // Our TCP refuses what belongs to nothing.
                _ => self.wire.waiting.push_back(bytes.to_vec()),
            },
            Packet::Datagram(ends, query) if ends.to == (RESOLVER, 53).into() => {
                self.names.ask(ends, query);
            }
            Packet::Datagram(..) => self.refuse(bytes, Refusal::Forbidden),
            Packet::Other => {}
        }
    }

    fn refuse(&self, bytes: &[u8], why: Refusal) {
        if let Some(answer) = packet::refusal(bytes, why) {
            self.wire.send(&answer);
        }
    }

    fn begin(&mut self, ends: Ends, bytes: &[u8]) {
        let Some(to) = policy::destination(&self.relay, ends.to) else {
            return self.refuse(bytes, Refusal::Forbidden);
        };
        if self.flows.len() >= MOST {
            return self.refuse(bytes, Refusal::Unreachable);
        }
        match flow::begin(to, bytes.to_vec()) {
            Ok(flow) => {
                self.flows.insert(ends, flow);
            }
            Err(_) => self.refuse(bytes, Refusal::Unreachable),
        }
    }

    /// Move bytes, and see to connections that are new or over.
    fn pump(&mut self) {
        let all: Vec<Ends> = self.flows.keys().copied().collect();
        for ends in all {
            let Some(flow) = self.flows.get_mut(&ends) else {
                continue;
            };
            let goes_on = match flow.stage {
                Stage::Connecting(_) => self.connected(&ends),
                Stage::Open(handle) => {
                    let goes_on = flow.pump(self.sockets.get_mut::<Socket<'_>>(handle));
                    if !goes_on {
                        self.poll();
                        self.sockets.remove(handle);
                    }
                    goes_on
                }
            };
            if !goes_on {
                self.flows.remove(&ends);
            }
        }
    }

    /// Whether the host's half is there by now, or may still come.
    fn connected(&mut self, ends: &Ends) -> bool {
        let Some(flow) = self.flows.get_mut(ends) else {
            return false;
        };
        let mut fds = [PollFd::from_borrowed_fd(flow.host.as_fd(), PollFlags::OUT)];
        if poll(&mut fds, Some(&Timespec::default())) != Ok(1) {
            return true;
        }
        let error = flow.error();
        let Stage::Connecting(first) = &mut flow.stage else {
            return true;
        };
        let first = std::mem::take(first);
        match error {
            None => {
                let Some(socket) = flow::listener(ends.to) else {
                    return false;
                };
                flow.stage = Stage::Open(self.sockets.add(socket));
                // At once: of two that listen at one place each must get its own.
                self.wire.waiting.push_back(first);
                self.poll();
                true
            }
            Some(Errno::CONNREFUSED | Errno::CONNRESET) => {
                // Nothing listens, so our TCP refuses it.
                self.wire.waiting.push_back(first);
                self.poll();
                false
            }
            Some(_) => {
                self.refuse(&first, Refusal::Unreachable);
                false
            }
        }
    }

    fn wait(&mut self, helper: &OwnedFd) -> io::Result<()> {
        let now = self.time();
        let delay = self.interface.poll_delay(now, &self.sockets);
        let timeout = delay.map(|delay| Timespec {
            tv_sec: i64::try_from(delay.secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(delay.total_micros() % 1_000_000 * 1000).unwrap_or(0),
        });
        let mut fds = vec![
            PollFd::new(helper, PollFlags::IN),
            PollFd::new(&self.wire.tun, PollFlags::IN),
        ];
        for flow in self.flows.values() {
            let socket = match flow.stage {
                Stage::Open(handle) => Some(self.sockets.get::<Socket<'_>>(handle)),
                Stage::Connecting(_) => None,
            };
            let interest = flow.interest(socket);
            // Without an interest a closed connection would be reported again and again.
            if !interest.is_empty() {
                fds.push(PollFd::from_borrowed_fd(flow.fd(), interest));
            }
        }
        fds.extend(
            self.names
                .fds()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        match fds.first().map(PollFd::revents) {
            Some(events) if !events.is_empty() => Err(io::ErrorKind::BrokenPipe.into()),
            _ => Ok(()),
        }
    }
}
