//! Real commands in real sandboxes. They need root (or user namespaces) and a static busybox; what cannot run says why.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod contents;
mod death;
mod environment;
mod fixture;
mod inherited;
mod limits;
mod network;
mod rights;
