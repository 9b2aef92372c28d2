//! One connection: the command's half in our TCP, the host's half in the kernel's.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};

/// Bytes in each direction. Memory is used as they fill.
const BUFFER: usize = 256 << 10;

/// Milliseconds that the other side may leave what was sent unanswered.
const PATIENCE: u32 = 60_000;

pub(super) struct Flow {
    pub(super) host: TcpStream,
    pub(super) stage: Stage,
    /// What the host has to say is over.
    host_done: bool,
    /// What the command has to say is over, and the host knows.
    command_done: bool,
    /// The host takes no more for the moment.
    full: bool,
}

pub(super) enum Stage {
    /// The host's half is not there yet. The packet with which the command began waits.
    Connecting(Vec<u8>),
    Open(SocketHandle),
}

/// Begin to connect.
pub(super) fn begin(to: SocketAddr, first: Vec<u8>) -> io::Result<Flow> {
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket: OwnedFd = socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    // Also when nobody is there any more to close it: what the other side does not take is thrown away.
    sockopt::set_tcp_user_timeout(&socket, PATIENCE)?;
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let host = TcpStream::from(socket);
    let _ = host.set_nodelay(true);
    Ok(Flow {
        host,
        stage: Stage::Connecting(first),
        host_done: false,
        command_done: false,
        full: false,
    })
}

/// A socket of our TCP that waits for the command's first packet.
pub(super) fn listener(at: SocketAddr) -> Option<Socket<'static>> {
    let buffer = || SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(None);
    socket
        .listen((smoltcp::wire::IpAddress::from(at.ip()), at.port()))
        .ok()?;
    Some(socket)
}

impl Flow {
    /// What to wait for at the host's half.
    pub(super) fn interest(&self, socket: Option<&Socket<'_>>) -> PollFlags {
        let Some(socket) = socket else {
            return PollFlags::OUT;
        };
        let mut flags = PollFlags::empty();
        if !self.host_done && socket.can_send() {
            flags |= PollFlags::IN;
        }
        if self.full {
            flags |= PollFlags::OUT;
        }
        flags
    }

    /// Why the host could not connect.
    pub(super) fn error(&self) -> Option<Errno> {
        match sockopt::socket_error(&self.host) {
            Ok(Ok(())) => None,
            Ok(Err(error)) | Err(error) => Some(error),
        }
    }

    /// Move what there is in both directions. `false` when it is over.
    pub(super) fn pump(&mut self, socket: &mut Socket<'_>) -> bool {
        if self
            .send_on(socket)
            .and_then(|()| self.bring_back(socket))
            .is_err()
        {
            socket.abort();
        }
        !matches!(socket.state(), State::Closed | State::TimeWait)
    }

    fn send_on(&mut self, socket: &mut Socket<'_>) -> io::Result<()> {
        self.full = false;
        while socket.can_recv() && !self.full {
            let host = &mut self.host;
            let written = socket.recv(|bytes| match host.write(bytes) {
                Ok(length) => (length, Ok(())),
                Err(error) => (0, Err(error)),
            });
            match written {
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => self.full = true,
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(outcome) => outcome?,
                Err(_) => break,
            }
        }
        let ended = matches!(
            socket.state(),
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait
        );
        if ended && !socket.can_recv() && !self.command_done {
            self.command_done = true;
            // The host may have closed it already.
            let _ = self.host.shutdown(Shutdown::Write);
        }
        Ok(())
    }

    fn bring_back(&mut self, socket: &mut Socket<'_>) -> io::Result<()> {
        while socket.can_send() && !self.host_done {
            let host = &mut self.host;
            let read = socket.send(|space| match host.read(space) {
                Ok(length) => (length, Ok(length)),
                Err(error) => (0, Err(error)),
            });
            match read {
                Ok(Ok(0)) => {
                    self.host_done = true;
                    socket.close();
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
        }
        Ok(())
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.host.as_fd()
    }
}
