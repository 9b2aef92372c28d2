//! The use cases over a database in memory, a real content store and a builder that does as it is told.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod ladder;
mod logs;
mod non_interference;
mod results;
mod runs;
#[path = "../support/mod.rs"]
mod support;
mod uploads;
