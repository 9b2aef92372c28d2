//! The worker protocol and the serve protocol, as a server.

mod build;
mod store;

pub use build::{BuildMode, BuildResult, BuildStatus, BuiltOutput, DerivedPath, OutputsSpec};
pub use store::{BuildOptions, ByteStream, LogEvent, LogSink, Missing, Store, StoreError, Upload};
