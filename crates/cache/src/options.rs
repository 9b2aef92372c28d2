//! What the operator decides.

use std::path::PathBuf;
use std::time::Duration;

/// How caches are asked. Every field has a default.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether caches may be in private networks (loopback, RFC 1918, link-local and the like). Default: no.
    pub allow_private_networks: bool,
    /// `file://` caches are allowed below these directories only. Default: none.
    pub file_roots: Vec<PathBuf>,
    /// More root certificates than the system's: a PEM file.
    pub extra_roots: Option<PathBuf>,
    /// Whether to use the proxies that the environment names. Where one is used, it decides which hosts can be reached, and names are not
    /// checked against `allow_private_networks`; where none is (`NO_PROXY`), they are. Default: no.
    pub proxy_from_environment: bool,
    /// Longest wait for a connection. Default: 5 s.
    pub connect_timeout: Duration,
    /// Longest time for the whole of a small file (`nix-cache-info`, narinfo), each attempt; after so long no further one begins.
    /// Default: 10 s.
    pub small_timeout: Duration,
    /// Longest wait for the next bytes of a NAR. Default: 60 s.
    pub stall_timeout: Duration,
    /// Time that a NAR's download may take whatever its size, spent waiting for the cache. Default: 60 s.
    pub grace: Duration,
    /// What it may take beyond that: the bytes that have come, at so many bytes a second. Default: 10 KiB.
    pub slowest: u64,
    /// How often a file is tried, as `download-attempts` of Nix; of a NAR counted anew after every 4 MiB. Default: 5.
    pub attempts: u32,
    /// First pause before trying again; doubles, with jitter. Default: 250 ms.
    pub pause: Duration,
    /// For how long a cache that could not be reached is left alone at first. Default: 10 s.
    pub left_alone: Duration,
    /// The longest that it is left alone after failing again and again. Default: 10 min.
    pub left_alone_longest: Duration,
    /// For how long "has no such path" is remembered for the account that asked, as `narinfo-cache-negative-ttl` of Nix. Default: 60 s, and
    /// not Nix's hour: who has just pushed to a cache asks again soon, and asking costs little.
    pub negative_ttl: Duration,
    /// For how long a narinfo, and what a cache says of itself, are remembered. Default: 1 h.
    pub positive_ttl: Duration,
    /// Memory for remembered answers, in bytes. Default: 64 MiB.
    pub remembered: u64,
    /// Most requests for small files to one cache at once. Default: 25, as Nix's `http-connections`.
    pub small_at_once: usize,
    /// Most NARs from one cache at once. Default: 25, as Nix's `http-connections`.
    pub nars_at_once: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allow_private_networks: false,
            file_roots: Vec::new(),
            extra_roots: None,
            proxy_from_environment: false,
            connect_timeout: Duration::from_secs(5),
            small_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(60),
            grace: Duration::from_secs(60),
            slowest: 10 << 10,
            attempts: 5,
            pause: Duration::from_millis(250),
            left_alone: Duration::from_secs(10),
            left_alone_longest: Duration::from_secs(600),
            negative_ttl: Duration::from_secs(60),
            positive_ttl: Duration::from_secs(3600),
            remembered: 64 << 20,
            small_at_once: 25,
            nars_at_once: 25,
        }
    }
}
