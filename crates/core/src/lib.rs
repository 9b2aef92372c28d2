//! What Firn says: the rules of evidence, views, build identity and reuse.
//!
//! Every rule is a total function over plain values. No tokio, no files, no clock, no randomness, no database: the caller fetches
//! facts, asks here, and carries out the answer.
//!
//! ```
//! use firn_core::{EvidenceKind, preferred};
//! // What was built for the account is preferred to what it uploaded itself.
//! assert!(preferred(EvidenceKind::Built, EvidenceKind::Uploaded));
//! ```

mod account;
mod build_key;
mod cache_url;
mod evidence;
mod reuse;
mod view;

pub use account::{AccountId, AccountName, AccountNameError, BuildId};
pub use build_key::{BuildKey, EnvironmentClass, InputMapping};
pub use cache_url::{CacheUrl, CacheUrlError};
pub use evidence::{Claim, EvidenceKind, Object, preferred};
pub use reuse::{Facts, Reuse, Rung, decide};
pub use view::{Choice, View, Why};
