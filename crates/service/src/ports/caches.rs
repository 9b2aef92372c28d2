//! Binary caches of the world: what they say, and the bytes that they send. Nothing that comes from one is believed here.

use std::future::Future;
use std::time::Duration;

use firn_core::{AccountId, CacheUrl};
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

/// Why a cache gave nothing, for the person who configured it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cache '{cache}' {trouble}")]
pub struct CacheError {
    /// Its address, without parameters.
    pub cache: String,
    /// What is wrong with it.
    pub trouble: Trouble,
}

/// What is wrong with a cache: the rest of a sentence that begins with the cache.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No connection, a broken one, silence, 5xx, 429. It may pass.
    #[error("{0}")]
    Unreachable(String),
    /// A moment ago it could not be reached.
    #[error("is left alone for {seconds} s, because it {why}")]
    LeftAlone {
        /// For so long.
        seconds: u64,
        /// What it did.
        why: String,
    },
    /// The name of its host has no address.
    #[error("cannot be reached: the name '{0}' does not resolve")]
    UnknownHost(String),
    /// It wants a login, or another one (401, 403, 407).
    #[error("{} ({status}); to keep one: logins set HOST USER", if *.shown { "refuses the login for its host" } else { "wants a login" })]
    Login {
        /// What it answered.
        status: u16,
        /// Whether it was shown one.
        shown: bool,
    },
    /// Its host is this machine or in a private network.
    #[error(
        "cannot be used: the host '{0}' is this machine or in a private network, and the operator has not set caches.allow-private-networks"
    )]
    PrivateNetwork(String),
    /// A directory that the operator does not allow.
    #[error("is in no directory that the operator allows (caches.file-roots)")]
    Directory,
    /// It has no `nix-cache-info`.
    #[error("is not a binary cache: it has no nix-cache-info{}", status.map(|n| format!(" ({n})")).unwrap_or_default())]
    NoCacheInfo {
        /// What it answered, on the network.
        status: Option<u16>,
    },
    /// A page for people in the place of a cache's file.
    #[error("sends a web page in the place of {0}")]
    WebPage(&'static str),
    /// It is for another store directory.
    #[error("is for the store '{0}', not for {store}", store = firn_nix::STORE_DIR)]
    OtherStore(String),
    /// It has an entry, and not the file that the entry names.
    #[error("does not have the NAR of {0} that it names")]
    NoNar(StorePath),
    /// It sent something else that no cache should send.
    #[error("{0}")]
    Bad(String),
}

impl Trouble {
    /// Whether asking again may help, without anybody's doing anything.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::LeftAlone { .. } | Self::UnknownHost(_)
        )
    }

    /// Whether nothing that its owner does at that address makes it usable here.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::PrivateNetwork(_) | Self::Directory | Self::OtherStore(_)
        )
    }
}

/// Access to binary caches, for each account by itself: what one account asked, and what its caches did, decides nothing for another.
pub trait Caches: Send + Sync + 'static {
    /// See [`AccountCaches`].
    type Account: AccountCaches;

    /// The caches as one account asks them. That a cache has no such path is remembered for `misses` at most, where that is named.
    fn of(&self, account: AccountId, misses: Option<Duration>) -> Self::Account;
}

/// Every method ends within a bounded time, whatever the cache does, and holds a bounded amount of memory.
///
/// Answers to requests with a login are remembered for that login only.
pub trait AccountCaches: Send + Sync + 'static {
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

    /// The account does not believe an entry as it stands: it is asked for again soon, as the cache's owner may sign it.
    fn not_believed(
        &self,
        cache: &CacheUrl,
        login: Option<&Login>,
        path: &StorePath,
    ) -> impl Future<Output = ()> + Send;

    /// The unpacked NAR of an entry. The stream fails when the compressed file has another hash or size than the entry says, or when more
    /// than `nar_size` bytes come out; whether the NAR's own hash is right, the reader checks.
    fn nar(
        &self,
        cache: &CacheUrl,
        login: Option<&Login>,
        info: &NarInfo,
    ) -> impl Future<Output = Result<ByteStream, CacheError>> + Send;

    /// Forgets what is remembered for the account: answers, and that caches are left alone.
    fn refresh(&self);
}
