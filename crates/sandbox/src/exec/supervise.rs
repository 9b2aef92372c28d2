//! The helper's loop: the child's messages, the log, the clock, and the caller that may go away.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::io_ext::Named;
use super::network::{self, Relaying};
use super::output::Output;
use super::spawn::{self, CONNECT, Child, MAP, NO_EXEC, READY};
use super::{idmap, pty};
use crate::wire::{self, Report};
use crate::{Exit, ExitKind, Network, SandboxSpec, sys};

/// Longest time to set a sandbox up.
const SETUP: Duration = Duration::from_secs(120);
/// Longest time from SIGKILL to the end.
const DEATH: Duration = Duration::from_secs(30);
/// Longest wait for the rest of the log once nobody can write to it any more.
const REST: Duration = Duration::from_secs(1);

struct Run<'a> {
    spec: &'a SandboxSpec,
    child: Child,
    /// Of the network, where that is relayed.
    relay: Option<Relaying>,
    output: Output,
    /// The child still has something to say: the command does not run yet.
    setting_up: bool,
    /// The child is about to execute the program.
    ready: bool,
    /// The caller holds a handle on the child and the child may go on.
    known: bool,
    began: Instant,
    last_output: Instant,
    /// Why the child was killed, and when.
    stopped: Option<(ExitKind, Instant)>,
}

/// What there is to do.
struct Ready {
    dead: bool,
    caller: bool,
    reader_gone: bool,
    relay_gone: bool,
    message: bool,
    log: bool,
}

/// Run the command to its end.
pub(super) fn run(spec: &SandboxSpec) -> Result<Report, String> {
    rustix::io::ioctl_fionbio(rustix::stdio::stdout(), true).named(|| "make standard output non-blocking")?;
    let pty = pty::open(spec.host_ids)?;
    let child = spawn::spawn(spec, pty.slave)?;
    super::report_line(&Report::Born {
        pid: child.pid.as_raw_nonzero().get(),
    });
    let now = Instant::now();
    let mut run = Run {
        spec,
        child,
        relay: None,
        output: Output::new(pty.master, spec.limits.log_bytes),
        setting_up: true,
        ready: false,
        known: false,
        began: now,
        last_output: now,
        stopped: None,
    };
    if !run.until_dead()? {
        let pid = run.child.pid.as_raw_nonzero().get();
        return Ok(Report::Unkillable {
            pid,
            seconds: DEATH.as_secs(),
        });
    }
    run.finish()
}

