//! A client of the worker protocol that says what it is told to, however wrong.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use firn_nix::{BasicDerivation, DerivationOutput, Hash, NarHash, PathInfo, StorePath};
use firn_protocol::wire::{Decoder, Encoder, WireLimits, WireReader};
use firn_protocol::worker::{self, Field, Request, StderrMessage, Version};
use firn_protocol::{BuildMode, BuildResult, wire};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::Server;

/// Longest wait for the server's next bytes.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a worker session is started with.
pub const WORKER: &str = "nix-daemon --stdio";

/// Type of a result that is a line of a build's log.
const LOG_LINE: u64 = 101;

/// One connection. Its process is killed when this is dropped.
pub struct Raw {
    child: Child,
    input: Option<ChildStdin>,
    output: WireReader<ChildStdout>,
    version: Version,
    limits: WireLimits,
}

/// How a connection ended.
#[derive(Debug)]
pub struct End {
    /// What came after all that was read.
    pub output: Vec<u8>,
    /// Standard error.
    pub error: String,
    /// Whether the session ended well.
    pub ok: bool,
}

impl Raw {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        Self {
            child,
            input,
            output: WireReader::new(output, Some(PATIENCE)),
            version: Version::NEWEST,
            limits: WireLimits::default(),
        }
    }

    /// `firn stdio`, before the handshake.
    pub fn stdio(server: &Server, account: &str, exec: &str) -> Self {
        Self::stdio_in(&server.data_dir(), account, exec)
    }

    /// The same, for a server whose data is there.
    pub fn stdio_in(data_dir: &Path, account: &str, exec: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firn"));
        command.arg("--data-dir").arg(data_dir);
        command.args(["stdio", "--account", account, "--exec", exec]);
        Self::start(command)
    }

    /// A worker session through `firn stdio`.
    pub async fn open(server: &Server, account: &str) -> Self {
        let mut raw = Self::stdio(server, account, WORKER);
        raw.shake().await.unwrap();
        raw
    }

    /// A worker session through ssh, before the handshake.
    pub fn ssh(ssh_config: &Path) -> Self {
        let mut command = Command::new("ssh");
        command.arg("-F").arg(ssh_config).args(["firn", WORKER]);
        Self::start(command)
    }

    /// The newest version's handshake; the text of a refusal.
    pub async fn shake(&mut self) -> Result<(), wire::WireError> {
        self.send(|e| {
            e.u64(worker::CLIENT_MAGIC).u64(Version::NEWEST.to_wire());
            // No features, no processor affinity, no reserved space.
            e.u64(0).u64(0).u64(0);
        })
        .await?;
        let mut d = self.decoder();
        assert_eq!(d.u64("magic").await?, worker::SERVER_MAGIC);
        assert_eq!(d.u64("version").await?, Version::NEWEST.to_wire());
        assert_eq!(
            d.texts("features").await?,
            [firn_protocol::worker::REALISATION_WITH_PATH.to_owned()].into()
        );
        d.text("daemon version").await?;
        d.u64("trust").await?;
        self.answer().await?.unwrap();
        Ok(())
    }

    /// Sends what `encode` writes.
    pub async fn send(&mut self, encode: impl FnOnce(&mut Encoder)) -> io::Result<()> {
        let mut e = Encoder::default();
        encode(&mut e);
        self.raw(e.as_bytes()).await
    }

    /// Sends bytes as they are.
    pub async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(bytes).await?;
        input.flush().await
    }

    /// Sends a request without its body.
    pub async fn request(&mut self, request: &Request) -> io::Result<()> {
        let version = self.version;
        self.send(|e| request.encode(version, e)).await
    }

    /// Sends a whole framed body.
    pub async fn body(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(60_000) {
            self.send(|e| {
                e.len(piece.len()).raw(piece);
            })
            .await?;
        }
        self.send(|e| {
            e.u64(0);
        })
        .await
    }

    /// For replies.
    pub fn decoder(&mut self) -> Decoder<'_, WireReader<ChildStdout>> {
        Decoder::new(&mut self.output, &self.limits)
    }

    /// Reads up to the last message: `Ok` when a reply follows, else the error's text.
    pub async fn answer(&mut self) -> Result<Result<(), String>, wire::WireError> {
        loop {
            let version = self.version;
            match StderrMessage::decode(&mut self.decoder(), version).await? {
                StderrMessage::Last => return Ok(Ok(())),
                StderrMessage::Error(text) => return Ok(Err(String::from_utf8(text).unwrap())),
                _ => {}
            }
        }
    }

    /// The text of the error that must come.
    pub async fn refused(&mut self) -> String {
        match self.answer().await.unwrap() {
            Err(text) => text,
            Ok(()) => panic!("a bad request was taken"),
        }
    }

    /// A request and its outcome, up to the reply.
    pub async fn ask(&mut self, request: &Request) -> Result<(), String> {
        self.request(request).await.unwrap();
        self.answer().await.unwrap()
    }

    /// Whether a path is valid: shows that the connection is in step, too.
    pub async fn is_valid(&mut self, path: &StorePath) -> bool {
        self.ask(&Request::IsValidPath(path.clone())).await.unwrap();
        self.decoder().bool("valid").await.unwrap()
    }

    /// Uploads one object.
    pub async fn upload(&mut self, object: &Object) -> Result<(), String> {
        self.try_upload(object).await.unwrap()
    }

    /// The same, for a connection that may break.
    pub async fn try_upload(&mut self, object: &Object) -> Result<Result<(), String>, wire::WireError> {
        self.request(&Request::AddToStoreNar(object.info.clone())).await?;
        self.body(&object.nar).await?;
        self.answer().await
    }

    /// The NAR of a path.
    pub async fn download(&mut self, path: &StorePath) -> Result<Vec<u8>, String> {
        self.try_download(path).await.unwrap()
    }

    /// The same, for a connection that may break.
    pub async fn try_download(
        &mut self,
        path: &StorePath,
    ) -> Result<Result<Vec<u8>, String>, wire::WireError> {
        self.request(&Request::NarFromPath(path.clone())).await?;
        if let Err(text) = self.answer().await? {
            return Ok(Err(text));
        }
        let mut nar = Vec::new();
        let mut one = wire::SingleNar::new(&mut self.output, 1 << 30);
        one.read_to_end(&mut nar).await?;
        Ok(Ok(nar))
    }

    /// Builds one derivation.
    pub async fn build(
        &mut self,
        drv_path: &StorePath,
        drv: &BasicDerivation,
    ) -> Result<BuildResult, String> {
        self.try_build(drv_path, drv).await.unwrap()
    }

    /// The same, for a connection that may break.
    pub async fn try_build(
        &mut self,
        drv_path: &StorePath,
        drv: &BasicDerivation,
    ) -> Result<Result<BuildResult, String>, wire::WireError> {
        let request = Request::BuildDerivation(drv_path.clone(), drv.clone(), BuildMode::Normal);
        self.request(&request).await?;
        if let Err(text) = self.answer().await? {
            return Ok(Err(text));
        }
        let format = self.version.result_format();
        self.decoder().build_result(format).await.map(Ok)
    }

    /// Builds one derivation, and the lines of its log.
    pub async fn build_in(
        &mut self,
        drv_path: &StorePath,
        drv: &BasicDerivation,
        mode: BuildMode,
    ) -> Result<(BuildResult, Vec<String>), String> {
        let request = Request::BuildDerivation(drv_path.clone(), drv.clone(), mode);
        self.request(&request).await.unwrap();
        let (version, mut log) = (self.version, Vec::new());
        loop {
            let message = StderrMessage::decode(&mut self.decoder(), version).await;
            match message.unwrap() {
                StderrMessage::Last => break,
                StderrMessage::Error(text) => return Err(String::from_utf8(text).unwrap()),
                StderrMessage::Result {
                    kind: LOG_LINE,
                    fields,
                    ..
                } => log.extend(fields.into_iter().map(|field| match field {
                    Field::Text(line) => String::from_utf8(line).unwrap(),
                    other => panic!("a log line is {other:?}"),
                })),
                _ => {}
            }
        }
        let format = version.result_format();
        Ok((self.decoder().build_result(format).await.unwrap(), log))
    }

    /// Sends the end of input and waits until the server has ended the session.
    pub async fn end(mut self) -> End {
        drop(self.input.take());
        let mut output = Vec::new();
        // A session that broke off in the middle of an answer ends without its rest.
        let _ = self.output.read_to_end(&mut output).await;
        let mut error = Vec::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_end(&mut error).await.unwrap();
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        End {
            output,
            error: error.escape_ascii().to_string(),
            ok: status.unwrap().unwrap().success(),
        }
    }

    /// `kill -9`.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A store object to upload.
