//! What an account decides about itself and may know: the same commands for `ssh HOST shell`, `ssh HOST api` and the operator.
//!
//! One file a group: its arguments, and what it does at the account's [`Desk`].

mod caches;
mod explain;
pub mod history;
mod ledger;
mod line;
mod paths;
mod relations;
mod reply;
mod settings;
mod signing;
mod ssh_keys;
mod usage;

use clap::Subcommand;
use firn_service::ports::Ports;
use firn_service::{Desk, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use line::{Line, complete, parse};
pub use reply::{Reply, plain};
pub use ssh_keys::{SshKeys, acts as key_acts, read as read_ssh_key};
pub use usage::Usage;

/// A command of an account.
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// An account's settings, and those of its SSH keys
    Settings(settings::Settings),
    /// SSH keys that act for the account
    #[command(subcommand)]
    SshKeys(SshKeys),
    /// Public keys whose signatures the account believes
    #[command(subcommand)]
    TrustedKeys(caches::TrustedKeys),
    /// Binary caches that Firn fetches from for the account
    #[command(subcommand)]
    Substituters(caches::Substituters),
    /// Accounts whose builds and uploads this one believes
    #[command(subcommand, after_help = relations::BOTH_SIDES)]
    Trust(relations::Trust),
    /// Accounts that may read this one's builds and uploads
    #[command(subcommand, after_help = relations::BOTH_SIDES)]
    Readers(relations::Readers),
    /// Logins for binary caches that want one
    #[command(subcommand)]
    Logins(caches::Logins),
    /// The key that signs for the account
    #[command(subcommand)]
    SigningKey(signing::SigningKey),
    /// Latest requests, and how each was answered; or what runs
    Builds(history::Builds),
    /// The log of a build: followed while it runs, or of the latest that answered a request
    Log(history::Log),
    /// What the account used and was spared, by rung of the reuse ladder
    Usage(Usage),
    /// Why a store path is valid for the account or is not, or why a build was run
    Explain(explain::Explain),
    /// What is known not to build reproducibly
    Reproducibility,
    /// Take back the account's own evidence for store paths
    Forget(paths::Forget),
    /// Whose commands these are
    Whoami,
}

/// Who gives a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Whoever runs the service.
    Operator,
    /// The account itself, with the fingerprint of the SSH key where it is known.
    Account(Option<String>),
}

impl Command {
    /// What to ask for besides the words, without showing it.
    pub fn secret(&self) -> Option<&'static str> {
        match self {
            Self::Logins(caches::Logins::Set { .. }) => Some("password: "),
            Self::SigningKey(signing::SigningKey::Import) => Some("secret key (name:base64): "),
            _ => None,
        }
    }
}

impl Command {
    /// Whether it may take from whoever gives it the right to give commands.
    pub fn may_end_its_session(&self, caller: &Caller) -> bool {
        match (self, caller) {
            (Self::SshKeys(SshKeys::Remove { fingerprint, .. }), Caller::Account(Some(own))) => {
                fingerprint == own
            }
            (Self::Settings(settings), Caller::Account(_)) => settings.changes("allow-shell"),
            _ => false,
        }
    }
}

/// Carries out a command of the desk's account. `secret` is the answer to [`Command::secret`].
///
/// # Errors
/// What a person can read.
pub async fn run<P: Ports>(
    desk: &Desk<P>,
    caller: &Caller,
    command: Command,
    secret: Option<String>,
) -> Result<Reply, StoreError> {
    match command {
        Command::Settings(command) => command.run(desk).await,
        Command::SshKeys(command) => command.run(desk, caller).await,
        Command::TrustedKeys(command) => command.run(desk).await,
        Command::Substituters(command) => command.run(desk).await,
        Command::Trust(command) => command.run(desk).await,
        Command::Readers(command) => command.run(desk).await,
        Command::Logins(command) => command.run(desk, secret).await,
        Command::SigningKey(command) => command.run(desk, secret).await,
        Command::Builds(command) => command.run(desk).await,
        Command::Log(command) => command.run(desk).await,
        Command::Usage(command) => command.run(desk).await,
        Command::Reproducibility => ledger::reproducibility(desk).await,
        Command::Explain(command) => command.run(desk).await,
        Command::Forget(command) => command.run(desk).await,
        Command::Whoami => Ok(whoami(desk, caller)),
    }
}

fn whoami<P: Ports>(desk: &Desk<P>, caller: &Caller) -> Reply {
    let account = desk.account();
    let (operator, ssh_key) = match caller {
        Caller::Operator => (true, None),
        Caller::Account(ssh_key) => (false, ssh_key.as_deref()),
    };
    Reply::facts(json!({
        "account": account.name.as_str(),
        "created": account.created,
        "ssh_key": ssh_key,
        "operator": operator,
    }))
}
