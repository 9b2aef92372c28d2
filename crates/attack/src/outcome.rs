//! What came of an attempt, and how it is written.

use std::fmt;
use std::io;

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel refused, with this error number.
    Denied(i32),
    /// It worked.
    Reached,
    /// Something was learned of the host or of others.
    Leaked(String),
    /// There is nothing of that name.
    Absent,
    /// It is there and says nothing.
    Empty,
    /// It does not show what was looked for.
    Hidden,
    /// Anything else.
    Value(String),
}

impl Outcome {
    pub(crate) fn value(text: impl fmt::Display) -> Self {
        Self::Value(text.to_string())
    }

    /// Success of a call is success of the attack.
    pub(crate) fn of<T>(result: Result<T, i32>) -> Self {
        match result {
            Ok(_) => Self::Reached,
            Err(errno) => Self::Denied(errno),
        }
    }

    pub(crate) fn of_io<T>(result: io::Result<T>) -> Self {
        Self::of(result.map_err(|error| error.raw_os_error().unwrap_or(0)))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(errno) => match name(*errno) {
                Some(name) => write!(f, "denied:{name}"),
                None => write!(f, "denied:{errno}"),
            },
            Self::Reached => f.write_str("reached"),
            Self::Leaked(what) => write!(f, "leaked:{what}"),
            Self::Absent => f.write_str("absent"),
            Self::Empty => f.write_str("empty"),
            Self::Hidden => f.write_str("hidden"),
            Self::Value(text) => write!(f, "value:{text}"),
        }
    }
}

fn name(errno: i32) -> Option<&'static str> {
    const NAMES: &[(i32, &str)] = &[
        (libc::E2BIG, "E2BIG"),
        (libc::EACCES, "EACCES"),
        (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::EBADF, "EBADF"),
        (libc::EBUSY, "EBUSY"),
        (libc::ECHILD, "ECHILD"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
        (libc::EEXIST, "EEXIST"),
        (libc::EFAULT, "EFAULT"),
        (libc::EHOSTUNREACH, "EHOSTUNREACH"),
        (libc::EINVAL, "EINVAL"),
        (libc::EIO, "EIO"),
        (libc::EISDIR, "EISDIR"),
        (libc::ELOOP, "ELOOP"),
        (libc::EMFILE, "EMFILE"),
        (libc::ENAMETOOLONG, "ENAMETOOLONG"),
        (libc::ENETUNREACH, "ENETUNREACH"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOENT, "ENOENT"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::ENOSPC, "ENOSPC"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::ENOTDIR, "ENOTDIR"),
        (libc::ENOTEMPTY, "ENOTEMPTY"),
        (libc::ENOTTY, "ENOTTY"),
        (libc::ENXIO, "ENXIO"),
        (libc::EOPNOTSUPP, "ENOTSUP"),
        (libc::EPERM, "EPERM"),
        (libc::EPROTONOSUPPORT, "EPROTONOSUPPORT"),
        (libc::EROFS, "EROFS"),
        (libc::ESOCKTNOSUPPORT, "ESOCKTNOSUPPORT"),
        (libc::ESRCH, "ESRCH"),
        (libc::ETIMEDOUT, "ETIMEDOUT"),
        (libc::ETXTBSY, "ETXTBSY"),
        (libc::EXDEV, "EXDEV"),
        (libc::ENODATA, "ENODATA"),
        (libc::EUSERS, "EUSERS"),
        (libc::ENOTBLK, "ENOTBLK"),
    ];
    NAMES
        .iter()
        .find(|(number, _)| *number == errno)
        .map(|(_, name)| *name)
}
