//! Queries for names, passed to the host's resolvers.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::packet::Ends;

/// Most queries without an answer. What comes beyond is lost: to give up an old one would not take it from the resolver.
const MOST: usize = 128;
const PATIENCE: Duration = Duration::from_secs(15);
const LARGEST: usize = 65_000;

struct Query {
    ends: Ends,
    bytes: Vec<u8>,
    socket: UdpSocket,
    turn: usize,
    asked: Instant,
}

/// Queries without an answer.
pub(super) struct Names {
    resolvers: Vec<SocketAddr>,
    queries: Vec<Query>,
}

impl Names {
    pub(super) fn new(resolvers: &[SocketAddr]) -> Self {
        Self {
            resolvers: resolvers.to_vec(),
            queries: Vec::new(),
        }
    }

    /// Pass a query on. Who asks again asks the next resolver. What cannot be passed on is lost, as datagrams are.
    pub(super) fn ask(&mut self, ends: Ends, bytes: &[u8]) {
        let now = Instant::now();
        self.queries.retain(|query| now - query.asked < PATIENCE);
        if self.queries.len() >= MOST {
            return;
        }
        let before = self.queries.iter().filter(|query| query.bytes == bytes);
        let turn = before.map(|query| query.turn + 1).max().unwrap_or(0);
        let Some(resolver) = self.resolvers.iter().cycle().nth(turn % MOST) else {
            return;
        };
        if let Ok(socket) = send(*resolver, bytes) {
            self.queries.push(Query {
                ends,
                bytes: bytes.to_vec(),
                socket,
                turn,
                asked: now,
            });
        }
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.queries.iter().map(|query| query.socket.as_fd())
    }

    /// Answers that have come.
    pub(super) fn answers(&mut self) -> Vec<(Ends, Vec<u8>)> {
        let mut answers = Vec::new();
        if self.queries.is_empty() {
            return answers;
        }
        let mut buffer = vec![0; LARGEST];
        self.queries.retain(|query| match query.socket.recv(&mut buffer) {
            Ok(length) => {
                answers.push((query.ends, buffer.get(..length).unwrap_or_default().to_vec()));
                false
            }
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        });
        answers
    }
}

fn send(resolver: SocketAddr, bytes: &[u8]) -> std::io::Result<UdpSocket> {
    let socket = if resolver.is_ipv4() {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?
    } else {
        UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?
    };
    socket.set_nonblocking(true)?;
    socket.connect(resolver)?;
    socket.send(bytes)?;
    Ok(socket)
}
