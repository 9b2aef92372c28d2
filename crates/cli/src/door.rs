//! The SSH front door's view of the house.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use firn_core::AccountName;
use firn_protocol::{SessionOptions, serve, worker};
use firn_service::ports::{Account, Accounts as _, DatabaseError};
use firn_service::{StoreError, on_behalf_of};
use firn_ssh::{Command, FrontDoor, PublicKeyBlob};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use crate::commands::{self, Caller, Line, SshKeys};
use crate::live::House;
use crate::shared_output::shared;
use crate::shell::{Answers, Input, Leave, Output, Shell};

/// Variables that mean something to the program `firn` itself, and so are no settings.
pub const PROGRAM_VARIABLES: [&[u8]; 2] = [b"FIRN_CONFIG", b"FIRN_DATA_DIR"];

/// What a person reads who logs in with a key that waits for its code, and does anything else.
const ACTS_FOR_NOBODY: &str = "this SSH key acts for no account yet; finish what `ssh-keys add` began: \
                               ssh -i FILE -o IdentitiesOnly=yes HOST shell ssh-keys confirm CODE";

/// How long such a login may take.
const NEW_KEY_TIME: Duration = Duration::from_secs(60);

/// How long a command that took its own right away has to answer.
const LAST_ANSWER: Duration = Duration::from_secs(5);

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

/// Who has proved a key.
#[derive(Clone, Debug)]
pub enum Visitor {
    /// An account's.
    Account(Identity),
    /// One that acts for nobody, and that an account wants to be its own.
    NewKey(PublicKeyBlob),
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

    /// One session to its end; the exit status that the client's ssh returns. When what it stands on is taken away, it ends there.
    pub async fn run(
        &self,
        identity: Identity,
        command: Command,
        environment: Environment,
        stdin: Input,
        stdout: Output,
        stderr: Output,
    ) -> u32 {
        // Before the first look at the rows: no change after that look is missed.
        let mut presence = self.house.enter(&identity.account);
        let (stderr, mut last_word) = shared(stderr);
        let leave = Leave::default();
        let is_shell = matches!(command, Command::Shell { .. });
        let session = self.hold(&identity, command, environment, stdin, stdout, stderr, &leave);
        let mut session = Box::pin(on_behalf_of(identity.account.id, session));
        let why = loop {
            tokio::select! {
                biased;
                // The session stands still while this looks.
                () = presence.changed() => if let Err(error) = self.may_go_on(&identity, is_shell).await {
                    break error.message;
                },
                status = &mut session => return status,
            }
        };
        tracing::info!(account = %identity.account.name, why, "session ended by a change of rights");
        tokio::select! {
            biased;
            () = leave.not_asked_for() => {}
            status = &mut session => return status,
            () = tokio::time::sleep(LAST_ANSWER) => {}
        }
        drop(session);
        // Whether it is heard changes nothing.
        let _ = last_word.write_all(format!("firn: {why}\n").as_bytes()).await;
        let _ = last_word.flush().await;
        1
    }