#[derive(Clone, Debug)]
pub struct Object {
    /// What is said about it.
    pub info: PathInfo,
    /// Its bytes.
    pub nar: Vec<u8>,
}

/// A path of its own for every name.
pub fn path(name: &str) -> StorePath {
    StorePath::make("output:out", &Hash::sha256(name.as_bytes()), name).unwrap()
}

/// SHA-256 as the name of a content.
pub fn content(nar: &[u8]) -> NarHash {
    NarHash::new(Hash::sha256(nar).bytes().try_into().unwrap())
}

/// An object of that name, without references.
pub fn object(name: &str, nar: Vec<u8>) -> Object {
    let info = PathInfo {
        path: path(name),
        deriver: None,
        nar_hash: content(&nar),
        references: Default::default(),
        registration_time: 0,
        nar_size: nar.len() as u64,
        ultimate: false,
        signatures: Default::default(),
        ca: None,
    };
    Object { info, nar }
}

/// A NAR from its tokens.
pub fn nar(tokens: &[&[u8]]) -> Vec<u8> {
    let mut e = Encoder::default();
    for token in tokens {
        e.bytes(token);
    }
    e.as_bytes().to_vec()
}

/// The NAR of a file.
pub fn file(contents: &[u8]) -> Vec<u8> {
    nar(&[
        b"nix-archive-1",
        b"(",
        b"type",
        b"regular",
        b"contents",
        contents,
        b")",
    ])
}

