//! Requests with a body.

use std::collections::BTreeSet;

use firn_nix::{CaMethod, HashAlgo, PathInfo, StorePath};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::answer::{BodyError, Failure};
use super::session::Session;
use super::{AddToStore, StderrMessage, Version};
use crate::drive::receive_nar;
use crate::wire::{Decoder, Framed, WireError, WireWriter};
use crate::{Held, SessionError, SessionOptions, Store, Upload as _};

impl<S, R, W> Session<'_, S, R, W>
where
    S: Store,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    pub(super) async fn add_to_store(&mut self, add: AddToStore) -> Result<(), Failure> {
        if !self.version.has_framed_add() {
            return self.add_bare(add).await;
        }
        let AddToStore {
            name,
            method,
            algo,
            references,
        } = add;
        let mut body = Framed::new(&mut self.reader, &self.options.limits);
        let added = self
            .store
            .add_to_store(name, method, algo, references, &mut body)
            .await
            .map_err(BodyError::from);
        let info = match ended(&mut body, added).await {
            Ok(info) => info,
            Err(e) => return Err(settle(body, &mut self.writer, self.version, self.during, e).await),
        };
        self.reply().path_info(&info);
        Ok(())
    }

    pub(super) async fn add_text(
        &mut self,
        name: String,
        mut text: &[u8],
        references: BTreeSet<StorePath>,
    ) -> Result<(), Failure> {
        let store = self.store;
        let added = store.add_to_store(name, CaMethod::Text, HashAlgo::Sha256, references, &mut text);
        let info = self.ask(added).await?;
        self.reply().path(&info.path);
        Ok(())
    }

    pub(super) async fn add_build_log(&mut self, drv_path: StorePath) -> Result<(), Failure> {
        let mut body = Framed::new(&mut self.reader, &self.options.limits);
        let added = self
            .store
            .add_build_log(drv_path, &mut body)
            .await
            .map_err(BodyError::from);
        if let Err(e) = ended(&mut body, added).await {
            return Err(settle(body, &mut self.writer, self.version, self.during, e).await);
        }
        self.reply().u64(1);
        Ok(())
    }

    pub(super) async fn add_nar(&mut self, info: PathInfo) -> Result<(), Failure> {
        if !self.version.has_pulled_nar() {
            return self.add_raw(info).await;
        }
        if !self.version.has_framed_nar() {
            return self.add_pulled(info).await;
        }
        let mut body = Framed::new(&mut self.reader, &self.options.limits);
        let received = receive_one(self.store, &mut body, info).await;
        let upload = match received {
            Ok(upload) => upload,
            Err(e) => return Err(settle(body, &mut self.writer, self.version, self.during, e).await),
        };
        self.ask(upload.commit()).await?;
        self.reply();
        Ok(())
    }

    pub(super) async fn add_multiple(&mut self) -> Result<(), Failure> {
        let mut body = Framed::new(&mut self.reader, &self.options.limits);
        let received = receive_all(self.store, &mut body, self.options, &mut self.held).await;
        let upload = match received {
            Ok(upload) => upload,
            Err(e) => return Err(settle(body, &mut self.writer, self.version, self.during, e).await),
        };
        if let Some(upload) = upload {
            self.ask(upload.commit()).await?;
        }
        self.reply();
        Ok(())
    }
}

async fn receive_one<S: Store, R: AsyncRead + Unpin + Send>(
    store: &S,
    body: &mut Framed<'_, R>,
    info: PathInfo,
) -> Result<S::Upload, BodyError> {
    let mut upload = store.begin_upload().await?;
    receive_nar(&mut upload, body, info).await?;
    expect_end(body).await?;
    Ok(upload)
}

/// `None` when the client had nothing to send, as build hooks often do.
async fn receive_all<S: Store, R: AsyncRead + Unpin + Send>(
    store: &S,
    body: &mut Framed<'_, R>,
    options: &SessionOptions,
    held: &mut Held,
) -> Result<Option<S::Upload>, BodyError> {
    let limits = &options.limits;
    let count = Decoder::new(body, limits)
        .count(limits.path_items, "number of paths")
        .await?;
    let mut upload = None;
    let (mut bytes, mut since) = (0u64, Instant::now());
    for _ in 0..count {
        let upload = match &mut upload {
            Some(upload) => upload,
            none => none.insert(store.begin_upload().await?),
        };
        if bytes >= options.checkpoint_bytes || since.elapsed() >= options.checkpoint_time {
            if upload.checkpoint().await? {
                held.give_back();
            }
            (bytes, since) = (0, Instant::now());
        }
        let info = Decoder::new(body, limits).holding(held).path_info().await?;
        bytes = bytes.saturating_add(info.nar_size);
        receive_nar(upload, body, info).await?;
    }
    expect_end(body).await?;
    Ok(upload)
}

async fn expect_end<R: AsyncRead + Unpin + Send>(body: &mut Framed<'_, R>) -> Result<(), BodyError> {
    if body.at_end().await? {
        Ok(())
    } else {
        Err(WireError::invalid("body", "bytes after the last archive").into())
    }
}

/// Reads what the store left of a body that it took.
async fn ended<T, R: AsyncRead + Unpin + Send>(
    body: &mut Framed<'_, R>,
    result: Result<T, BodyError>,
) -> Result<T, BodyError> {
    let done = result?;
    body.drain().await?;
    Ok(done)
}

/// After a body that was not taken: tells the client at once, so that it stops sending, and reads on to the end of the body.
async fn settle<R, W>(
    mut body: Framed<'_, R>,
    writer: &mut WireWriter<W>,
    version: Version,
    during: &'static str,
    error: BodyError,
) -> Failure
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    if let Some(lost) = body.loss() {
        return Failure::Fatal(SessionError::from_loss(during, lost));
    }
    if body.is_broken() {
        return Failure::Fatal(SessionError::Protocol {
            during,
            field: "body",
            reason: error.text(),
        });
    }
    StderrMessage::Error(error.text().into_bytes()).encode(version, writer.out());
    match tokio::try_join!(writer.flush(), body.drain()) {
        Ok(_) => Failure::Told,
        Err(e) => Failure::Fatal(SessionError::from_io(during, e)),
    }
}
