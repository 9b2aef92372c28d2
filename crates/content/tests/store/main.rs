//! The content store from outside.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure in a shared function is the test's failure"
)]

mod common;
mod crash;
mod diff;
mod flat;
mod ingest;
mod installed_nix;
mod properties;
mod rewrite;
mod walk;
