//! One client's connection: who it is, its channels, and what each channel asks for.

use std::collections::HashMap;
use std::sync::Arc;

use russh::keys::{Algorithm, Certificate, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session as Ssh, VerifiedPublicKey,
};
use russh::{ChannelId, ChannelOpenFailure, Pty};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::algorithms::accepts_signature;
use crate::channel::{Channel, STDERR, Waiting};
use crate::crowd::Spot;
use crate::public_key::check_strength;
use crate::session::Session;
use crate::slots::Slots;
use crate::stdin::stdin;
use crate::wire::Link;
use crate::{Command, Config, FrontDoor, PublicKeyBlob, Terminal, parse_command};

/// What a refused request ends with.
const REFUSED: u32 = 1;
/// What a command that is not offered ends with, as in a shell.
const NO_SUCH_COMMAND: u32 = 127;
/// Characters of a user name that are logged.
const MAX_SHOWN: usize = 64;
/// Channels over the whole life of a connection; russh keeps a little of each.
const MAX_CHANNELS_EVER: usize = 100_000;

/// The state of one connection, driven by russh.
pub(crate) struct Connection<F: FrontDoor> {
    pub(crate) door: Arc<F>,
    pub(crate) config: Arc<Config>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) link: Arc<Link>,
    /// The running sessions.
    pub(crate) sessions: TaskTracker,
    /// Free places for channels.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) login_deadline: Instant,
    /// Its place among all connections.
    pub(crate) spot: Arc<Spot>,
    /// Hears who the client is.
    pub(crate) logged_in: Option<oneshot::Sender<F::Account>>,
    /// No new channels.
    pub(crate) shutdown: CancellationToken,
    pub(crate) account: Option<F::Account>,
    pub(crate) channels: HashMap<ChannelId, Channel>,
    pub(crate) opened: usize,
}

impl<F: FrontDoor> Drop for Connection<F> {
    fn drop(&mut self) {
        for channel in self.channels.values() {
            channel.client_gone();
        }
    }
}

impl<F: FrontDoor> Connection<F> {
    /// What the door says of an acceptable key, before the login takes too long.
    async fn ask<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.login_deadline, answer).await.ok()
    }

    /// Ends a channel that got no session with a word for the person at the client.
    fn refuse(&mut self, id: ChannelId, status: u32, why: &str, ssh: &mut Ssh) -> Result<(), russh::Error> {
        let channel = self.channels.remove(&id);
        // A client with a terminal shows bytes as they come.
        let end = match channel.as_ref().and_then(Channel::terminal) {
            Some(_) => "\r\n",
            None => "\n",
        };
        tracing::info!(why, "session refused");
        ssh.channel_success(id)?;
        ssh.extended_data(id, STDERR, format!("firn: {why}{end}"))?;
        ssh.exit_status_request(id, status)?;
        ssh.eof(id)?;
        ssh.close(id)
    }

    /// Begins what an exec request asks for.
    fn exec(&mut self, id: ChannelId, exec: &[u8], ssh: &mut Ssh) -> Result<(), russh::Error> {
        match parse_command(exec) {
            Ok(command) => self.start(id, command, ssh),
            Err(_) if !matches!(self.channels.get(&id), Some(Channel::Waiting(_))) => ssh.channel_failure(id),
            Err(error) => self.refuse(id, NO_SUCH_COMMAND, &error.to_string(), ssh),
        }
    }

    fn start(&mut self, id: ChannelId, mut command: Command, ssh: &mut Ssh) -> Result<(), russh::Error> {
        let Some(Channel::Waiting(waiting)) = self.channels.get(&id) else {
            return ssh.channel_failure(id);
        };
        if let Command::Shell { terminal, .. } = &mut command {
            terminal.clone_from(&waiting.terminal);
        }
        if self.shutdown.is_cancelled() {
            return self.refuse(
                id,
                REFUSED,
                "the service is shutting down; try again in a moment",
                ssh,
            );
        }
        let Some(account) = self.account.clone() else {
            return ssh.channel_failure(id);
        };
        let name = self.door.account_name(&account);
        let Some(slot) = self.slots.take(&name) else {
            let max = self.slots.max();
            let why = format!("the account {name} has reached its cap of {max} sessions at a time");
            return self.refuse(id, REFUSED, &why, ssh);
        };
        let Some(Channel::Waiting(waiting)) = self.channels.remove(&id) else {
            return ssh.channel_failure(id);
        };
        let Waiting {
            half,
            place,
            env,
            terminal,
        } = waiting;
        let (feed, stdin) = stdin(self.link.clone());
        let over = CancellationToken::new();
        self.channels.insert(
            id,
            Channel::Started {
                stdin: feed,
                over: over.clone(),
                terminal,
            },
        );
        let span = tracing::info_span!("session", account = name, %command, channel = u32::from(id));
        let session = Session {
            door: self.door.clone(),
            account,
            command,
            env,
            stdin,
            half,
            link: self.link.clone(),
            over,
            abandon_grace: self.config.abandon_grace,
            slot,
            place,
            busy: self.spot.busy(),
        };
        self.sessions.spawn(session.run().instrument(span));
        ssh.channel_success(id)
    }
}

/// A name that a client made up, for the log.
fn shown(user: &str) -> String {
    user.chars()
        .take(MAX_SHOWN)
        .flat_map(char::escape_debug)
        .collect()
}

