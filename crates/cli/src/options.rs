//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands;

/// A Nix build service that avoids building.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Options {
    /// Configuration file [default: /etc/firn/firn.toml if it exists]
    #[arg(long, global = true, env = "FIRN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Directory that holds everything Firn keeps [default: /var/lib/firn for root, else ~/.local/share/firn]
    #[arg(long, global = true, env = "FIRN_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// For which account: `settings`, `ssh-keys` and the other commands that accounts have in their own shell, and `stdio`
    #[arg(long, global = true, value_name = "NAME")]
    pub account: Option<String>,

    /// One JSON document instead of text
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The roles and commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service
    Serve(ServeArgs),
    /// Accounts of the running service
    #[command(subcommand)]
    Account(AccountCommand),
    /// What accounts do for themselves with `ssh HOST shell`; here with --account NAME.
    #[command(flatten)]
    OfAccount(commands::Command),
    /// What the running service does at the moment
    Status,
    /// One session of --account on standard input and output, for use behind OpenSSH (ForceCommand)
    Stdio {
        /// What the client asked for [default: $SSH_ORIGINAL_COMMAND, else `nix-daemon --stdio`]
        #[arg(long, value_name = "COMMAND")]
        exec: Option<String>,
    },
    /// How much derivation sharing would save, by simulation over a graph of derivations; needs no service
    Simulate(firn_simulate::command::Args),
    /// Virtual machines for builds
    #[command(subcommand)]
    Vm(VmCommand),
    /// Check what this machine offers and say what is missing
    Doctor,
    /// Run one build's sandbox (internal: the service starts it)
    #[command(hide = true)]
    SandboxExec,
    /// Be the first process of a virtual machine (internal)
    #[command(hide = true)]
    VmInit,
}

/// `firn vm …`
#[derive(Debug, Subcommand)]
pub enum VmCommand {
    /// Make the kernel and the root of virtual machines from the distribution's packages (Debian: apt-get, busybox-static, e2fsprogs)
    Prepare {
        /// Package file of the kernel [default: the distribution's linux-image-cloud-amd64, downloaded]
        #[arg(long, value_name = "FILE.deb")]
        kernel: Option<PathBuf>,
    },
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address of the SSH front door [default: 127.0.0.1:2222]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
}

/// `firn account …`
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Make an account
    Add {
        /// 1 to 64 of a-z, 0-9 and '-'
        name: String,
        /// A key that acts for it: a file with one line, such as ~/.ssh/id_ed25519.pub; '-' for standard input
        #[arg(long, value_name = "FILE")]
        ssh_key: Option<PathBuf>,
    },
    /// All accounts
    List,
    /// Remove an account with its keys and its evidence, and nobody else's
    Remove {
        /// Which
        name: String,
    },
}
