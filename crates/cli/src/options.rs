//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A Nix build service that avoids building.
#[derive(Debug, Parser)]
#[command(version, about, disable_help_subcommand = true)]
pub struct Options {
    /// Configuration file [default: /etc/firn/firn.toml if it exists]
    #[arg(long, global = true, env = "FIRN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Directory that holds everything Firn keeps [default: /var/lib/firn for root, else ~/.local/share/firn]
    #[arg(long, global = true, env = "FIRN_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

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
    /// Public keys that act for accounts
    #[command(subcommand)]
    Key(KeyCommand),
    /// An account's latest requests and how each was answered
    Builds {
        /// Whose
        account: String,
        /// How many
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// One JSON document instead of a table
        #[arg(long)]
        json: bool,
    },
    /// What the running service does at the moment
    Status {
        /// One JSON document instead of text
        #[arg(long)]
        json: bool,
    },
    /// One session on standard input and output, for use behind OpenSSH (ForceCommand)
    Stdio {
        /// Whose session
        #[arg(long)]
        account: String,
        /// What the client asked for [default: $SSH_ORIGINAL_COMMAND, else `nix-daemon --stdio`]
        #[arg(long, value_name = "COMMAND")]
        exec: Option<String>,
    },
    /// Check what this machine offers and say what is missing
    Doctor,
    /// Run one build's sandbox (internal: the service starts it)
    #[command(hide = true)]
    SandboxExec,
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
    },
    /// All accounts
    List {
        /// One JSON document instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Remove an account with its keys and its evidence, and nobody else's
    Remove {
        /// Which
        name: String,
    },
}

/// `firn key …`
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Let a public key act for an account
    Add {
        /// Whose
        account: String,
        /// File with one line, such as ~/.ssh/id_ed25519.pub; '-' for standard input
        file: PathBuf,
    },
    /// An account's keys
    List {
        /// Whose
        account: String,
        /// One JSON document instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Remove a key
    Remove {
        /// Whose
        account: String,
        /// SHA256:… as `firn key list` shows it
        fingerprint: String,
    },
}