/// The key as the door knows keys, where its kind, its strength and the signature's algorithm are good enough.
fn acceptable(algorithm: &Algorithm, key: &PublicKey) -> Option<PublicKeyBlob> {
    if !accepts_signature(algorithm) {
        return None;
    }
    check_strength(key.key_data()).ok()?;
    PublicKeyBlob::new(key)
}

impl<F: FrontDoor> Handler for Connection<F> {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        let Some(key) = acceptable(offer.algorithm, offer.public_key) else {
            return Ok(Auth::reject());
        };
        let known = self.ask(self.door.knows(&key)).await.unwrap_or(false);
        tracing::debug!(?key, known, "key offered");
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let Some(key) = acceptable(key.algorithm, key.public_key) else {
            return Ok(Auth::reject());
        };
        let asked = self.ask(self.door.authenticate(user, &key)).await;
        let Some(account) = asked.flatten() else {
            tracing::info!(?key, user = shown(user), "login refused");
            return Ok(Auth::reject());
        };
        let name = self.door.account_name(&account);
        tracing::info!(account = name, ?key, user = shown(user), "logged in");
        self.account = Some(account);
        Ok(Auth::Accept)
    }

    async fn auth_openssh_certificate(
        &mut self,
        _user: &str,
        _key: &Certificate,
    ) -> Result<Auth, Self::Error> {
        Ok(Auth::reject())
    }

    async fn auth_succeeded(&mut self, _ssh: &mut Ssh) -> Result<(), Self::Error> {
        if let (Some(logged_in), Some(account)) = (self.logged_in.take(), &self.account) {
            self.spot.log_in(&self.door.account_name(account));
            // Nobody hears it when the connection is being given up.
            let _ = logged_in.send(account.clone());
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: russh::Channel<Msg>,
        reply: ChannelOpenHandle,
        _ssh: &mut Ssh,
    ) -> Result<(), Self::Error> {
        self.channels.retain(|_, channel| !channel.is_over());
        let admitted = match &self.account {
            Some(account) => self.door.admits(account).await,
            None => false,
        };
        if !admitted {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
        let place = self.places.clone().try_acquire_owned();
        match place {
            Ok(place) if self.opened < MAX_CHANNELS_EVER && !self.shutdown.is_cancelled() => {
                self.opened += 1;
                let id = channel.id();
                // Data comes through `Handler::data`; with the read half gone, russh does not wait for a reader.
                let (_, half) = channel.split();
                self.channels.insert(
                    id,
                    Channel::Waiting(Waiting {
                        half,
                        place,
                        env: Vec::new(),
                        terminal: None,
                    }),
                );
                reply.accept().await;
            }
            _ => reply.reject(ChannelOpenFailure::ResourceShortage).await,
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _ssh: &mut Ssh) -> Result<(), Self::Error> {
        if let Some(Channel::Started { stdin, .. }) = self.channels.get(&id) {
            stdin.push(data);
        }
        Ok(())
    }

    fn adjust_window(&mut self, _id: ChannelId, _current: u32) -> u32 {
        self.link.window(self.channels.len())
    }

    async fn channel_eof(&mut self, id: ChannelId, _ssh: &mut Ssh) -> Result<(), Self::Error> {
        if let Some(Channel::Started { stdin, .. }) = self.channels.get(&id) {
            stdin.eof();
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _ssh: &mut Ssh) -> Result<(), Self::Error> {
        if let Some(channel) = self.channels.remove(&id) {
            channel.client_gone();
        }
        Ok(())
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        ssh: &mut Ssh,
    ) -> Result<(), Self::Error> {
        let taken = match self.channels.get_mut(&id) {
            Some(Channel::Waiting(waiting)) => waiting.set_variable(name.as_bytes(), value.as_bytes()),
            _ => false,
        };
        if taken {
            ssh.channel_success(id)
        } else {
            ssh.channel_failure(id)
        }
    }

    async fn exec_request(&mut self, id: ChannelId, exec: &[u8], ssh: &mut Ssh) -> Result<(), Self::Error> {
        self.exec(id, exec, ssh)
    }

    async fn shell_request(&mut self, id: ChannelId, ssh: &mut Ssh) -> Result<(), Self::Error> {
        let command = Command::Shell {
            json: false,
            words: Vec::new(),
            terminal: None,
        };
        self.start(id, command, ssh)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        ssh: &mut Ssh,
    ) -> Result<(), Self::Error> {
        ssh.channel_failure(id)
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _term: &str,
        columns: u32,
        rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        ssh: &mut Ssh,
    ) -> Result<(), Self::Error> {
        let Some(Channel::Waiting(waiting)) = self.channels.get_mut(&id) else {
            return ssh.channel_failure(id);
        };
        waiting.terminal = Some(Terminal::of_request(columns, rows));
        ssh.channel_success(id)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        _width: u32,
        _height: u32,
        _ssh: &mut Ssh,
    ) -> Result<(), Self::Error> {
        if let Some(terminal) = self.channels.get(&id).and_then(Channel::terminal) {
            terminal.resize(columns, rows);
        }
        Ok(())
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        ssh: &mut Ssh,
    ) -> Result<(), Self::Error> {
        ssh.channel_failure(id)
    }
}
