//! The SSH front door's view of the house.

use std::path::Path;
use std::sync::Arc;

use firn_protocol::{SessionOptions, serve, worker};
use firn_service::House;
use firn_service::ports::{Account, Builder, Database};
use firn_ssh::{Command, FrontDoor, PublicKeyBlob};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

/// Sessions of all accounts on one house.
pub struct Door<D, B> {
    house: Arc<House<D, B>>,
    options: SessionOptions,
}

impl<D: Database, B: Builder> Door<D, B> {
    /// In front of that house. Archives of unknown size wait in `data_dir`.
    pub fn new(house: Arc<House<D, B>>, data_dir: &Path) -> Self {
        let options = SessionOptions {
            spool_dir: data_dir.to_owned(),
            ..SessionOptions::new(format!("firn {}", env!("CARGO_PKG_VERSION")))
        };
        Self { house, options }
    }

    /// One session to its end; the exit status that the client's ssh returns.
    pub async fn run<R, W, E>(
        &self,
        account: Account,
        command: Command,
        stdin: R,
        stdout: W,
        mut stderr: E,
    ) -> u32
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
        E: AsyncWrite + Send + Unpin + 'static,
    {
        let name = account.name.clone();
        // A connection outlives the look at its key: whoever was removed since gets no new session.
        let gone = match self.house.database().account(&name).await {
            Ok(now) if now.as_ref().is_some_and(|now| now.id == account.id) => None,
            Ok(_) => Some(format!("firn: account '{name}' does not exist any more\n")),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot look up an account"
                );
                Some("firn: internal error: the service's database failed\n".to_owned())
            }
        };
        if let Some(text) = gone {
            let _ = stderr.write_all(text.as_bytes()).await;
            let _ = stderr.flush().await;
            return 1;
        }
        let store = self.house.store(account);
        let ended = match command {
            Command::WorkerDaemon => worker::serve(&store, stdin, stdout, &self.options).await,
            Command::Serve { .. } => serve::serve(&store, stdin, stdout, stderr, &self.options).await,
            Command::Shell { .. } => {
                let text = "firn: the shell is not available yet; ask the operator for account changes\n";
                let _ = stderr.write_all(text.as_bytes()).await;
                let _ = stderr.flush().await;
                return 1;
            }
        };
        match ended {
            Ok(()) => 0,
            Err(error) => {
                tracing::info!(account = %name, %error, "session ended early");
                1
            }
        }
    }
}

impl<D: Database, B: Builder> FrontDoor for Door<D, B> {
    type Account = Account;

    async fn authenticate(&self, key: &PublicKeyBlob) -> Option<Account> {
        match self.house.database().account_by_key(key.as_bytes()).await {
            Ok(account) => account,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot look up a key");
                None
            }
        }
    }

    fn account_name(&self, account: &Account) -> String {
        account.name.to_string()
    }

    async fn session<R, W, E>(
        &self,
        account: Account,
        command: Command,
        _env: Vec<(Vec<u8>, Vec<u8>)>,
        stdin: R,
        stdout: W,
        stderr: E,
    ) -> u32
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
        E: AsyncWrite + Send + Unpin + 'static,
    {
        self.run(account, command, stdin, stdout, stderr).await
    }
}
