//! Real commands in real sandboxes. They need root (or user namespaces) and a static busybox; what cannot run says why.

mod contents;
mod death;
mod environment;
mod fixture;
mod limits;
mod rights;
