//! `UnkeyedValidPathInfo` and `ValidPathInfo` in the worker protocol's 1.16 form.

use firn_nix::{ContentAddress, NarHash, PathInfo, StorePath};
use tokio::io::AsyncBufRead;

use crate::wire::{Decoder, Encoder, WireError};

impl<B: AsyncBufRead + Unpin + Send> Decoder<'_, B> {
    /// A content address; the empty string is none.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn optional_ca(&mut self, field: &'static str) -> Result<Option<ContentAddress>, WireError> {
        let text = self.text(field).await?;
        let parse = || ContentAddress::parse(&text).map_err(|e| WireError::invalid(field, e));
        (!text.is_empty()).then(parse).transpose()
    }

    /// A NAR hash without its algorithm, or in any spelling that Nix reads.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn nar_hash(&mut self, field: &'static str) -> Result<NarHash, WireError> {
        NarHash::parse(&self.text(field).await?).map_err(|e| WireError::invalid(field, e))
    }

    /// Everything about a path but the path.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn unkeyed_path_info(&mut self, path: StorePath) -> Result<PathInfo, WireError> {
        Ok(PathInfo {
            path,
            deriver: self.optional_path("deriver").await?,
            nar_hash: self.nar_hash("narHash").await?,
            references: self.paths("references").await?,
            registration_time: self.u64("registrationTime").await?,
            nar_size: self.u64("narSize").await?,
            ultimate: self.bool("ultimate").await?,
            signatures: self.texts("sigs").await?,
            ca: self.optional_ca("ca").await?,
        })
    }

    /// A path with everything about it.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn path_info(&mut self) -> Result<PathInfo, WireError> {
        let path = self.path("path").await?;
        self.unkeyed_path_info(path).await
    }
}

impl Encoder {
    /// A content address; none is the empty string.
    pub fn optional_ca(&mut self, ca: Option<&ContentAddress>) -> &mut Self {
        self.text(&ca.map(ToString::to_string).unwrap_or_default())
    }

    /// Everything about a path but the path.
    pub fn unkeyed_path_info(&mut self, info: &PathInfo) -> &mut Self {
        self.optional_path(info.deriver.as_ref())
            .text(&info.nar_hash.hex())
            .paths(&info.references)
            .u64(info.registration_time)
            .u64(info.nar_size)
            .bool(info.ultimate)
            .texts(&info.signatures)
            .optional_ca(info.ca.as_ref())
    }

    /// A path with everything about it.
    pub fn path_info(&mut self, info: &PathInfo) -> &mut Self {
        self.path(&info.path).unkeyed_path_info(info)
    }
}
