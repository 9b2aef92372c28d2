//! One of the two that are compared, running.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};
use firn_testkit::{Nix, Server};

use super::plain::Sshd;
use super::usage::{self, CpuGroup, Sample};

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// OpenSSH's server and Nix.
    Nix,
    Firn,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Nix, Self::Firn];
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nix => "Nix",
            Self::Firn => "Firn",
        })
    }
}

/// A server with an empty store.
pub struct Remote {
    server: Running,
    /// After the server, so that it is empty when it is removed.
    cpu: CpuGroup,
    /// For `ssh -F`; the server's name in it is `firn`, whoever it is.
    ssh_config: PathBuf,
    dir: PathBuf,
}

enum Running {
    Nix(Sshd),
    Firn(Server),
}

impl Remote {
    /// Starts one below `dir`.
    pub fn start(side: Side, firn: &Path, dir: &Path) -> anyhow::Result<Self> {
        let home = dir.join("server");
        let (server, ssh_config) = match side {
            Side::Nix => {
                let sshd = Sshd::start(&home)?;
                let config = sshd.ssh_config().to_owned();
                (Running::Nix(sshd), config)
            }
            Side::Firn => {
                let server = Server::start_in(firn, &home)?;
                let config = server.client("bench")?.ssh_config;
                (Running::Firn(server), config)
            }
        };
        let pid = server.pid()?;
        Ok(Self {
            server,
            cpu: CpuGroup::new(pid),
            ssh_config,
            dir: dir.to_owned(),
        })
    }

    pub fn uri(scheme: &str) -> String {
        format!("{scheme}://firn")
    }

    /// A Nix on the store below `dir` that reaches this server.
    pub fn client(&self, dir: &Path) -> anyhow::Result<Nix> {
        let mut nix = Nix::new(dir)?;
        nix.set("NIX_SSHOPTS", format!("-F {}", self.ssh_config.display()));
        // Here the hook keeps its locks for slots of builders, which must not be shared with others on this machine.
        nix.set("NIX_STATE_DIR", dir.join("state").display().to_string());
        Ok(nix)
    }

    /// A Nix of a new account of this Firn. Plain Nix has no accounts: there it is one more client.
    pub fn stranger(&self, dir: &Path, name: &str) -> anyhow::Result<Nix> {
        match &self.server {
            Running::Firn(server) => Ok(server.client(name)?.nix),
            Running::Nix(_) => self.client(dir),
        }
    }

    /// A Nix for a new account of this Firn that trusts a key and uses a binary cache.
    pub fn account(&self, name: &str, key: &str, cache: &str) -> anyhow::Result<Nix> {
        let Running::Firn(server) = &self.server else {
            bail!("plain Nix has no accounts")
        };
        let client = server.client(name)?;
        for words in [["trusted-keys", "add", key], ["substituters", "add", cache]] {
            let words = [&words[..], &["--account", name]].concat();
            server.firn(&words)?.success()?;
        }
        Ok(client.nix)
    }

    /// Runs a client's command: how long it took, and what it cost the server.
    pub fn measure(&self, command: &mut Command) -> anyhow::Result<Sample> {
        // What was left to write by what came before is not this command's cost.
        Command::new("sync").arg("-f").arg(&self.dir).status()?;
        let pid = self.server.pid()?;
        let cpu = self.cpu.seconds();
        let (seconds, memory) = match &self.server {
            Running::Firn(_) => {
                usage::reset_peak(pid)?;
                (timed(command), usage::peak(pid)?)
            }
            Running::Nix(_) => usage::sampled(pid, || timed(command)),
        };
        Ok(Sample {
            seconds: seconds.with_context(|| format!("the server's log: {}", self.server.log()))?,
            cpu: self.cpu.seconds() - cpu,
            memory,
        })
    }
}

impl Running {
    fn pid(&self) -> anyhow::Result<u32> {
        match self {
            Running::Nix(sshd) => Ok(sshd.pid()),
            Running::Firn(server) => server.pid().context("firn has ended"),
        }
    }

    fn log(&self) -> String {
        match self {
            Running::Nix(sshd) => sshd.log(),
            Running::Firn(server) => server.log(),
        }
    }
}

fn timed(command: &mut Command) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let output = command.output()?;
    let seconds = begun.elapsed().as_secs_f64();
    if !output.status.success() {
        let end = output.stderr.len().saturating_sub(2000);
        let said = output.stderr.get(end..).unwrap_or_default();
        bail!(
            "a client failed: {}",
            said.escape_ascii().to_string().replace("\\n", "\n")
        );
    }
    Ok(seconds)
}