impl Run<'_> {
    /// `false`: it does not die.
    fn until_dead(&mut self) -> Result<bool, String> {
        loop {
            let ready = self.wait()?;
            if ready.caller {
                self.answer();
            }
            if ready.reader_gone {
                self.stop(ExitKind::Cancelled);
            }
            if ready.relay_gone {
                self.stop(ExitKind::SetupFailed(
                    "the process that relays the network ended early".to_owned(),
                ));
            }
            if ready.message {
                self.hear();
            }
            if ready.log && self.output.fill() {
                self.last_output = Instant::now();
            }
            self.deliver();
            if self.output.over_limit() {
                self.stop(ExitKind::LogLimit);
            }
            if ready.dead {
                // A short command has ended before all of its messages were heard. The end of the file is certain now.
                while self.setting_up {
                    self.hear();
                }
                return Ok(true);
            }
            match (self.deadline(), &self.stopped) {
                (Some((at, _)), Some(_)) if at <= Instant::now() => return Ok(false),
                (Some((at, why)), None) if at <= Instant::now() => self.stop(why),
                _ => {}
            }
        }
    }

    /// The next moment at which something is over, and what.
    fn deadline(&self) -> Option<(Instant, ExitKind)> {
        if let Some((_, at)) = &self.stopped {
            return Some((*at + DEATH, ExitKind::Cancelled));
        }
        if self.setting_up {
            let why = format!("setting up took over {} seconds", SETUP.as_secs());
            return Some((self.began + SETUP, ExitKind::SetupFailed(why)));
        }
        let limits = &self.spec.limits;
        let wall = limits
            .wall
            .and_then(|limit| self.began.checked_add(limit))
            .map(|at| (at, ExitKind::TimedOut));
        let silent = limits.silent.filter(|_| !self.output.waiting());
        let silent = silent
            .and_then(|limit| self.last_output.checked_add(limit))
            .map(|at| (at, ExitKind::SilentTimedOut));
        wall.into_iter().chain(silent).min_by_key(|(at, _)| *at)
    }

    fn wait(&self) -> Result<Ready, String> {
        let stdout = rustix::stdio::stdout();
        let stdin = rustix::stdio::stdin();
        // A place that is not waited for is an entry without events; errors are reported regardless, and ignored.
        let dead = PollFd::new(&self.child.pidfd, PollFlags::IN);
        let mut fds = vec![dead];
        let mut add = |wanted: bool, fd: BorrowedFd<'static>, flags| {
            wanted.then(|| {
                fds.push(PollFd::from_borrowed_fd(fd, flags));
                fds.len() - 1
            })
        };
        let live = self.stopped.is_none();
        let control = add(live, stdin, PollFlags::IN);
        let reader = add(
            live,
            stdout,
            if self.output.waiting() {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            },
        );
        let relay = self.relay.as_ref().filter(|_| live).map(|relay| {
            fds.push(PollFd::new(&relay.pidfd, PollFlags::IN));
            fds.len() - 1
        });
        let message = self.setting_up.then(|| {
            fds.push(PollFd::new(&self.child.socket, PollFlags::IN));
            fds.len() - 1
        });
        let log = self.output.source().map(|source| {
            fds.push(PollFd::from_borrowed_fd(source, PollFlags::IN));
            fds.len() - 1
        });
        let timeout = self
            .deadline()
            .map(|(at, _)| timespec(at.saturating_duration_since(Instant::now())));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("poll: {error}")),
        }
        let events = |at: Option<usize>| {
            at.and_then(|at| fds.get(at))
                .map_or(PollFlags::empty(), |fd| fd.revents())
        };
        Ok(Ready {
            dead: !events(Some(0)).is_empty(),
            caller: !events(control).is_empty(),
            reader_gone: events(reader).contains(PollFlags::ERR),
            relay_gone: !events(relay).is_empty(),
            message: !events(message).is_empty(),
            log: !events(log).is_empty(),
        })
    }

    fn hear(&mut self) {
        match spawn::hear(&self.child.socket) {
            Ok(Some((MAP, _))) => {
                if let Err(why) = idmap::write(self.child.pid, self.spec).and_then(|()| self.child.go()) {
                    self.stop(ExitKind::SetupFailed(why));
                }
            }
            Ok(Some((CONNECT, _))) => {
                if let Err(why) = self.connect().and_then(|()| self.child.go()) {
                    self.stop(ExitKind::SetupFailed(why));
                }
            }
            Ok(Some((READY, _))) => {
                self.ready = true;
                self.release();
            }
            Ok(Some((NO_EXEC, why))) => self.stop(ExitKind::NotExecutable(why)),
            Ok(Some((_, why))) => self.stop(ExitKind::SetupFailed(why)),
            Ok(None) | Err(_) if !self.ready => {
                self.stop(ExitKind::SetupFailed(
                    "the child was killed during setup".to_owned(),
                ));
            }
            Ok(None) | Err(_) => {
                self.setting_up = false;
                self.began = Instant::now();
                self.last_output = self.began;
            }
        }
    }

    fn connect(&mut self) -> Result<(), String> {
        if let (Network::Relayed(relay), None) = (&self.spec.network, &self.relay) {
            self.relay = Some(network::start(self.spec, relay, &self.child.pidfd)?);
        }
        Ok(())
    }

    /// The caller said something: once that it knows the child, else that it is gone.
    fn answer(&mut self) {
        let mut byte = [0];
        let length = rustix::io::read(rustix::stdio::stdin(), &mut byte).unwrap_or(0);
        if length == 1 && byte == [wire::GO] && !self.known {
            self.known = true;
            self.release();
        } else {
            self.stop(ExitKind::Cancelled);
        }
    }

    /// Let the child become the command, when both sides are ready.
    fn release(&mut self) {
        if self.ready
            && self.known
            && let Err(why) = self.child.go()
        {
            self.stop(ExitKind::SetupFailed(why));
        }
    }

    fn deliver(&mut self) {
        if self.output.waiting() {
            if self.output.flush(rustix::stdio::stdout()).is_err() {
                self.stop(ExitKind::Cancelled);
            } else if !self.output.waiting() {
                self.last_output = Instant::now();
            }
        }
    }

    /// Kill everything inside; the first reason counts.
    fn stop(&mut self, why: ExitKind) {
        if self.stopped.is_none() {
            if why == ExitKind::Cancelled {
                self.output.stop();
            }
            self.setting_up = false;
            self.stopped = Some((why, Instant::now()));
            self.child.kill();
        }
    }

    /// Everything inside is dead. Take what it ended with, and the rest of the log.
    fn finish(mut self) -> Result<Report, String> {
        let wall = self.began.elapsed();
        self.relay = None;
        let reaped = sys::wait(self.child.pid).named(|| "wait for the command")?;
        self.drain();
        let status = match self.stopped {
            Some((why, _)) => why,
            None if libc::WIFSIGNALED(reaped.status) => ExitKind::Signalled(libc::WTERMSIG(reaped.status)),
            None => ExitKind::Exited(libc::WEXITSTATUS(reaped.status)),
        };
        Ok(Report::Ended(Exit {
            status,
            user: reaped.user,
            system: reaped.system,
            max_rss_bytes: reaped.max_rss_bytes,
            wall,
            log_bytes: self.output.delivered(),
        }))
    }

    /// Waits for the reader as long as there is one, for the terminal only shortly.
    fn drain(&mut self) {
        let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
        loop {
            self.output.fill();
            if self.output.flush(stdout).is_err() {
                return;
            }
            let mut fds = vec![PollFd::from_borrowed_fd(stdin, PollFlags::IN)];
            let mut timeout = None;
            if self.output.waiting() {
                fds.push(PollFd::from_borrowed_fd(stdout, PollFlags::OUT));
            } else if let Some(source) = self.output.source() {
                fds.push(PollFd::from_borrowed_fd(source, PollFlags::IN));
                timeout = Some(timespec(REST));
            } else {
                return;
            }
            let count = poll(&mut fds, timeout.as_ref());
            if count != Ok(0) && fds.first().is_some_and(|fd| fd.revents().is_empty()) {
                continue;
            }
            return;
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