/// A derivation of that name whose builder is the sandbox's shell, and its path.
pub fn shell(name: &str, out: StorePath, script: &str) -> (StorePath, BasicDerivation) {
    let env = [("out", out.to_string()), ("name", name.to_owned())];
    let drv = BasicDerivation {
        outputs: [("out".to_owned(), DerivationOutput::InputAddressed(out))].into(),
        input_srcs: Default::default(),
        platform: b"x86_64-linux".to_vec(),
        builder: b"/bin/sh".to_vec(),
        args: vec![b"-ec".to_vec(), script.as_bytes().to_vec()],
        env: env.map(|(name, value)| (name.into(), value.into())).into(),
    };
    (path(&format!("{name}.drv")), drv)
}

/// What a server must not keep: entries of the staging area and of running builds.
pub fn leftovers(server: &Server) -> Vec<String> {
    let mut found = Vec::new();
    let list = |dir: std::path::PathBuf| -> Vec<_> {
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let sessions = list(server.data_dir().join("contents/staging"));
    if sessions.len() > 1 {
        found.push(format!("{} staging sessions", sessions.len()));
    }
    for entry in sessions.into_iter().flat_map(list) {
        if !entry.ends_with("unsynced") {
            found.push(entry.display().to_string());
        }
    }
    found.extend(
        list(server.data_dir().join("builds"))
            .iter()
            .map(|p| p.display().to_string()),
    );
    found
}

/// Waits until nothing half-written is left: what a client broke off is cleared away behind its back.
pub async fn settled(server: &Server) {
    let begun = std::time::Instant::now();
    loop {
        let found = leftovers(server);
        if found.is_empty() {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "left behind: {found:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
