//! The use cases: upload, resolve, realise, share; and the ports that they need.
//!
//! [`House`] is the service of all accounts; [`AccountStore`] is what a session of one account can reach. This crate decides nothing
//! about trust or identity itself (that is `firn-core`), and knows no SQL, no SSH and no namespaces (those are behind [`ports`]).
//!
//! The order of events that every use case keeps: bytes are on disk before rows speak of them, rows are committed before a client is
//! told.

mod content_address;
mod house;
mod lines;
mod log;
mod patience;
pub mod ports;
mod realise;
mod refuse;
mod resolve;
mod run;
mod running;
mod signatures;
mod store;
mod sweep;
mod upload;

pub use house::{Clock, House, Settings, SystemClock};
pub use store::AccountStore;
pub use sweep::Swept;
pub use upload::AccountUpload;
