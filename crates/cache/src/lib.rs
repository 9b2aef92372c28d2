//! The client of binary caches: `http(s)://` and `file://`, as Nix reads them.
//!
//! It fetches what caches say and the bytes that they send, within bounds of time, memory and network. It refuses to know which caches
//! an account trusts: signatures and the hash of the NAR itself are for the reader to check.
//!
//! ```no_run
//! use firn_cache::{CacheClient, Options};
//! use firn_service::ports::{CacheError, Caches};
//!
//! async fn size(path: &firn_nix::StorePath) -> Result<Option<u64>, CacheError> {
//!     let client = CacheClient::new(Options::default())?;
//!     let cache = "https://cache.nixos.org".parse().map_err(|e| CacheError::Bad(format!("{e}")))?;
//!     Ok(client.narinfo(&cache, None, path).await?.map(|info| info.nar_size))
//! }
//! ```

mod about;
mod address;
mod breaker;
mod client;
mod decoder;
mod download;
mod fault;
mod feed;
mod file;
mod http;
mod network;
mod options;
mod packed;
mod pause;
mod remembered;
mod site;
mod small;
mod tls;
mod unpack;

pub use client::CacheClient;
pub use options::Options;
