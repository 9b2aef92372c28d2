//! What a client asks of builds.

use tokio::io::AsyncBufRead;

use super::Version;
use crate::BuildOptions;
use crate::wire::{Decoder, Encoder, WireError};

/// Nix's `ServeProto::BuildOptions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServeBuildOptions {
    /// Its limits.
    pub limits: BuildOptions,
    /// How often to build again and compare. Nix dropped this; a request for it is refused.
    pub repeats: u64,
    /// Whether a difference between repeated builds is a failure.
    pub enforce_determinism: bool,
    /// Whether to leave the directory of a failed build; not done.
    pub keep_failed: bool,
}

impl ServeBuildOptions {
    /// Reads the fields that the version has.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn decode<B: AsyncBufRead + Unpin + Send>(
        d: &mut Decoder<'_, B>,
        version: Version,
    ) -> Result<Self, WireError> {
        let limit = |n: u64| (n > 0).then_some(n);
        let mut options = Self::default();
        options.limits.max_silent_time = limit(d.u64("maxSilentTime").await?);
        options.limits.timeout = limit(d.u64("buildTimeout").await?);
        if version.has_max_log_size() {
            options.limits.max_log_size = limit(d.u64("maxLogSize").await?);
        }
        if version.has_repeats() {
            options.repeats = d.u64("nrRepeats").await?;
            options.enforce_determinism = d.bool("enforceDeterminism").await?;
        }
        if version.has_keep_failed() {
            options.keep_failed = d.bool("keepFailed").await?;
        }
        Ok(options)
    }

    /// Writes the fields that the version has.
    pub fn encode(&self, version: Version, e: &mut Encoder) {
        e.u64(self.limits.max_silent_time.unwrap_or(0))
            .u64(self.limits.timeout.unwrap_or(0));
        if version.has_max_log_size() {
            e.u64(self.limits.max_log_size.unwrap_or(0));
        }
        if version.has_repeats() {
            e.u64(self.repeats).bool(self.enforce_determinism);
        }
        if version.has_keep_failed() {
            e.bool(self.keep_failed);
        }
    }
}
