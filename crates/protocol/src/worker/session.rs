//! One client from its first byte to its last.

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::activity::Activities;
use super::answer::{Failure, flatten};
use super::handshake::{HANDSHAKE, shake_hands};
use super::{Op, Request, StderrMessage, Version};
use crate::drive::watched;
use crate::wire::{Decoder, Encoder, WireReader, WireWriter};
use crate::{BuildOptions, Held, SessionError, SessionOptions, Store, StoreError};

const IDLE: &str = "the wait for a request";

pub(super) struct Session<'a, S, R, W> {
    pub(super) store: &'a S,
    pub(super) reader: WireReader<R>,
    pub(super) writer: WireWriter<W>,
    pub(super) options: &'a SessionOptions,
    pub(super) version: Version,
    pub(super) activities: Activities,
    pub(super) build_options: BuildOptions,
    /// Memory of the request that is answered.
    pub(super) held: Held,
    /// The operation, for errors.
    pub(super) during: &'static str,
}

/// Serves one client until it closes the connection.
///
/// # Errors
/// [`SessionError`] when it ends otherwise. The client has been told what it could be told.
pub async fn serve<S, R, W>(
    store: &S,
    reader: R,
    writer: W,
    options: &SessionOptions,
) -> Result<(), SessionError>
where
    S: Store,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let mut reader = WireReader::new(reader, Some(options.read_timeout));
    let mut writer = WireWriter::new(writer, Some(options.write_timeout));
    let handshake = shake_hands(&mut reader, &mut writer, options);
    let version = timeout(options.handshake_timeout, handshake)
        .await
        .map_err(|_| SessionError::Stalled { during: HANDSHAKE })??;
    tracing::debug!(%version, "worker session");
    store.meet(version.addressing());
    let mut session = Session {
        store,
        reader,
        writer,
        options,
        version,
        activities: Activities::new(version, options.activity_base),
        build_options: BuildOptions::default(),
        held: options.memory.hold(options.account),
        during: IDLE,
    };
    while session.next().await? {}
    Ok(())
}

impl<S, R, W> Session<'_, S, R, W>
where
    S: Store,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    /// Answers one request; false when there is none any more.
    async fn next(&mut self) -> Result<bool, SessionError> {
        self.during = IDLE;
        let ready = match self.options.idle_timeout {
            Some(limit) => timeout(limit, self.reader.ready())
                .await
                .map_err(|_| SessionError::Stalled { during: IDLE })?,
            None => self.reader.ready().await,
        };
        match ready {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(e) if SessionError::is_departure(&e) => return Ok(false),
            Err(e) => return Err(SessionError::from_io(IDLE, e)),
        }
        let answered = match self.request().await {
            Ok(request) => {
                tracing::trace!(op = self.during, "request");
                self.answer(request).await
            }
            Err(error) => Err(Failure::Fatal(error)),
        };
        match answered {
            Ok(()) | Err(Failure::Told) => {}
            Err(Failure::Refused(error)) => self.tell(&error.message),
            Err(Failure::Fatal(error)) => {
                let told = match &error {
                    SessionError::Protocol { .. } | SessionError::OtherStore(_) => Some(error.to_string()),
                    SessionError::Refused(text) => Some(text.clone()),
                    _ => None,
                };
                if let Some(text) = told {
                    self.tell(&text);
                    // The session is over; that the client does not hear why changes nothing.
                    let _ = self.writer.flush().await;
                }
                return Err(error);
            }
        }
        self.held.give_back();
        self.writer
            .flush()
            .await
            .map_err(|e| SessionError::from_io(self.during, e))?;
        Ok(true)
    }

    async fn request(&mut self) -> Result<Request, SessionError> {
        let mut d = Decoder::new(&mut self.reader, &self.options.limits).holding(&mut self.held);
        let number = d
            .u64("operation")
            .await
            .map_err(|e| SessionError::from_wire(IDLE, e))?;
        let op = Op::from_number(number).ok_or_else(|| SessionError::Protocol {
            during: IDLE,
            field: "operation",
            reason: format!("unknown operation {number}"),
        })?;
        self.during = op.name();
        Request::decode(op, &mut d, self.version)
            .await
            .map_err(|e| SessionError::from_wire(op.name(), e))
    }

    async fn answer(&mut self, request: Request) -> Result<(), Failure> {
        match request {
            Request::AddToStore(add) => self.add_to_store(add).await,
            Request::AddTextToStore {
                name,
                text,
                references,
            } => self.add_text(name, &text, references).await,
            Request::AddToStoreNar(info) => self.add_nar(info).await,
            Request::AddMultipleToStore => self.add_multiple().await,
            Request::AddBuildLog(path) => self.add_build_log(path).await,
            Request::BuildDerivation(path, drv, mode) => self.build_derivation(path, drv, mode).await,
            Request::BuildPaths(targets, mode) => self.build_paths(targets, mode).await,
            Request::BuildPathsWithResults(targets, mode) => {
                self.build_paths_with_results(targets, mode).await
            }
            Request::NarFromPath(path) => self.nar_from_path(path).await,
            Request::SetOptions(options) => {
                self.build_options = options.builds;
                if let Some(seconds) = options.negative_ttl {
                    self.store.remember_misses(Duration::from_secs(seconds));
                }
                self.reply();
                Ok(())
            }
            other => self.query(other).await,
        }
    }

    /// Runs a request of the store that reports no events; the client's going away drops it.
    pub(super) async fn ask<T>(
        &mut self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Failure> {
        flatten(self.during, watched(&mut self.reader, work).await)
    }

    /// Ends the messages; what is encoded next is the reply.
    pub(super) fn reply(&mut self) -> &mut Encoder {
        StderrMessage::Last.encode(self.version, self.writer.out());
        self.writer.out()
    }

    fn tell(&mut self, text: &str) {
        StderrMessage::Error(text.as_bytes().to_vec()).encode(self.version, self.writer.out());
    }
}
