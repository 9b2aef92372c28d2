//! Uploads as Nix 2.3 and older send them: without frames.

use firn_nix::{CaMethod, PathInfo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};

use super::answer::{BodyError, Failure};
use super::session::Session;
use super::{AddToStore, StderrMessage};
use crate::drive::receive_nar;
use crate::wire::{Decoder, SingleNar, WireError};
use crate::{SessionError, Store, Upload as _};

/// Bytes that are asked for at once.
const PIECE: u64 = 64 << 10;

impl<S, R, W> Session<'_, S, R, W>
where
    S: Store,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    /// `AddToStoreNar` in 1.21 and 1.22: the server asks for the bytes, piece by piece.
    pub(super) async fn add_pulled(&mut self, info: PathInfo) -> Result<(), Failure> {
        let (store, during, version) = (self.store, self.during, self.version);
        let (reader, writer, limits) = (&mut self.reader, &mut self.writer, &self.options.limits);
        let mut left = info.nar_size;
        let (mut sink, mut source) = tokio::io::duplex(PIECE as usize);
        let pull = async move {
            while left > 0 {
                let wanted = left.min(PIECE);
                StderrMessage::Read(wanted).encode(version, writer.out());
                writer.flush().await?;
                let piece = Decoder::new(reader, limits).bytes("archive").await?;
                match piece.len() as u64 {
                    0 => return Err(WireError::Ended { field: "archive" }),
                    n if n > wanted => return Err(WireError::invalid("archive", "more than asked for")),
                    n => left -= n,
                }
                // Fails when the upload was refused; then no more is asked for.
                if sink.write_all(&piece).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        let take = async move {
            let mut upload = store.begin_upload().await?;
            receive_nar(&mut upload, &mut source, info).await?;
            Ok::<_, crate::StoreError>(upload)
        };
        let (pulled, taken) = tokio::join!(pull, take);
        pulled.map_err(|e| SessionError::from_wire(during, e))?;
        self.ask(taken?.commit()).await?;
        self.reply();
        Ok(())
    }

    /// `AddToStoreNar` before 1.21: the bytes follow the request.
    pub(super) async fn add_raw(&mut self, info: PathInfo) -> Result<(), Failure> {
        let (store, during, most) = (self.store, self.during, self.options.limits.drain_bytes);
        let mut nar = (&mut self.reader).take(info.nar_size);
        let taken = async {
            let mut upload = store.begin_upload().await?;
            receive_nar(&mut upload, &mut nar, info).await?;
            Ok::<_, crate::StoreError>(upload)
        };
        let taken = taken.await;
        // What the store left of an upload that it refused: the client sends it in any case.
        if nar.limit() > most {
            let reason = format!("more than {most} bytes follow an upload that was refused");
            return Err(SessionError::from_wire(during, WireError::invalid("archive", reason)).into());
        }
        let drained = tokio::io::copy(&mut nar, &mut tokio::io::sink()).await;
        drained.map_err(|e| SessionError::from_wire(during, WireError::from(e)))?;
        if nar.limit() > 0 {
            return Err(SessionError::from_wire(during, WireError::Ended { field: "archive" }).into());
        }
        self.ask(taken?.commit()).await?;
        self.reply();
        Ok(())
    }

    /// `AddToStore` before 1.25: a bare NAR, also around the one file whose bytes are hashed flat.
    pub(super) async fn add_bare(&mut self, add: AddToStore) -> Result<(), Failure> {
        let limits = &self.options.limits;
        let mut nar = SingleNar::new(&mut self.reader, limits.upload_bytes);
        let AddToStore {
            name,
            method,
            algo,
            references,
        } = add;
        let added = if method == CaMethod::Nar {
            self.store
                .add_to_store(name, method, algo, references, &mut nar)
                .await
                .map_err(BodyError::from)
        } else {
            let mut file = BufReader::new(&mut nar);
            match file_size(&mut Decoder::new(&mut file, limits)).await {
                Ok(size) => self
                    .store
                    .add_to_store(name, method, algo, references, &mut file.take(size))
                    .await
                    .map_err(BodyError::from),
                Err(e) => Err(e.into()),
            }
        };
        let drained = tokio::io::copy(&mut nar, &mut tokio::io::sink()).await;
        drained.map_err(|e| SessionError::from_wire(self.during, WireError::from(e)))?;
        let info = added.map_err(|e| Failure::refused(e.text()))?;
        self.reply().path(&info.path);
        Ok(())
    }
}

/// Reads a NAR of one regular file up to its contents.
async fn file_size<B: tokio::io::AsyncBufRead + Unpin + Send>(
    d: &mut Decoder<'_, B>,
) -> Result<u64, WireError> {
    const FIELD: &str = "archive of one file";
    for word in ["nix-archive-1", "(", "type", "regular"] {
        d.word(word, FIELD).await?;
    }
    match d.bytes(FIELD).await?.as_slice() {
        b"contents" => {}
        b"executable" => {
            d.word("", FIELD).await?;
            d.word("contents", FIELD).await?;
        }
        _ => return Err(WireError::invalid(FIELD, "not one file")),
    }
    d.u64(FIELD).await
}
