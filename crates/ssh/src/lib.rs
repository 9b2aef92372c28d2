//! The SSH front door: public key → account, exec or shell request → byte-stream session.
//!
//! An in-process SSH server. It authenticates by public key only, reads the exec request as one of the few
//! commands a Nix client sends or as a command of the service's own ([`Command`]), and hands stdin, stdout and stderr
//! of the channel to the house behind the [`FrontDoor`] trait. Of a terminal it knows the size. There is no system shell,
//! no forwarding, no subsystem.
//!
//! It refuses to know: Nix wire formats, stores, builds, the database, what an account is. A session is a
//! duplex byte stream to it, an account an opaque value.
//!
//! What a session can rely on:
//! - **Back-pressure.** A session that does not read stops the client through TCP; a client that does not read
//!   stops the session. Memory per connection stays bounded in both directions.
//! - **Whole answers.** Everything that was written to stdout and stderr reaches the client before the exit
//!   status, the end of file and the close of the channel.
//! - **The client's end is seen.** An end of file from the client is an end of file on stdin. A client that
//!   disconnects, or that answers no keepalive, is [`ConnectionAborted`](std::io::ErrorKind::ConnectionAborted)
//!   on stdin and [`BrokenPipe`](std::io::ErrorKind::BrokenPipe) on stdout; a session that ignores both is
//!   dropped after [`Config::abandon_grace`].
//! - **Room for newcomers.** When there are no places left, whoever has the most connections loses one: an address before the login, an
//!   account after it.
//! - **Separate fates.** A connection that fails and a session that panics take nothing else with them.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use firn_ssh::{Command, Config, FrontDoor, HostKey, PublicKeyBlob};
//! # use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
//! struct Hello;
//!
//! impl FrontDoor for Hello {
//!     type Account = String;
//!
//!     async fn knows(&self, _key: &PublicKeyBlob) -> bool {
//!         true
//!     }
//!
//!     async fn authenticate(&self, _user: &str, key: &PublicKeyBlob) -> Option<String> {
//!         Some(key.fingerprint())
//!     }
//!
//!     async fn admits(&self, _account: &String) -> bool {
//!         true
//!     }
//!
//!     async fn revoked(&self, _account: &String) -> String {
//!         std::future::pending().await
//!     }
//!
//!     fn account_name(&self, account: &String) -> String {
//!         account.clone()
//!     }
//!
//!     async fn session<R, W, E>(
//!         &self,
//!         account: String,
//!         _command: Command,
//!         _env: Vec<(Vec<u8>, Vec<u8>)>,
//!         _stdin: R,
//!         mut stdout: W,
//!         _stderr: E,
//!     ) -> u32
//!     where
//!         R: AsyncRead + Send + Unpin + 'static,
//!         W: AsyncWrite + Send + Unpin + 'static,
//!         E: AsyncWrite + Send + Unpin + 'static,
//!     {
//!         let greeting = format!("hello {account}\n");
//!         u32::from(stdout.write_all(greeting.as_bytes()).await.is_err())
//!     }
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let key = HostKey::load_or_create("host_ed25519".as_ref())?;
//! let listener = tokio::net::TcpListener::bind("[::]:2222").await?;
//! let shutdown = tokio_util::sync::CancellationToken::new();
//! firn_ssh::serve(listener, key, Config::default(), Arc::new(Hello), shutdown).await?;
//! # Ok(())
//! # }
//! ```

mod algorithms;
mod channel;
mod command;
mod config;
mod connection;
mod crowd;
mod door;
mod error;
mod greeting;
mod host_key;
mod public_key;
mod serve;
mod session;
mod slots;
mod stdin;
mod stdout;
mod terminal;
mod wire;

pub use algorithms::Ciphers;
pub use command::{Command, CommandError, UnbalancedQuote, parse_command, split_words};
pub use config::Config;
pub use door::{FrontDoor, PublicKeyBlob};
pub use error::SshError;
pub use host_key::{HostKey, HostKeyError};
pub use public_key::{PublicKeyError, PublicKeyLine, parse_public_key_line};
pub use serve::{REVOKED_GRACE, serve};
pub use terminal::Terminal;
