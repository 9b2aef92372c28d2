//! Metadata: accounts, evidence and build results in SQLite or PostgreSQL.
//!
//! Implements the ports [`Accounts`](firn_service::ports::Accounts), [`Policies`](firn_service::ports::Policies),
//! [`Views`](firn_service::ports::Views) and [`Builds`](firn_service::ports::Builds). A method is one transaction: when it has answered, the answer is on disk, and when it has
//! failed, nothing happened. It refuses to know what rows *mean*: which evidence an account should believe is `firn-core`'s to say,
//! whether a signature is right its callers', and where bytes lie `firn-content`'s. What it does know is who may see which row.
//!
//! Every query has one text for both databases; what must differ is in `dialect.rs`. The tables are in `migrations/`.
//!
//! ```
//! use firn_core::AccountName;
//! use firn_db::SqliteDatabase;
//! use firn_service::ports::{Accounts as _, Gives};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let database = SqliteDatabase::open(&directory.path().join("firn.sqlite")).await?;
//! let account = database.create_account(&AccountName::parse("alice")?, "alice-1:…", Gives::ALL, 1_700_000_000).await?;
//! assert_eq!(database.account(&account.name).await?, Some(account));
//! database.close().await;
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new()?.block_on(example())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod accounts;
mod any;
mod builds;
mod claim_batch;
mod contents;
mod counter;
mod decode;
mod dialect;
mod driver;
mod error;
mod evidence;
mod failures;
mod gives;
mod grounds;
mod history;
mod inputs;
mod logins;
mod marks;
mod objects;
mod occupant;
mod policies;
mod postgres;
mod proofs;
mod public_keys;
mod query;
mod realisations;
mod recording;
mod relations;
mod removal;
mod requests;
mod results;
mod runs;
mod settings;
mod shared;
mod signing_keys;
mod sqlite;
mod told;
mod usage;
mod views;

pub use any::AnyDatabase;
pub use driver::Repository;
pub use error::OpenError;
pub use occupant::Occupant;
pub use postgres::{Postgres, PostgresDatabase};
pub use sqlite::{Sqlite, SqliteDatabase};
