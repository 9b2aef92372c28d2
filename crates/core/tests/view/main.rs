//! The choice of a view: against a naive model, and as a table.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod against_model;
mod model;
mod order;
mod support;
