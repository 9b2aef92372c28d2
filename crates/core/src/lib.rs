//! What Firn says: the rules of evidence, views, build identity and reuse.
//!
//! Every rule is a total function over plain values. No tokio, no files, no clock, no randomness, no database: the caller fetches
//! facts, asks here, and carries out the answer.
//!
//! ```
//! use firn_core::{Draft, Policy, AccountId};
//! // Without evidence there is nothing to see.
//! let policy = Policy::alone(AccountId(1));
//! assert_eq!(Draft::new(&policy).decide().objects().count(), 0);
//! ```

mod account;
mod build_key;
mod cache_url;
mod closure;
mod difference;
mod evidence;
mod ground;
mod isolation;
mod reach;
mod realisation;
mod reuse;
pub mod schedule;
mod setting_change;
mod settings;
mod view;

pub use account::{AccountId, AccountName, AccountNameError, BuildId};
pub use build_key::{BuildKey, EnvironmentClass, InputMapping, derivation_digest};
pub use cache_url::{CacheUrl, CacheUrlError};
pub use closure::Closure;
pub use difference::{Differing, Made, Step, differing, nearest, step};
pub use evidence::{Claim, Evidence, KeyId, Object, ObjectId, Origin, Policy, Trust, Witness};
pub use ground::{Ground, Standing};
pub use isolation::{Isolation, NoIsolation};
pub use reach::Reach;
pub use realisation::{RealisationClaim, RealisationEvidence, realisations_believed};
pub use reuse::{Facts, Reuse, Rung, decide};
pub use setting_change::{ChangeError, SettingChange};
pub use settings::{
    Definition, Effective, Kind, Layer, Level, MAX_WEIGHT, SETTINGS, SettingError, definition, layered,
};
pub use view::{Candidate, Choice, Draft, View, Why};
