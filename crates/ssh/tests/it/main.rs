//! The front door under test: real OpenSSH clients knock on a door with scripted sessions.
#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod commands;
mod departures;
mod keys;
mod login;
mod places;
mod sessions;
mod shell;
mod support;
