//! How much derivation sharing saves, as a function of the number of accounts and of how reproducible the builds are.
//!
//! A [`Graph`] of derivations, a [`Population`] of accounts that ask for some of its top-level derivations, and [`Params`] (what is
//! reproducible, what a public cache has, what accounts have built themselves) give [`Counts`]: how many requests each rung of the
//! reuse ladder answers. Accounts are remote builders or remote stores. Everything follows from the seed. `docs/simulation.md` says what is modelled and what is not.
//!
//! This crate refuses to know time, sizes and load: no clock, no bytes, no queue. A build has no duration here, so "joined" is
//! "shared". Only [`command`] touches files.
//!
//! ```
//! use firn_simulate::{Graph, Params, Share, simulate};
//! let graph = Graph::synthetic(200, 1);
//! let params = Params { accounts: 50, local: Share::percent(0.0), ..Params::default() };
//! let outcome = simulate(&graph, &params);
//! // Nobody uploads anything: each derivation runs once, reproducible or not.
//! assert_eq!(outcome.ordinary.built, outcome.ordinary.distinct);
//! ```

mod client;
pub mod command;
mod counts;
mod csv;
mod graph;
mod hash;
mod params;
mod population;
mod run;
mod scenario;
mod store;
mod svg;
mod synthetic;
mod table;
mod world;

pub use counts::{Counts, Outcome};
pub use csv::csv;
pub use graph::{Drv, Graph, GraphError};
pub use params::{Arrival, Order, Params, Share, TargetRange};
pub use population::Population;
pub use run::simulate;
pub use scenario::{Content, Scenario, Step};
pub use svg::svg;
pub use table::table;
pub use world::World;
