//! `UnkeyedValidPathInfo` in the serve protocol's form: other fields in another order than the worker protocol's.

use firn_nix::{NarHash, PathInfo, StorePath};
use tokio::io::AsyncBufRead;

use super::Version;
use crate::wire::{Decoder, Encoder, WireError};

impl<B: AsyncBufRead + Unpin + Send> Decoder<'_, B> {
    /// What `QueryPathInfos` says of a path. The hash is zeros before 2.4.
    ///
    /// # Errors
    /// [`WireError`]
    pub async fn serve_path_info(
        &mut self,
        path: StorePath,
        version: Version,
    ) -> Result<PathInfo, WireError> {
        let deriver = self.optional_path("deriver").await?;
        let references = self.paths("references").await?;
        self.u64("downloadSize").await?;
        let mut info = PathInfo {
            path,
            deriver,
            nar_hash: NarHash::new([0; 32]),
            references,
            registration_time: 0,
            nar_size: self.u64("narSize").await?,
            ultimate: false,
            signatures: Default::default(),
            ca: None,
        };
        if version.has_nar_hash() {
            info.nar_hash = self.nar_hash("narHash").await?;
            info.ca = self.optional_ca("ca").await?;
            info.signatures = self.texts("sigs").await?;
        }
        Ok(info)
    }
}

impl Encoder {
    /// What `QueryPathInfos` says of a path. The download size is the NAR's, as nothing is compressed on the way.
    pub fn serve_path_info(&mut self, info: &PathInfo, version: Version) -> &mut Self {
        self.optional_path(info.deriver.as_ref())
            .paths(&info.references)
            .u64(info.nar_size)
            .u64(info.nar_size);
        if version.has_nar_hash() {
            self.text(&info.nar_hash.to_string())
                .optional_ca(info.ca.as_ref())
                .texts(&info.signatures);
        }
        self
    }
}
