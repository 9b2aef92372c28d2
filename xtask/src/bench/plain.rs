//! Plain Nix behind OpenSSH's server, with a store of its own.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// How long sshd may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// What sshd insists on when it was built for Debian.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// A running sshd; killed when dropped.
pub struct Sshd {
    child: Child,
    ssh_config: PathBuf,
    store: PathBuf,
    log: PathBuf,
}

/// That there is an sshd which can be started.
pub fn check() -> anyhow::Result<()> {
    // It is not installed by itself, because its package starts a public server.
    program().context("the bench needs OpenSSH's server; install the package openssh-server")?;
    Ok(())
}

/// sshd wants to be started by its full path.
fn program() -> Option<PathBuf> {
    let usual = PathBuf::from("/usr/sbin/sshd");
    firn_testkit::find("sshd").or_else(|| usual.is_file().then_some(usual))
}

impl Sshd {
    /// Starts one on a free loopback port, with everything it needs below `dir`.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir.join("conf"))?;
        std::fs::create_dir_all(PRIVILEGE_SEPARATION)
            .with_context(|| format!("sshd needs the folder {PRIVILEGE_SEPARATION}"))?;
        let shell = firn_testkit::busybox().context("no static busybox")?;
        std::fs::write(
            dir.join("conf/nix.conf"),
            format!(
                "substituters =\nbuild-users-group =\nsandbox = true\nsandbox-paths = /bin/sh={}\n",
                shell.display()
            ),
        )?;
        for key in ["host_key", "id_ed25519"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f"])
                .arg(dir.join(key))
                .status()?;
            ensure!(made.success(), "ssh-keygen failed");
        }
        let port = free_port()?;
        let config = dir.join("sshd_config");
        std::fs::write(&config, sshd_config(dir, port))?;
        let ssh_config = dir.join("ssh_config");
        std::fs::write(&ssh_config, client_config(dir, port)?)?;
        let log = dir.join("sshd.log");
        let child = Command::new(program().context("sshd")?)
            .arg("-D")
            .arg("-f")
            .arg(&config)
            .arg("-E")
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start sshd")?;
        let sshd = Self {
            child,
            ssh_config,
            store: dir.join("store"),
            log,
        };
        sshd.wait(port)?;
        Ok(sshd)
    }

    fn wait(&self, port: u16) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::ConnectionRefused && begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(e) => bail!("sshd does not listen: {e}\n{}", self.log()),
            }
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// For `ssh -F`.
    pub fn ssh_config(&self) -> &Path {
        &self.ssh_config
    }

    /// The root of its store.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sshd_config(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        "ListenAddress 127.0.0.1:{port}\n\
         HostKey {dir}/host_key\n\
         AuthorizedKeysFile {dir}/id_ed25519.pub\n\
         PidFile none\n\
         StrictModes no\n\
         UsePAM no\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         PermitRootLogin prohibit-password\n\
         PrintMotd no\n\
         MaxStartups 100\n\
         SetEnv \"NIX_REMOTE=local?root={dir}/store\" \"NIX_CONF_DIR={dir}/conf\" \"NIX_STATE_DIR={dir}/state\"\n"
    )
}

fn client_config(dir: &Path, port: u16) -> anyhow::Result<String> {
    let user = Command::new("id").arg("-un").output()?.stdout;
    let user = String::from_utf8(user)?;
    Ok(format!(
        "Host firn\n  HostName 127.0.0.1\n  Port {port}\n  User {}\n  IdentityFile {}\n  IdentitiesOnly yes\n  BatchMode yes\n  \
         StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n",
        user.trim(),
        dir.join("id_ed25519").display(),
    ))
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
