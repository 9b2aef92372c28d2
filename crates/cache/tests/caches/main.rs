//! The client against scripted servers on loopback, directories, and caches that Nix has written.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed test is the point"
)]

mod accounts;
mod answers;
mod breaker;
mod breaks;
mod files;
mod fixtures;
mod http2;
mod nars;
mod networks;
mod real_nix;
mod redirects;
mod server;
mod tls;
