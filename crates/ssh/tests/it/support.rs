//! A front door with scripted sessions, and the real OpenSSH client to knock on it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use firn_ssh::{Command, Config, FrontDoor, HostKey, PublicKeyBlob, parse_public_key_line, serve};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Long enough for a loaded machine; a test that needs it all has failed.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What a scripted session saw at its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    Started(Command),
    Eof(usize),
    StdinFailed(std::io::ErrorKind),
    StdoutFailed(std::io::ErrorKind),
    Dropped,
}

/// Sessions that do what the variable `FIRN_TEST` says.
pub struct Scripted {
    keys: Vec<(Vec<u8>, &'static str)>,
    seen: UnboundedSender<Seen>,
    revoked: watch::Sender<Vec<&'static str>>,
}

impl Scripted {
    fn account_of(&self, key: &PublicKeyBlob) -> Option<&'static str> {
        let mut keys = self.keys.iter();
        keys.find(|(blob, _)| blob == key.as_bytes())
            .map(|(_, account)| *account)
    }
}

struct ReportDrop(UnboundedSender<Seen>);

impl Drop for ReportDrop {
    fn drop(&mut self) {
        let _ = self.0.send(Seen::Dropped);
    }
}

impl FrontDoor for Scripted {
    type Account = &'static str;

    async fn knows(&self, key: &PublicKeyBlob) -> bool {
        self.account_of(key).is_some()
    }

    async fn authenticate(&self, _user: &str, key: &PublicKeyBlob) -> Option<&'static str> {
        self.account_of(key)
    }

    async fn admits(&self, account: &&'static str) -> bool {
        !self.revoked.borrow().contains(account)
    }

    async fn revoked(&self, account: &&'static str) -> String {
        let mut revoked = self.revoked.subscribe();
        let _ = revoked.wait_for(|names| names.contains(account)).await;
        format!("{account} may not go on")
    }

    fn account_name(&self, account: &&'static str) -> String {
        (*account).to_owned()
    }

    async fn session<R, W, E>(
        &self,
        account: &'static str,
        command: Command,
        env: Vec<(Vec<u8>, Vec<u8>)>,
        mut stdin: R,
        mut stdout: W,
        mut stderr: E,
    ) -> u32
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
        E: AsyncWrite + Send + Unpin + 'static,
    {
        let script = env
            .iter()
            .find(|(name, _)| name == b"FIRN_TEST")
            .map(|(_, value)| value.clone());
        let script = String::from_utf8(script.unwrap_or_default()).unwrap();
        let mut words = script.split(' ');
        let word = words.next().unwrap_or_default();
        let number = words
            .next()
            .and_then(|number| number.parse::<usize>().ok())
            .unwrap_or(0);
        let _ = self.seen.send(Seen::Started(command.clone()));
        match word {
            "echo" => {
                tokio::io::copy(&mut stdin, &mut stdout).await.unwrap();
                0
            }
            "source" => {
                let block: Vec<u8> = (0..number).map(pattern).collect();
                stdout.write_all(&block).await.unwrap();
                0
            }
            "flood" => loop {
                if let Err(error) = stdout.write_all(&[0; 65536]).await {
                    let _ = self.seen.send(Seen::StdoutFailed(error.kind()));
                    return 1;
                }
            },
            "terminal" => {
                let Command::Shell { terminal, .. } = command else {
                    return 99;
                };
                let terminal = terminal.unwrap();
                let mut lines = BufReader::new(stdin).lines();
                while let Some(line) = lines.next_line().await.unwrap() {
                    let seen = format!("{} {terminal:?}\r\n", line.trim_end());
                    stdout.write_all(seen.as_bytes()).await.unwrap();
                    stdout.flush().await.unwrap();
                }
                0
            }
            "exit" => u32::try_from(number).unwrap(),
            "panic" => panic!("a session panics on purpose"),
            "env" => {
                for (name, value) in env {
                    stdout
                        .write_all(&[&name[..], b"=", &value[..], b"\n"].concat())
                        .await
                        .unwrap();
                }
                stdout.write_all(account.as_bytes()).await.unwrap();
                0
            }
            "stderr" => {
                stderr.write_all(b"a word on stderr\n").await.unwrap();
                stdout.write_all(b"a word on stdout\n").await.unwrap();
                stdout.flush().await.unwrap();
                stdin.read_to_end(&mut Vec::new()).await.unwrap();
                3
            }
            "hold" => {
                stdout.write_all(b"ready\n").await.unwrap();
                stdout.flush().await.unwrap();
                let mut taken = Vec::new();
                let _ = self.seen.send(match stdin.read_to_end(&mut taken).await {
                    Ok(count) => Seen::Eof(count),
                    Err(error) => Seen::StdinFailed(error.kind()),
                });
                0
            }
            "ignore" => {
                let _report = ReportDrop(self.seen.clone());
                stdout.write_all(b"ready\n").await.unwrap();
                stdout.flush().await.unwrap();
                std::future::pending::<()>().await;
                0
            }
            other => {
                stderr
                    .write_all(format!("no script `{other}`").as_bytes())
                    .await
                    .unwrap();
                99
            }
        }
    }
}

