//! Errors that name what was done.

use std::fmt::Display;
use std::io;

/// Says what failed. The text ends up in [`ExitKind::SetupFailed`](crate::ExitKind::SetupFailed).
pub(super) trait Named<T> {
    fn named<D: Display>(self, what: impl FnOnce() -> D) -> Result<T, String>;
}

impl<T, E: Into<io::Error>> Named<T> for Result<T, E> {
    fn named<D: Display>(self, what: impl FnOnce() -> D) -> Result<T, String> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            let missing = match error.raw_os_error() {
                Some(libc::ENOSYS) => " (this kernel does not have the call)",
                _ => "",
            };
            format!("{}: {error}{missing}", what())
        })
    }
}