    #[expect(clippy::too_many_arguments, reason = "a session's ends, and who it is for")]
    async fn hold(
        &self,
        identity: &Identity,
        command: Command,
        environment: Environment,
        stdin: Input,
        stdout: Output,
        mut stderr: Output,
        leave: &Leave,
    ) -> u32 {
        let name = &identity.account.name;
        let opened = self.open(identity, environment).await;
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
                    Ok(_) => self.may_go_on(identity, true).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = allowed {
                    let _ = answers.error(&error.message).await;
                    return 1;
                }
                let shell = Shell {
                    desk: self.house.desk(identity.account.clone()),
                    caller: Caller::Account(identity.ssh_key.clone()),
                    answers,
                    leave: leave.clone(),
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
        // A connection outlives the look at its key: whoever was removed since gets no new session.
        self.may_go_on(identity, false).await?;
        environment.retain(|(name, _)| !PROGRAM_VARIABLES.contains(&name.as_slice()));
        let ssh_key = identity.ssh_key.clone();
        let account = identity.account.clone();
        self.house.session(account, ssh_key, environment).await
    }

    /// By the rows as they are now.
    async fn may_go_on(&self, identity: &Identity, is_shell: bool) -> Result<(), StoreError> {
        let rights = self.house.rights(&identity.account, identity.ssh_key.as_deref());
        if rights.await?.shell || !is_shell {
            return Ok(());
        }
        Err(StoreError::new(
            "the setting allow-shell closes the shell to this SSH key; a key that it is open to can open it, or the operator",
        ))
    }

    /// A login whose user name is an account's is a login as that account, or none.
    async fn goes_by(&self, user: &str, account: &AccountName) -> Result<bool, DatabaseError> {
        match AccountName::parse(user) {
            Ok(name) if name != *account => Ok(self.house.database().account(&name).await?.is_none()),
            _ => Ok(true),
        }
    }

    async fn find(&self, user: &str, key: &PublicKeyBlob) -> Result<Option<Visitor>, DatabaseError> {
        if let Some(account) = self.house.database().account_by_key(key.as_bytes()).await? {
            let goes = self.goes_by(user, &account.name).await?;
            return Ok(goes.then(|| {
                Visitor::Account(Identity {
                    account,
                    ssh_key: Some(key.fingerprint()),
                })
            }));
        }
        let awaited = self.house.awaits_ssh_key(key.as_bytes());
        Ok(awaited.then(|| Visitor::NewKey(key.clone())))
    }

    /// What whoever has proved a key can do that acts for nobody yet: confirm a code.
    async fn new_key(
        &self,
        key: &PublicKeyBlob,
        command: Command,
        stdout: Output,
        mut stderr: Output,
    ) -> u32 {
        let Command::Shell {
            json,
            words,
            terminal,
        } = command
        else {
            let _ = stderr
                .write_all(format!("firn: {ACTS_FOR_NOBODY}\n").as_bytes())
                .await;
            let _ = stderr.flush().await;
            return 1;
        };
        let mut answers = Answers::new(stdout, stderr, json, terminal.is_some());
        let code = match commands::parse(&words) {
            Ok(Line::Run(command)) => match *command {
                commands::Command::SshKeys(SshKeys::Confirm { code }) => Some(code),
                _ => None,
            },
            _ => None,
        };
        let confirmed = match code {
            Some(code) => self.house.confirm_ssh_key(key.as_bytes(), &code).await,
            None => Err(StoreError::new(ACTS_FOR_NOBODY)),
        };
        let told = match confirmed {
            Ok((account, key)) => {
                tracing::info!(account = %account.name, key = key.fingerprint, "key added");
                let facts = json!({ "fingerprint": key.fingerprint, "account": account.name.as_str() });
                let reply = commands::key_acts(facts, &key.fingerprint, &account.name);
                answers.reply(&reply).await.map(|()| 0)
            }
            Err(error) => answers.error(&error.message).await.map(|()| 1),
        };
        told.unwrap_or(1)
    }
}

impl FrontDoor for Door {
    type Account = Visitor;

    async fn knows(&self, key: &PublicKeyBlob) -> bool {
        match self.house.database().account_by_key(key.as_bytes()).await {
            Ok(account) => account.is_some() || self.house.awaits_ssh_key(key.as_bytes()),
            Err(error) => {
                no_database(&error);
                false
            }
        }
    }

    async fn authenticate(&self, user: &str, key: &PublicKeyBlob) -> Option<Visitor> {
        self.find(user, key).await.unwrap_or_else(|error| {
            no_database(&error);
            None
        })
    }

    async fn admits(&self, visitor: &Visitor) -> bool {
        match visitor {
            Visitor::Account(identity) => self.may_go_on(identity, false).await.is_ok(),
            Visitor::NewKey(_) => true,
        }
    }

    async fn revoked(&self, visitor: &Visitor) -> String {
        let Visitor::Account(identity) = visitor else {
            tokio::time::sleep(NEW_KEY_TIME).await;
            return ACTS_FOR_NOBODY.to_owned();
        };
        let mut presence = self.house.enter(&identity.account);
        loop {
            if let Err(error) = self.may_go_on(identity, false).await {
                return error.message;
            }
            presence.changed().await;
        }
    }

    fn account_name(&self, visitor: &Visitor) -> String {
        match visitor {
            Visitor::Account(identity) => identity.account.name.to_string(),
            // No account's name has a colon.
            Visitor::NewKey(key) => key.fingerprint(),
        }
    }

    async fn session<R, W, E>(
        &self,
        visitor: Visitor,
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
        match visitor {
            Visitor::Account(identity) => {
                self.run(identity, command, environment, stdin, stdout, stderr)
                    .await
            }
            Visitor::NewKey(key) => self.new_key(&key, command, stdout, stderr).await,
        }
    }
}

fn no_database(error: &DatabaseError) {
    tracing::error!(error = error as &dyn std::error::Error, "cannot look up a key");
}
