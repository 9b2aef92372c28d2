//! The worker protocol and the serve protocol, as a server.
//!
//! A session speaks with one real Nix client over any byte stream and asks one [`Store`], which is one account's: nothing that a
//! session can say names another account. Worker protocol 1.18–1.38 (`ssh-ng://`, `nix-daemon --stdio`) is [`worker`], serve
//! protocol 2.1–2.7 (`ssh://`, `nix-store --serve`) is [`serve`].
//!
//! The crate refuses to know how a client was let in, where bytes and rows are kept, and how anything is built.
//!
//! ```no_run
//! use firn_protocol::{SessionError, SessionOptions, Store, worker};
//!
//! async fn session<S: Store>(store: &S, client: tokio::net::UnixStream) -> Result<(), SessionError> {
//!     let (reader, writer) = client.into_split();
//!     worker::serve(store, reader, writer, &SessionOptions::new("2.34.0 (Firn)")).await
//! }
//! ```

mod addressing;
mod build;
pub mod codec;
mod drive;
mod error;
mod memory;
mod options;
pub mod serve;
mod store;
pub mod wire;
pub mod worker;

pub use addressing::Addressing;
pub use build::{BuildMode, BuildResult, BuildStatus, BuiltOutput, DerivedPath, OutputsSpec};
pub use error::SessionError;
pub use memory::{Busy, FREE, Held, Memory};
pub use options::SessionOptions;
pub use store::{
    BuildOptions, ByteStream, ClientOptions, Doing, LogEvent, LogSink, MAX_WORDS, Missing, Store, StoreError,
    Upload,
};
