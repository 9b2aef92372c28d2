//! What Nix says: the data formats that decide names and bytes.
//!
//! Store paths, hashes, content addresses, derivations, NAR, narinfo, signatures, realisations and the reference scan. Everything
//! here is a total function over plain values: no files, no clock, no randomness, no async. It refuses to know about accounts,
//! trust or databases; those are `firn-core`'s.
//!
//! Every hashed value is bug-compatible with Nix: a store path computed here equals the one Nix computes.
//!
//! ```
//! use firn_nix::StorePath;
//! let path = StorePath::parse(b"/nix/store/00000000000000000000000000000000-hello-2.12")?;
//! assert_eq!(path.name(), "hello-2.12");
//! # Ok::<(), firn_nix::PathError>(())
//! ```

pub mod base32;
mod content_address;
pub mod derivation;
mod excerpt;
pub mod graph;
mod hash;
mod hash_parts;
pub mod json;
pub mod nar;
pub mod narinfo;
mod package_name;
mod path;
mod path_info;
pub mod realisation;
pub mod refscan;
pub mod rewrite;
mod rewrite_stream;
pub mod signature;
pub mod structured_attrs;

pub use content_address::{CaMethod, ContentAddress, ContentAddressError};
pub use derivation::{BasicDerivation, Derivation, DerivationOutput};
pub use excerpt::{EXCERPT, Words, excerpt, listed};
pub use hash::{Hash, HashAlgo, HashError, Hasher, NarHash};
pub use package_name::package_name;
pub use path::{PathError, STORE_DIR, StorePath, output_path_name};
pub use path_info::{PathInfo, fingerprint};
