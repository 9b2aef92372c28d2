//! Values that both protocols carry, as methods of [`Decoder`](crate::wire::Decoder) and [`Encoder`](crate::wire::Encoder).
//!
//! A server reads some of them and writes others; each goes both ways, so that recorded vectors can be checked in both directions.

mod build_result;
mod derivation;
mod derived_path;
mod path_info;
mod realisation;

pub use build_result::{OutputsFormat, ResultFormat};
pub use derived_path::{format_derived_path, parse_derived_path};
pub use realisation::{RealisationForm, format_realisation, parse_realisation};
