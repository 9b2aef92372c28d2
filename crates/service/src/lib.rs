//! The use cases: upload, substitute, resolve, realise, share, decide; and the ports that they need.
//!
//! [`House`] is the service of all accounts; [`AccountStore`] is what a session of one account can reach, [`Desk`] where an account decides
//! about itself. This crate decides nothing
//! about trust or identity itself (that is `firn-core`), and knows no SQL, no SSH and no namespaces (those are behind [`ports`]).
//!
//! The order of events that every use case keeps: bytes are on disk before rows speak of them, rows are committed before a client is
//! told.

mod content_address;
mod desk;
mod house;
mod keep;
mod known_keys;
mod lines;
mod log;
mod offers;
mod patience;
pub mod ports;
mod realise;
mod refuse;
mod resolve;
mod run;
mod running;
mod signatures;
mod signing;
mod single_flight;
mod store;
mod substitute;
mod sweep;
mod terms;
mod upload;

pub use desk::{Desk, ExplainedCandidate, Explanation, SettingRow, SigningKeyRow};
pub use firn_protocol::StoreError;
pub use house::{Clock, House, Settings, SystemClock};
pub use store::AccountStore;
pub use sweep::Swept;
pub use upload::AccountUpload;
