//! The serve protocol: commands one at a time, no log messages and no errors but on a separate stream of text.

mod build_options;
mod import;
mod path_info;
mod request;
mod session;
mod version;

pub use build_options::ServeBuildOptions;
pub use request::{Command, Request};
pub use session::serve;
pub use version::Version;

/// A client's first word.
pub const CLIENT_MAGIC: u64 = 0x390c_9deb;
/// The server's first word.
pub const SERVER_MAGIC: u64 = 0x5452_eecb;
