//! One client from its first byte to its last.

use std::collections::BTreeSet;
use std::future::Future;

use firn_nix::StorePath;
use firn_nix::rewrite::SelfReferences;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::{CLIENT_MAGIC, Command, Request, SERVER_MAGIC, ServeBuildOptions, Version};
use crate::drive::{logged, receive_nar, send_nar, watched};
use crate::wire::{Decoder, Encoder, WireError, WireReader, WireWriter};
use crate::{
    Addressing, BuildMode, BuildResult, BuildStatus, Held, LogEvent, LogSink, SessionError, SessionOptions,
    Store, StoreError, Upload as _,
};

const HANDSHAKE: &str = "the handshake";
const IDLE: &str = "the wait for a command";

pub(super) struct Session<'a, S, R, W, E> {
    pub(super) store: &'a S,
    pub(super) reader: WireReader<R>,
    pub(super) options: &'a SessionOptions,
    writer: WireWriter<W>,
    stderr: WireWriter<E>,
    version: Version,
    pub(super) during: &'static str,
    /// Memory of the request that is answered.
    pub(super) held: Held,
}

/// Serves one client until it closes the connection. Build logs and errors go to `stderr` as text.
///
/// # Errors
/// [`SessionError`] when it ends otherwise; every error of a request is such an end, because the protocol has no other.
pub async fn serve<S, R, W, E>(
    store: &S,
    reader: R,
    writer: W,
    stderr: E,
    options: &SessionOptions,
) -> Result<(), SessionError>
where
    S: Store,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    E: AsyncWrite + Unpin + Send,
{
    let mut session = Session {
        store,
        reader: WireReader::new(reader, Some(options.read_timeout)),
        writer: WireWriter::new(writer, Some(options.write_timeout)),
        stderr: WireWriter::new(stderr, Some(options.write_timeout)),
        options,
        version: Version::NEWEST,
        during: HANDSHAKE,
        held: options.memory.hold(options.account),
    };
    let result = session.run().await;
    let text = match &result {
        Err(SessionError::Refused(text)) => Some(text.clone()),
        Err(
            e @ (SessionError::Protocol { .. } | SessionError::OtherStore(_) | SessionError::Archive { .. }),
        ) => Some(e.to_string()),
        _ => None,
    };
    if let Some(text) = text {
        session.stderr.out().raw(format!("error: {text}\n").as_bytes());
        // The session is over; that the client does not hear why changes nothing.
        let _ = session.stderr.flush().await;
    }
    result
}

