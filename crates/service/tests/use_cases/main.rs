//! The use cases over a database in memory, a real content store and a builder that does as it is told.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod defaults;
mod explain;
mod graphs;
mod junk_signatures;
mod ladder;
mod ledger;
mod lists;
mod logs;
mod non_interference;
mod queue;
mod realisations;
mod results;
mod runs;
mod self_references;
mod sessions;
mod settings;
mod signatures;
mod ssh_keys;
mod substitution;
#[expect(dead_code, unused_imports, reason = "other tests use the rest")]
#[path = "../support/mod.rs"]
mod support;
mod told_of_caches;
mod trust;
mod untrusted;
mod uploads;
