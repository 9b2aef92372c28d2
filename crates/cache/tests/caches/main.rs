//! The client against scripted servers on loopback, directories, and caches that Nix has written.

mod answers;
mod breaker;
mod breaks;
mod files;
mod fixtures;
mod nars;
mod networks;
mod real_nix;
mod redirects;
mod server;
