//! Export streams, as `nix-store --import` over `ssh://` and Hydra send them: each archive comes before its name.

use std::collections::BTreeSet;
use std::io::{self, Cursor};
use std::path::Path;

use firn_nix::StorePath;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeekExt as _, AsyncWrite, AsyncWriteExt as _};

use super::session::Session;
use crate::wire::{Decoder, SingleNar, WireError};
use crate::{SessionError, Store, StoreError, Upload as _};

/// `NIXE`: follows each archive of an export stream.
const EXPORT_MAGIC: u64 = 0x4558_494e;
/// Archives up to this size wait in memory, larger ones in a file without a name.
const IN_MEMORY: usize = 1 << 20;

impl<S, R, W, E> Session<'_, S, R, W, E>
where
    S: Store,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    E: AsyncWrite + Unpin + Send,
{
    pub(super) async fn import_paths(&mut self) -> Result<(), SessionError> {
        let (during, limits) = (self.during, &self.options.limits);
        let wire = |e| SessionError::from_wire(during, e);
        let mut upload = self.ask(self.store.begin_upload()).await?;
        loop {
            let more = Decoder::new(&mut self.reader, limits)
                .u64("next path")
                .await
                .map_err(wire)?;
            match more {
                0 => break,
                1 => {}
                n => return Err(wire(WireError::invalid("next path", n))),
            }
            let mut nar = SingleNar::new(&mut self.reader, limits.upload_bytes);
            let spooled = spool(&mut nar, &self.options.spool_dir).await;
            let mut nar = self.told(spooled.map_err(|e| {
                StoreError::new(format!("an archive of the export stream cannot be kept: {e}"))
            }))?;
            let mut d = Decoder::new(&mut self.reader, limits).holding(&mut self.held);
            let (path, references, deriver) = trailer(&mut d).await.map_err(wire)?;
            let added = upload.add_unsized(path, references, deriver, &mut nar).await;
            self.told(added)?;
        }
        self.ask(upload.commit()).await
    }
}

async fn trailer<B: tokio::io::AsyncBufRead + Unpin + Send>(
    d: &mut Decoder<'_, B>,
) -> Result<(StorePath, BTreeSet<StorePath>, Option<StorePath>), WireError> {
    let magic = d.u64("export magic").await?;
    if magic != EXPORT_MAGIC {
        return Err(WireError::invalid("export magic", format!("{magic:#x}")));
    }
    let path = d.path("path").await?;
    let references = d.paths("references").await?;
    let deriver = d.optional_path("deriver").await?;
    // A signature in a form that Nix itself has not read since 2.0.
    if d.bool("has signature").await? {
        d.short("signature").await?;
    }
    Ok((path, references, deriver))
}

async fn spool<R: AsyncRead + Unpin>(
    nar: &mut R,
    dir: &Path,
) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
    let mut head = Vec::new();
    nar.take(IN_MEMORY as u64).read_to_end(&mut head).await?;
    if head.len() < IN_MEMORY {
        return Ok(Box::new(Cursor::new(head)));
    }
    let mut file = tokio::fs::File::from_std(tempfile::tempfile_in(dir)?);
    file.write_all(&head).await?;
    tokio::io::copy(nar, &mut file).await?;
    // A full disk shows here and not when the archive is read back.
    file.flush().await?;
    file.rewind().await?;
    Ok(Box::new(file))
}
