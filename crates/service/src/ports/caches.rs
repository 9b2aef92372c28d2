//! Binary caches of the world: what they say, and the bytes that they send. Nothing that comes from one is believed here.

use std::future::Future;

use firn_core::CacheUrl;
use firn_nix::StorePath;
use firn_nix::narinfo::NarInfo;
use firn_protocol::ByteStream;

/// What an account shows to a host. Never logged.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Login {
    /// User name; may be empty.
    pub user: String,
    /// Password or token.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(…)")
    }
}

/// What a cache says of itself (`nix-cache-info`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheInfo {
    /// Caches with a smaller number are asked first.
    pub priority: u32,
    /// Whether it likes being asked for many paths at once.
    pub want_mass_query: bool,
}

/// Why a cache gave nothing. Texts name the cache's address and are for the person who configured it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CacheError {
    /// It could not be reached, or a moment ago it could not; it is left alone for a while.
    #[error("{0}")]
    Unreachable(String),
    /// It wants a login, or another one.
    #[error("{0}")]
    Denied(String),
    /// It sent what no cache should send.
    #[error("{0}")]
    Bad(String),
}

/// Access to binary caches. Every method ends within a bounded time, whatever the cache does, and holds a bounded amount of memory.
///
/// Answers to requests with a login are remembered for that login only.
pub trait Caches: Send + Sync + 'static {
    /// What the cache says of itself. Remembered.
    fn about(
        &self,
        cache: &CacheUrl,
        login: Option<&Login>,
    ) -> impl Future<Output = Result<CacheInfo, CacheError>> + Send;

    /// The entry for a path, or `None` when the cache has none. Both answers are remembered for a while; concurrent questions for one
    /// path are one request.
    fn narinfo(
        &self,
        cache: &CacheUrl,
        login: Option<&Login>,
        path: &StorePath,
    ) -> impl Future<Output = Result<Option<NarInfo>, CacheError>> + Send;

    /// The unpacked NAR of an entry. The stream fails when the compressed file has another hash or size than the entry says, or when more
    /// than `nar_size` bytes come out; whether the NAR's own hash is right, the reader checks.
    fn nar(
        &self,
        cache: &CacheUrl,
        login: Option<&Login>,
        info: &NarInfo,
    ) -> impl Future<Output = Result<ByteStream, CacheError>> + Send;
}