pub fn pattern(index: usize) -> u8 {
    (index.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]
}

/// A running front door with two registered keys, `alice` and `bob`, and one unregistered, `mallory`.
pub struct House {
    pub folder: TempDir,
    pub address: SocketAddr,
    pub seen: UnboundedReceiver<Seen>,
    /// Accounts that may not go on.
    pub revoked: watch::Sender<Vec<&'static str>>,
    pub shutdown: CancellationToken,
    pub serving: JoinHandle<()>,
}

impl House {
    pub async fn open(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut keys = Vec::new();
        for name in ["alice", "bob", "mallory"] {
            let line = make_key(folder.path(), name);
            if name != "mallory" {
                keys.push((
                    parse_public_key_line(&line).unwrap().key.as_bytes().to_vec(),
                    name,
                ));
            }
        }
        Self::open_with(config, folder, keys).await
    }

    pub async fn open_with(config: Config, folder: TempDir, keys: Vec<(Vec<u8>, &'static str)>) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let host_key = HostKey::load_or_create(&folder.path().join("host")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let known = format!("[127.0.0.1]:{} {}\n", address.port(), host_key.public_line());
        std::fs::write(folder.path().join("known_hosts"), known).unwrap();
        let (sender, seen) = unbounded_channel();
        let revoked = watch::Sender::new(Vec::new());
        let door = Arc::new(Scripted {
            keys,
            seen: sender,
            revoked: revoked.clone(),
        });
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let serving =
            tokio::spawn(async move { serve(listener, host_key, config, door, token).await.unwrap() });
        Self {
            folder,
            address,
            seen,
            revoked,
            shutdown,
            serving,
        }
    }

    /// `ssh` without a command, as the owner of `key`.
    pub fn ssh(&self, key: &str) -> tokio::process::Command {
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.args(["-F", "none", "-x", "-a", "-T", "-p"])
            .arg(self.address.port().to_string());
        ssh.arg("-i").arg(self.folder.path().join(key));
        ssh.arg(format!(
            "-oUserKnownHostsFile={}",
            self.folder.path().join("known_hosts").display()
        ));
        ssh.args(["-oIdentitiesOnly=yes", "-oIdentityAgent=none", "-oBatchMode=yes"]);
        ssh.args(["-oStrictHostKeyChecking=yes", "-oGlobalKnownHostsFile=/dev/null"]);
        ssh.env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        ssh.stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        ssh
    }

    /// `ssh` that runs the worker daemon with a script.
    pub fn scripted(&self, key: &str, script: &str) -> tokio::process::Command {
        let mut ssh = self.ssh(key);
        ssh.arg(format!("-oSetEnv=\"FIRN_TEST={script}\""))
            .args(["nix@127.0.0.1", "nix-daemon --stdio"]);
        ssh
    }

    pub async fn next_seen(&mut self) -> Seen {
        timeout(PATIENCE, self.seen.recv()).await.unwrap().unwrap()
    }

    /// Everything but the reports of sessions that started.
    pub async fn next_end(&mut self) -> Seen {
        loop {
            match self.next_seen().await {
                Seen::Started(_) => {}
                other => return other,
            }
        }
    }

    pub async fn close(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.serving).await.unwrap().unwrap();
    }
}

pub async fn run(mut ssh: tokio::process::Command) -> Output {
    timeout(PATIENCE, ssh.output()).await.unwrap().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    bytes
        .escape_ascii()
        .to_string()
        .replace("\\n", "\n")
        .replace("\\r", "")
}

/// Whether `ssh` and `ssh-keygen` are here; says so when not.
pub fn openssh_is_here(test: &str) -> bool {
    let here = ["ssh", "ssh-keygen"].iter().all(|program| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|folder| folder.join(program).is_file())
    });
    if !here {
        println!("{test}: skipped, there is no OpenSSH client here");
    }
    here
}

/// Makes a key pair and returns the public line.
pub fn make_key(folder: &Path, name: &str) -> String {
    make_key_of(folder, name, &["-t", "ed25519"])
}

pub fn make_key_of(folder: &Path, name: &str, kind: &[&str]) -> String {
    let path: PathBuf = folder.join(name);
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-N", "", "-C", &format!("{name}@test")])
        .args(kind)
        .arg("-f")
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    std::fs::read_to_string(path.with_extension("pub")).unwrap()
}
