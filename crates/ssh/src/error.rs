//! Why the front door as a whole could not open or had to close.

/// Why [`serve`](crate::serve) gave up. Failures of single connections are logged, not returned.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The listening socket has no address; it cannot accept.
    #[error("the SSH listening socket is not usable")]
    Listener(#[source] std::io::Error),
}
