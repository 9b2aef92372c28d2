//! Measures the front door with the real OpenSSH client, beside OpenSSH's own server in the same run:
//! megabytes per second up and down per cipher, and the time of a whole connection with an empty session.
//!
//! `cargo run --release -p firn-ssh --example throughput [MEGABYTES [ROUNDS]]`; needs `ssh`, `ssh-keygen`, and for
//! the comparison `sshd`, the right to start it, and its folder `/run/sshd`.

use std::error::Error;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use firn_ssh::{Command, Config, FrontDoor, HostKey, PublicKeyBlob, serve};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The client's own choice first.
const CIPHERS: [Option<&str>; 4] = [
    None,
    Some("chacha20-poly1305@openssh.com"),
    Some("aes256-gcm@openssh.com"),
    Some("aes128-gcm@openssh.com"),
];
const CONNECTIONS: usize = 40;

struct Bench {
    bytes: usize,
}

impl FrontDoor for Bench {
    type Account = ();

    async fn knows(&self, _key: &PublicKeyBlob) -> bool {
        true
    }

    async fn authenticate(&self, _user: &str, _key: &PublicKeyBlob) -> Option<()> {
        Some(())
    }

    async fn admits(&self, _account: &()) -> bool {
        true
    }

    async fn revoked(&self, _account: &()) -> String {
        std::future::pending().await
    }

    fn account_name(&self, _account: &()) -> String {
        "bench".to_owned()
    }

    async fn session<R, W, E>(
        &self,
        _account: (),
        command: Command,
        _env: Vec<(Vec<u8>, Vec<u8>)>,
        mut stdin: R,
        mut stdout: W,
        _stderr: E,
    ) -> u32
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
        E: AsyncWrite + Send + Unpin + 'static,
    {
        let mut block = vec![0; 256 * 1024];
        match command {
            Command::WorkerDaemon => {
                let mut left = self.bytes;
                while left > 0 {
                    let length = left.min(block.len());
                    if stdout
                        .write_all(block.get(..length).unwrap_or_default())
                        .await
                        .is_err()
                    {
                        return 1;
                    }
                    left -= length;
                }
                0
            }
            Command::Serve { write: true } => loop {
                match stdin.read(&mut block).await {
                    Ok(0) => return 0,
                    Ok(_) => {}
                    Err(_) => return 1,
                }
            },
            // A session that never reads.
            Command::Serve { write: false } => std::future::pending().await,
            Command::Shell { .. } => 0,
        }
    }
}

struct Server {
    name: &'static str,
    port: u16,
    download: String,
    upload: String,
    empty: String,
    process: u32,
}

impl Server {
    fn ssh(&self, folder: &Path, cipher: Option<&str>, command: &str) -> Process {
        let mut ssh = Process::new("ssh");
        ssh.args(["-F", "none", "-x", "-a", "-T", "-p", &self.port.to_string(), "-i"])
            .arg(folder.join("key"));
        ssh.args([
            "-oUserKnownHostsFile=/dev/null",
            "-oStrictHostKeyChecking=no",
            "-oLogLevel=ERROR",
        ]);
        ssh.args(["-oIdentitiesOnly=yes", "-oIdentityAgent=none", "-oBatchMode=yes"]);
        ssh.args(cipher.map(|cipher| format!("-oCiphers={cipher}")));
        ssh.args(["127.0.0.1", command]);
        ssh.stdin(Stdio::null()).stdout(Stdio::null());
        ssh
    }

    /// Firn runs in this program, whose children are the clients; sshd's children are part of it.
    fn counted(&self) -> std::ops::Range<usize> {
        if self.process == std::process::id() {
            11..13
        } else {
            11..15
        }
    }

    fn timed(&self, mut ssh: Process) -> Outcome<Cost> {
        let us = std::process::id();
        let (server, client) = (cpu_time(self.process, self.counted())?, cpu_time(us, 13..15)?);
        let start = Instant::now();
        let status = ssh.status()?;
        let time = start.elapsed().as_secs_f64();
        // sshd's helpers are counted when they have been waited for.
        std::thread::sleep(Duration::from_millis(100));
        let server = cpu_time(self.process, self.counted())? - server;
        let client = cpu_time(us, 13..15)? - client;
        if status.success() {
            Ok(Cost { time, server, client })
        } else {
            Err(format!("{}: ssh ended with {status}", self.name).into())
        }
    }
}

/// What one transfer cost, in seconds.
#[derive(Clone, Copy)]
struct Cost {
    time: f64,
    server: f64,
    client: f64,
}

impl Cost {
    const MAX: Self = Self {
        time: f64::MAX,
        server: f64::MAX,
        client: f64::MAX,
    };

    fn min(self, other: Self) -> Self {
        Self {
            time: self.time.min(other.time),
            server: self.server.min(other.server),
            client: self.client.min(other.client),
        }
    }
}

