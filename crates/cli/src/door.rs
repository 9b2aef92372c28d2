//! The SSH front door's view of the house.

use std::path::Path;
use std::sync::Arc;

use firn_protocol::{SessionOptions, serve, worker};
use firn_service::ports::{Account, Accounts as _};
use firn_service::{StoreError, on_behalf_of};
use firn_ssh::{Command, FrontDoor, PublicKeyBlob};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use crate::commands::Caller;
use crate::live::House;
use crate::shell::{Answers, Input, Output, Shell};

/// Variables that mean something to the program `firn` itself, and so are no settings.
pub const PROGRAM_VARIABLES: [&[u8]; 2] = [b"FIRN_CONFIG", b"FIRN_DATA_DIR"];

/// Names and values.
pub type Environment = Vec<(Vec<u8>, Vec<u8>)>;

/// Who is at the door.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The account that the session acts for.
    pub account: Account,
    /// Fingerprint of the key that it came with, where that is known.
    pub ssh_key: Option<String>,
}

/// Sessions of all accounts on one house.
pub struct Door {
    house: Arc<House>,
    options: SessionOptions,
}

impl Door {
    /// In front of that house. Archives of unknown size wait in `data_dir`.
    pub fn new(house: Arc<House>, data_dir: &Path) -> Self {
        let options = SessionOptions {
            spool_dir: data_dir.to_owned(),
            memory: house.memory().clone(),
            ..SessionOptions::new(format!("firn {}", env!("CARGO_PKG_VERSION")))
        };
        Self { house, options }
    }

    /// One session to its end; the exit status that the client's ssh returns.
    pub async fn run(
        &self,
        identity: Identity,
        command: Command,
        environment: Environment,
        stdin: Input,
        stdout: Output,
        stderr: Output,
    ) -> u32 {
        let account = identity.account.id;
        let session = self.serve(identity, command, environment, stdin, stdout, stderr);
        on_behalf_of(account, session).await
    }

    async fn serve(
        &self,
        identity: Identity,
        command: Command,
        environment: Environment,
        stdin: Input,
        stdout: Output,
        mut stderr: Output,
    ) -> u32 {
        let name = identity.account.name.clone();
        let opened = self.open(&identity, environment).await;
        let mut options = self.options.clone();
        options.account = identity.account.id.0;
        let ended = match (opened, command) {
            (
                opened,
                Command::Shell {
                    json,
                    words,
                    terminal,
                },
            ) => {
                let mut answers = Answers::new(stdout, stderr, json, terminal.is_some());
                let allowed = match opened {
                    Ok(store) => self.allow_shell(&store).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = allowed {
                    let _ = answers.error(&error.message).await;
                    return 1;
                }
                let shell = Shell {
                    desk: self.house.desk(identity.account),
                    caller: Caller::Account(identity.ssh_key),
                    answers,
                };
                return shell.run(words, stdin, terminal).await;
            }
            (Err(error), _) => {
                let _ = stderr
                    .write_all(format!("firn: {}\n", error.message).as_bytes())
                    .await;
                let _ = stderr.flush().await;
                return 1;
            }
            (Ok(store), Command::WorkerDaemon) => {
                match store.settings().await {
                    Ok(settings) => options.trusted = settings.trusted,
                    Err(error) => options.refusal = Some(error.message),
                }
                worker::serve(&store, stdin, stdout, &options).await
            }
            (Ok(store), Command::Serve { .. }) => serve::serve(&store, stdin, stdout, stderr, &options).await,
        };
        match ended {
            Ok(()) => 0,
            Err(error) => {
                tracing::info!(account = %name, %error, "session ended early");
                1
            }
        }
    }

    /// The store that the session sees.
    async fn open(
        &self,
        identity: &Identity,
        mut environment: Environment,
    ) -> Result<firn_service::AccountStore<crate::live::Live>, StoreError> {
        let account = &identity.account;
        // A connection outlives the look at its key: whoever was removed since gets no new session.
        match self.house.database().account(&account.name).await {
            Ok(now) if now.as_ref().is_some_and(|now| now.id == account.id) => {}
            Ok(_) => {
                return Err(StoreError::new(format!(
                    "account '{}' does not exist any more",
                    account.name
                )));
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot look up an account"
                );
                return Err(StoreError::new("internal error: the service's database failed"));
            }
        }
        environment.retain(|(name, _)| !PROGRAM_VARIABLES.contains(&name.as_slice()));
        let ssh_key = identity.ssh_key.clone();
        self.house.session(account.clone(), ssh_key, environment).await
    }

    async fn allow_shell(
        &self,
        store: &firn_service::AccountStore<crate::live::Live>,
    ) -> Result<(), StoreError> {
        if store.settings().await?.allow_shell {
            return Ok(());
        }
        Err(StoreError::new(
            "the setting allow-shell closes the shell to this SSH key; a key that it is open to can open it, or the operator",
        ))
    }
}

impl FrontDoor for Door {
    type Account = Identity;

    async fn authenticate(&self, key: &PublicKeyBlob) -> Option<Identity> {
        match self.house.database().account_by_key(key.as_bytes()).await {
            Ok(account) => Some(Identity {
                account: account?,
                ssh_key: Some(key.fingerprint()),
            }),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot look up a key");
                None
            }
        }
    }

    fn account_name(&self, identity: &Identity) -> String {
        identity.account.name.to_string()
    }

    async fn session<R, W, E>(
        &self,
        identity: Identity,
        command: Command,
        environment: Environment,
        stdin: R,
        stdout: W,
        stderr: E,
    ) -> u32
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
        E: AsyncWrite + Send + Unpin + 'static,
    {
        // Boxed, so that a session is compiled once for every door.
        let (stdin, stdout, stderr) = (Box::new(stdin), Box::new(stdout), Box::new(stderr));
        self.run(identity, command, environment, stdin, stdout, stderr)
            .await
    }
}
