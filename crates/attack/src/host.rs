//! Variables that tell the attack what is outside of its sandbox, so that it knows what to look for.

/// Absolute path of a world-readable file of the host.
pub const FILE: &str = "hostFile";
/// Absolute path of the directory of the host in which all builds live.
pub const DIR: &str = "hostDir";
/// TCP port on 127.0.0.1 on which the host listens.
pub const PORT: &str = "hostPort";
/// Name of an abstract unix socket on which the host listens.
pub const ABSTRACT: &str = "hostAbstract";
/// Path of a unix socket on which the host listens.
pub const SOCKET: &str = "hostSocket";
/// Number of a process of the host.
pub const PID: &str = "hostPid";
/// Store path of an input, the tree with this program in it. It has a file `share/data`.
pub const INPUT: &str = "attack";

pub(crate) fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("${name} is not set"))
}

pub(crate) fn pid() -> i32 {
    var(PID).parse().expect("a number")
}

/// A data file of the input.
pub(crate) fn data() -> String {
    shared("data")
}

/// A file of the input with data for all.
pub(crate) fn shared(name: &str) -> String {
    format!("{}/share/{name}", var(INPUT))
}
