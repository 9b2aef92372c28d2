//! Contents on disk: the bytes of store objects, each stored once under the SHA-256 of its NAR.
//!
//! A content is an unpacked, canonical, read-only tree at `trees/<2 hex>/<64 hex>`, ready to be mounted into a build:
//! files 0444 or 0555, directories 0555, every modification time 1, no hard links, so that equal NARs are equal trees to
//! whoever looks at them. It comes in through a staging area and takes its place by one renaming:
//!
//! [`ingest`](ContentStore::ingest) → [`Staged`] → [`publish`](ContentStore::publish) → [`sync`](ContentStore::sync)
//!
//! This crate refuses to know what a store path is, who brought a content, and who may see it. It believes nobody: what
//! comes in is parsed strictly and named by its own hash.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! use firn_content::{ContentStore, FlatOptions};
//! use tokio::io::AsyncReadExt as _;
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let store = ContentStore::open(dir)?;
//! let options = FlatOptions { executable: false, max_size: 1 << 20, algorithms: vec![] };
//! let (staged, _hashes) = store.ingest_flat(&mut &b"hello\n"[..], options, None).await?;
//! let hash = staged.hash();
//! store.publish([staged]).await?;
//! store.sync([hash]).await?;
//!
//! assert_eq!(std::fs::read(store.tree(&hash))?, b"hello\n");
//! let mut nar = Vec::new();
//! store.read_nar(&hash).await?.read_to_end(&mut nar).await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod blocking;
mod diff;
mod doubt;
mod error;
mod extent;
mod flat;
mod hashing;
mod held;
mod ingest;
mod list;
mod nar_stream;
mod output;
mod publish;
mod pump;
mod remove;
mod rewrite;
mod session;
mod staged;
mod store;
mod sync;
mod tree_writer;
mod verify;
mod walk;

pub use diff::{Change, Difference};
pub use error::{ContentError, IngestError};
pub use flat::FlatOptions;
pub use hashing::FlatHashes;
pub use ingest::{Arriving, IngestOptions, Observer};
pub use nar_stream::NarStream;
pub use remove::remove_tree;
pub use staged::Staged;
pub use store::ContentStore;
pub use walk::{Stopped, WalkError, WalkLimits, WalkPolicy, WalkProblem, walk};