/// Seconds of processor time of a process: fields 11 and 12 after the name in its stat file are its own, 13 and 14
/// those of the children it has waited for (proc(5)).
fn cpu_time(process: u32, counted: std::ops::Range<usize>) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let mut ticks = 0;
    for field in fields.get(counted).ok_or("no processor times")? {
        ticks += field.parse::<u32>()?;
    }
    Ok(f64::from(ticks) / 100.0)
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let megabytes: usize = arguments.next().map_or(Ok(500), |argument| argument.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(3), |argument| argument.parse())?;
    let bytes = megabytes * 1_000_000;
    let folder = std::env::temp_dir().join(format!("firn-ssh-throughput-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let result = measure(&folder, bytes, rounds);
    std::fs::remove_dir_all(&folder)?;
    result
}

fn measure(folder: &Path, bytes: usize, rounds: usize) -> Outcome<()> {
    for name in ["key", "sshd_host"] {
        let made = Process::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(folder.join(name))
            .status()?;
        if !made.success() {
            return Err("ssh-keygen failed".into());
        }
    }
    let source = folder.join("source");
    std::fs::File::create(&source)?.set_len(u64::try_from(bytes)?)?;

    let runtime = tokio::runtime::Runtime::new()?;
    let host_key = HostKey::load_or_create(&folder.join("host"))?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let firn = Server {
        name: "firn",
        port: listener.local_addr()?.port(),
        download: "nix-daemon --stdio".to_owned(),
        upload: "nix-store --serve --write".to_owned(),
        empty: "shell".to_owned(),
        process: std::process::id(),
    };
    let shutdown = CancellationToken::new();
    let config = Config {
        shutdown_grace: Duration::ZERO,
        abandon_grace: Duration::ZERO,
        ..Config::default()
    };
    let serving = runtime.spawn(serve(
        listener,
        host_key,
        config,
        Arc::new(Bench { bytes }),
        shutdown.clone(),
    ));
    let (mut daemon, sshd) = start_sshd(folder, bytes)?;
    let compared =
        compare(folder, &[&firn, &sshd], bytes, rounds).and_then(|()| stall(folder, &firn, &source));
    daemon.kill()?;
    daemon.wait()?;
    shutdown.cancel();
    runtime.block_on(serving)??;
    compared
}

fn start_sshd(folder: &Path, bytes: usize) -> Outcome<(Child, Server)> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let text = |name: &str| folder.join(name).display().to_string();
    let config = [
        format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\n",
            text("sshd_host")
        ),
        format!("AuthorizedKeysFile {}\n", text("key.pub")),
        "StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\nMaxStartups 100\nPrintMotd no\n"
            .to_owned(),
    ];
    std::fs::write(folder.join("sshd_config"), config.concat())?;
    let daemon = Process::new("/usr/sbin/sshd")
        .args(["-D", "-e", "-q", "-f"])
        .arg(folder.join("sshd_config"))
        .spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    let server = Server {
        name: "sshd",
        port,
        download: format!("head -c {bytes} /dev/zero"),
        upload: "cat > /dev/null".to_owned(),
        empty: "exit 127".to_owned(),
        process: daemon.id(),
    };
    Ok((daemon, server))
}

fn compare(folder: &Path, servers: &[&Server], bytes: usize, rounds: usize) -> Outcome<()> {
    println!(
        "best of {rounds} rounds; then seconds of processor time per GB: of the server, of the client\n"
    );
    println!(
        "{:<31}{:<6}{:>10}{:>15}{:>10}{:>15}",
        "", "", "down MB/s", "s/GB", "up MB/s", "s/GB"
    );
    let gigabytes = bytes as f64 / 1e9;
    for cipher in CIPHERS {
        for server in servers {
            let (mut down, mut up) = (Cost::MAX, Cost::MAX);
            for _ in 0..rounds {
                down = down.min(server.timed(server.ssh(folder, cipher, &server.download))?);
                let mut upload = server.ssh(folder, cipher, &server.upload);
                upload.stdin(std::fs::File::open(folder.join("source"))?);
                up = up.min(server.timed(upload)?);
            }
            print!("{:<31}{:<6}", cipher.unwrap_or("client's choice"), server.name);
            for cost in [down, up] {
                print!("{:>10.0}", gigabytes * 1e3 / cost.time);
                print!("{:>8.2}{:>7.2}", cost.server / gigabytes, cost.client / gigabytes);
            }
            println!();
        }
    }
    println!("\nwhole connection with an empty session, median of {CONNECTIONS}:");
    for server in servers {
        let mut times = Vec::new();
        for _ in 0..CONNECTIONS {
            let start = Instant::now();
            server
                .ssh(folder, None, &server.empty)
                .stderr(Stdio::null())
                .status()?;
            times.push(start.elapsed());
        }
        times.sort();
        println!(
            "{:<32}{:>12.1?}",
            server.name,
            times.get(CONNECTIONS / 2).copied().unwrap_or_default()
        );
    }
    Ok(())
}

/// Memory of this process while clients push at sessions that never read.
fn stall(folder: &Path, server: &Server, source: &Path) -> Outcome<()> {
    let before = resident()?;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut ssh = server.ssh(folder, None, "nix-store --serve");
        clients.push(ssh.stdin(std::fs::File::open(source)?).spawn()?);
    }
    std::thread::sleep(Duration::from_secs(5));
    println!(
        "\nresident memory: {before} kB, with 8 uploads that nobody reads: {} kB",
        resident()?
    );
    for mut client in clients {
        client.kill()?;
        client.wait()?;
    }
    Ok(())
}

fn resident() -> Outcome<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?)
}
