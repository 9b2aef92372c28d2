//! Primitives that both protocols share: numbers, padded strings, lists, frames.

mod decoder;
mod encoder;
mod framed;
mod limits;
mod nar_extent;
mod reader;
mod stall;
mod writer;

pub(crate) use decoder::parse_path;
pub use decoder::{Decoder, WireError};
pub use encoder::Encoder;
pub use framed::Framed;
pub use limits::WireLimits;
pub use nar_extent::{NarExtent, NarExtentError, SingleNar};
pub use reader::{Lost, WireReader};
pub use writer::WireWriter;
