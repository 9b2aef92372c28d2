//! The use cases: upload, substitute, resolve, realise, share, decide; and the ports that they need.
//!
//! [`House`] is the service of all accounts; [`AccountStore`] is what a session of one account can reach, [`Desk`] where an account decides
//! about itself. This crate decides nothing
//! about trust or identity itself (that is `firn-core`), and knows no SQL, no SSH and no namespaces (those are behind [`ports`]).
//!
//! The order of events that every use case keeps: bytes are on disk before rows speak of them, rows are committed before a client is
//! told.

mod brought_logs;
mod build_logs;
mod cache_states;
mod client_form;
mod compare_contents;
mod content_address;
mod desk;
mod detached;
mod discard;
mod explain_build;
mod findings;
mod graph;
mod ground;
mod hint;
mod house;
mod keep;
mod known_keys;
mod large;
mod ledger;
mod lines;
mod log;
mod new_keys;
mod offers;
mod one_line;
mod origin;
mod patience;
mod places;
mod policy_numbers;
pub mod ports;
mod presence;
mod queue;
mod realisations;
mod realise;
mod refuse;
mod reserve;
mod resolve;
mod run;
mod running;
mod signatures;
mod signing;
mod single_flight;
mod stop;
mod store;
mod substitute;
mod substituters;
mod sweep;
mod terms;
mod turns;
mod untrusted;
mod upload;
mod usage;
mod waiting;

pub use build_logs::{BuildLog, LogSource, RunningBuild};
pub use cache_states::CacheState;
pub use compare_contents::Compared;
pub use desk::{Desk, ExplainedCandidate, Explanation, SettingRow, SigningKeyRow};
pub use explain_build::{BuildExplanation, Cause, Comparison, DifferingInput};
pub use findings::{Finding, Refusal};
pub use firn_protocol::StoreError;
pub use house::{Clock, House, Settings, SystemClock};
pub use ledger::{Irreproducible, OtherBytes, Outcome, Reproducibility};
pub use new_keys::Proposed;
pub use origin::{Brought, Origin};
pub use places::shown as shown_difference;
pub use presence::{Presence, Rights};
pub use reserve::Room;
pub use stop::StoppedBuild;
pub use store::AccountStore;
pub use substituters::AddedCache;
pub use sweep::Swept;
pub use turns::{Turn, Turns, on_behalf_of};
pub use upload::AccountUpload;
pub use usage::Span;
