//! The attempts, by what they go for.

pub(crate) mod calls;
pub(crate) mod files;
pub(crate) mod host;
pub(crate) mod inputs;
pub(crate) mod marks;
pub(crate) mod mounts;
pub(crate) mod proc;
pub(crate) mod processes;
pub(crate) mod sockets;
pub(crate) mod special;
pub(crate) mod terminal;
