//! One of the two that are compared, running.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};
use firn_testkit::{Nix, Server};

use super::plain::Sshd;
use super::usage::{self, Sample};

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
        Ok(Self {
            server,
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

    /// Runs a client's command: how long it took, and what it cost the server.
    pub fn measure(&self, command: &mut Command) -> anyhow::Result<Sample> {
        // What was left to write by what came before is not this command's cost.
        Command::new("sync").arg("-f").arg(&self.dir).status()?;
        let pid = self.pid()?;
        let cpu = usage::cpu_seconds(pid)?;
        let (seconds, memory) = match &self.server {
            Running::Firn(_) => {
                usage::reset_peak(pid)?;
                (timed(command), usage::peak(pid)?)
            }
            Running::Nix(_) => {
                let sampled = usage::sampled(pid, || timed(command));
                usage::childless(pid)?;
                sampled
            }
        };
        Ok(Sample {
            seconds: seconds.with_context(|| format!("the server's log: {}", self.log()))?,
            cpu: usage::cpu_seconds(pid)? - cpu,
            memory,
        })
    }

    fn pid(&self) -> anyhow::Result<u32> {
        match &self.server {
            Running::Nix(sshd) => Ok(sshd.pid()),
            Running::Firn(server) => server.pid().context("firn has ended"),
        }
    }

    fn log(&self) -> String {
        match &self.server {
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
