//! The worker protocol: a handshake, then requests one at a time, each answered by log messages and a reply or an error.

mod activity;
mod answer;
mod builds;
mod handshake;
mod op;
mod pulled;
mod queries;
mod request;
mod request_encode;
mod session;
mod stderr;
mod uploads;
mod version;

pub use op::Op;
pub use request::{AddToStore, Request};
pub use session::serve;
pub use stderr::{Field, StderrMessage};
pub use version::{REALISATION_WITH_PATH, Version};

/// `nixc`: a client's first word.
pub const CLIENT_MAGIC: u64 = 0x6e69_7863;
/// `dxio`: the server's first word.
pub const SERVER_MAGIC: u64 = 0x6478_696f;
