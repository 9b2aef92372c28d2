//! The terminal that the command writes to.

use std::os::fd::OwnedFd;

use rustix::fs::{Gid, Mode, Uid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::io_ext::Named;

pub(super) struct Pty {
    /// Non-blocking.
    pub(super) master: OwnedFd,
    pub(super) slave: OwnedFd,
}

/// A pseudo-terminal of the host in raw mode, so that bytes come out as they went in. The other end belongs to `owner`: a
/// command may open `/dev/stderr` again, which asks for permission on the device.
pub(super) fn open(owner: Option<(u32, u32)>) -> Result<Pty, String> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).named(|| "open /dev/ptmx")?;
    unlockpt(&master).named(|| "unlock the pseudo-terminal")?;
    let slave = ioctl_tiocgptpeer(&master, flags).named(|| "open the other end of the pseudo-terminal")?;
    let mut mode = tcgetattr(&slave).named(|| "tcgetattr")?;
    mode.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &mode).named(|| "tcsetattr")?;
    if let Some((uid, gid)) = owner {
        rustix::fs::fchown(&slave, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .named(|| "chown the pseudo-terminal")?;
    }
    rustix::fs::fchmod(&slave, Mode::RUSR | Mode::WUSR).named(|| "chmod the pseudo-terminal")?;
    rustix::io::ioctl_fionbio(&master, true).named(|| "make the pseudo-terminal non-blocking")?;
    Ok(Pty { master, slave })
}
