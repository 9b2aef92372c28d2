//! The client of binary caches: `http(s)://` and `file://`, as Nix reads them.
//!
//! It fetches what caches say and the bytes that they send, within bounds of time, memory and network. It refuses to know which caches
//! an account trusts: signatures and the hash of the NAR itself are for the reader to check. Nothing is shared between accounts but memory and
//! threads, and of these each has its part.
//!
//! ```no_run
//! use firn_cache::{CacheClient, Options};
//! use firn_core::AccountId;
//! use firn_service::ports::{AccountCaches, Caches};
//!
//! async fn size(path: &firn_nix::StorePath) -> Result<Option<u64>, Box<dyn std::error::Error>> {
//!     let client = CacheClient::new(Options::default())?.of(AccountId(1), None);
//!     let cache = "https://cache.nixos.org".parse()?;
//!     Ok(client.narinfo(&cache, None, path).await?.map(|info| info.nar_size))
//! }
//! ```

mod about;
mod account;
mod address;
mod asker;
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
mod recognise;
mod remembered;
mod site;
mod small;
mod tls;
mod unpack;

pub use account::AccountClient;
pub use client::{CacheClient, Unusable};
pub use options::Options;
