//! The terminal that is the builder's output, and terminals in general.

use crate::{Outcome, raw};

/// Put a byte into the input of whoever reads the terminal.
pub(crate) fn push_input() -> Outcome {
    ioctl(libc::TIOCSTI as usize, raw::text("x"))
}

/// Load the driver of a line discipline, of a modem for example.
pub(crate) fn line_discipline() -> Outcome {
    let hdlc = 13u32;
    ioctl(0x5423, raw::at(&hdlc))
}

pub(crate) fn console() -> Outcome {
    ioctl(0x541c, raw::text("\x06"))
}

fn ioctl(request: usize, argument: usize) -> Outcome {
    Outcome::of(raw::call(libc::SYS_ioctl, &[1, request, argument]))
}

/// How many terminals one build can take.
pub(crate) fn flood() -> Outcome {
    let path = raw::text("/dev/ptmx");
    for count in 0..1000 {
        let flags = (libc::O_RDWR | libc::O_NOCTTY) as usize;
        if let Err(errno) = raw::call(libc::SYS_openat, &[libc::AT_FDCWD as usize, path, flags, 0]) {
            return Outcome::value(format!("{count}, then {}", Outcome::Denied(errno)));
        }
    }
    Outcome::Reached
}

/// The number that the terminal has on the host.
pub(crate) fn number() -> Outcome {
    match std::fs::read_link("/proc/1/fd/1") {
        Ok(name) if name.starts_with("/dev/pts") => Outcome::Leaked("number of a terminal".to_owned()),
        Ok(_) => Outcome::Hidden,
        Err(error) => Outcome::of_io::<()>(Err(error)),
    }
}