impl<S, R, W, E> Session<'_, S, R, W, E>
where
    S: Store,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    E: AsyncWrite + Unpin + Send,
{
    async fn run(&mut self) -> Result<(), SessionError> {
        timeout(self.options.handshake_timeout, self.shake_hands())
            .await
            .map_err(|_| SessionError::Stalled { during: HANDSHAKE })??;
        tracing::debug!(version = %self.version, "serve session");
        self.store.meet(self.version.addressing());
        loop {
            self.during = IDLE;
            let ready = match self.options.idle_timeout {
                Some(limit) => timeout(limit, self.reader.ready())
                    .await
                    .map_err(|_| SessionError::Stalled { during: IDLE })?,
                None => self.reader.ready().await,
            };
            match ready {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(e) if SessionError::is_departure(&e) => return Ok(()),
                Err(e) => return Err(self.io(e)),
            }
            let request = self.request().await?;
            tracing::trace!(command = self.during, "request");
            self.answer(request).await?;
            self.held.give_back();
            self.writer.flush().await.map_err(|e| self.io(e))?;
        }
    }

    async fn shake_hands(&mut self) -> Result<(), SessionError> {
        let wire = |e| SessionError::from_wire(HANDSHAKE, e);
        let mut d = Decoder::new(&mut self.reader, &self.options.limits);
        if d.u64("magic").await.map_err(wire)? != CLIENT_MAGIC {
            return Err(wire(WireError::invalid("magic", "not a Nix client")));
        }
        let out = self.writer.out();
        out.u64(SERVER_MAGIC).u64(Version::NEWEST.to_wire());
        self.writer
            .flush()
            .await
            .map_err(|e| SessionError::from_io(HANDSHAKE, e))?;
        let stated = d.u64("version").await.map_err(wire)?;
        if let Some(text) = &self.options.refusal {
            return Err(SessionError::Refused(text.clone()));
        }
        match Version::from_wire(stated) {
            Some(client) if client >= Version::OLDEST => self.version = client.min(Version::NEWEST),
            _ => {
                let text = format!("serve protocol version {stated:#x} is not served, only 2.1 and later");
                return Err(SessionError::Refused(text));
            }
        }
        Ok(())
    }

    async fn request(&mut self) -> Result<Request, SessionError> {
        let mut d = Decoder::new(&mut self.reader, &self.options.limits).holding(&mut self.held);
        let number = d
            .u64("command")
            .await
            .map_err(|e| SessionError::from_wire(IDLE, e))?;
        let command = Command::from_number(number).ok_or_else(|| SessionError::Protocol {
            during: IDLE,
            field: "command",
            reason: format!("unknown command {number}"),
        })?;
        self.during = command.name();
        Request::decode(command, &mut d, self.version)
            .await
            .map_err(|e| SessionError::from_wire(command.name(), e))
    }

    async fn answer(&mut self, request: Request) -> Result<(), SessionError> {
        let store = self.store;
        match request {
            Request::QueryValidPaths { paths, substitute } => {
                let valid = self.ask(store.query_valid_paths(paths, substitute)).await?;
                self.writer.out().paths(&valid);
            }
            Request::QueryPathInfos(paths) => {
                let paths: Vec<StorePath> = paths.into_iter().collect();
                let infos = self.ask(store.query_path_infos(paths)).await?;
                let (version, out) = (self.version, self.writer.out());
                for info in &infos {
                    out.path(&info.path).serve_path_info(info, version);
                }
                out.text("");
            }
            Request::DumpStorePath(path) => {
                let nar = self.ask(store.nar_from_path(path)).await?;
                send_nar(&mut self.reader, &mut self.writer, nar, self.during).await?;
            }
            Request::ImportPaths => {
                self.import_paths().await?;
                self.writer.out().u64(1);
            }
            Request::BuildPaths(targets, options) => {
                self.meet(options);
                let start = |log| store.build_paths(targets, BuildMode::Normal, options.limits, log);
                let results = self.build(options, start).await?;
                let failure = match results {
                    Ok(results) => results.into_iter().find(|r| !r.status.is_success()),
                    Err(error) => Some(failed(error)),
                };
                let out = self.writer.out();
                match failure {
                    None => out.u64(0),
                    Some(result) => out.u64(result.status as u64).bytes(&result.error_msg),
                };
            }
            Request::QueryClosure {
                include_outputs,
                paths,
            } => {
                let closure = self.ask(store.query_closure(paths, include_outputs)).await?;
                self.writer.out().paths(&closure);
            }
            Request::BuildDerivation(path, drv, options) => {
                self.meet(options);
                let start = |log| store.build_derivation(path, drv, BuildMode::Normal, options.limits, log);
                let result = self.build(options, start).await?.unwrap_or_else(failed);
                let format = self.version.result_format();
                self.writer.out().build_result(&result, format);
            }
            Request::AddToStoreNar(info) => {
                let mut upload = self.ask(store.begin_upload()).await?;
                let received = receive_nar(&mut upload, &mut self.reader, info).await;
                self.told(received)?;
                self.ask(upload.commit()).await?;
                self.writer.out().u64(1);
            }
        }
        Ok(())
    }

    /// By default Nix up to 2.12 asks that repeated builds be equal; later ones cannot repeat builds, and never ask.
    fn meet(&self, options: ServeBuildOptions) {
        if options.enforce_determinism {
            self.store.meet(Addressing::certain(SelfReferences::Placed));
        }
    }

    async fn build<T, F>(
        &mut self,
        options: ServeBuildOptions,
        start: impl FnOnce(LogSink) -> F,
    ) -> Result<Result<T, StoreError>, SessionError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        if options.repeats > 0 {
            return Ok(Err(StoreError::new(
                "repeated builds are not supported; set 'repeat = 0', or use --check",
            )));
        }
        let mut waiting = BTreeSet::new();
        let once = |event: LogEvent, out: &mut Encoder| match event {
            // A line stays on the screen: it is enough to say it once.
            LogEvent::Waiting { id, .. } if !waiting.insert(id) => {}
            event => render(event, out),
        };
        let result = logged(&mut self.reader, &mut self.stderr, once, start)
            .await
            .map_err(|e| e.into_session(self.during))?;
        // The log comes before the result.
        self.stderr.flush().await.map_err(|e| self.io(e))?;
        Ok(result)
    }

    pub(super) async fn ask<T>(
        &mut self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, SessionError> {
        watched(&mut self.reader, work)
            .await
            .map_err(|e| e.into_session(self.during))?
            .map_err(|e| SessionError::Refused(e.message))
    }

    /// What became of a body: the loss of the client explains every other error.
    pub(super) fn told<T>(&self, result: Result<T, StoreError>) -> Result<T, SessionError> {
        result.map_err(|e| match self.reader.loss() {
            Some(lost) => SessionError::from_loss(self.during, lost),
            None => SessionError::Refused(e.message),
        })
    }

    fn io(&self, error: std::io::Error) -> SessionError {
        SessionError::from_io(self.during, error)
    }
}

fn failed(error: StoreError) -> BuildResult {
    BuildResult::new(BuildStatus::MiscFailure, error.message)
}

fn render(event: LogEvent, out: &mut Encoder) {
    match event {
        LogEvent::Message(text) => out.raw(text.as_bytes()).raw(b"\n"),
        LogEvent::BuildLine { line, .. } => out.raw(&line).raw(b"\n"),
        LogEvent::Waiting { text, .. } => out.raw(text.as_bytes()).raw(b"\n"),
        LogEvent::BuildStarted { .. }
        | LogEvent::WaitingEnded { .. }
        | LogEvent::BuildPhase { .. }
        | LogEvent::BuildStopped { .. }
        | LogEvent::Progress { .. } => out,
    };
}
