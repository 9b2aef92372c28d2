//! Accepting connections, their limits, and the shutdown.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::server::{Config as Protocol, run_stream};
use russh::{Disconnect, MethodKind, MethodSet, SshId};
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::algorithms::preferred;
use crate::connection::Connection;
use crate::crowd::{Crowd, Spot};
use crate::greeting::{IDENTIFICATION, greet};
use crate::slots::Slots;
use crate::wire::{Link, WIDE_WINDOW, Wire};
use crate::{Config, FrontDoor, HostKey, SshError};

/// The largest packet of data a client may send, in bytes.
const PACKET: u32 = 128 * 1024;
/// Packets of output between the sessions and the network.
const OUTPUT_QUEUE: usize = 32;
/// How long a client may take to leave by itself after its last session, when the service shuts down.
const LEAVE_TIME: Duration = Duration::from_secs(2);
/// How long the sessions of whoever may not go on have to end by themselves, before their connection is closed.
pub const REVOKED_GRACE: Duration = Duration::from_secs(10);
/// The pause after a failed accept, which usually means that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

struct House<F: FrontDoor> {
    door: Arc<F>,
    config: Arc<Config>,
    /// For everybody, and for clients that have AES-GCM.
    protocols: [Arc<Protocol>; 2],
    slots: Arc<Slots>,
    crowd: Arc<Crowd>,
    shutdown: CancellationToken,
}

/// Serves SSH on `listener` until `shutdown` is cancelled and the last connection has ended.
///
/// The shutdown closes the listener at once, lets running sessions end for at most [`Config::shutdown_grace`],
/// then closes their connections.
pub async fn serve<F: FrontDoor>(
    listener: TcpListener,
    key: HostKey,
    config: Config,
    door: Arc<F>,
    shutdown: CancellationToken,
) -> Result<(), SshError> {
    let address = listener.local_addr().map_err(SshError::Listener)?;
    tracing::info!(%address, host_key = key.fingerprint(), "SSH front door open");
    let house = Arc::new(House {
        door,
        protocols: [false, true].map(|fast| Arc::new(protocol(&key, &config, fast))),
        slots: Slots::new(config.max_sessions_per_account),
        crowd: Crowd::new(&config),
        config: Arc::new(config),
        shutdown,
    });
    let connections = TaskTracker::new();
    while let Some(accepted) = house.shutdown.run_until_cancelled(listener.accept()).await {
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let span = tracing::info_span!("connection", %peer);
        let house = house.clone();
        let spot = house.crowd.enter(peer.ip());
        let connection = async move { house.receive(tcp, peer, spot).await };
        connections.spawn(connection.instrument(span));
    }
    drop(listener);
    tracing::info!(connections = connections.len(), "SSH front door closing");
    connections.close();
    connections.wait().await;
    Ok(())
}

fn protocol(key: &HostKey, config: &Config, fast: bool) -> Protocol {
    Protocol {
        server_id: SshId::Standard(IDENTIFICATION.into()),
        methods: MethodSet::from([MethodKind::PublicKey].as_slice()),
        // A rejection says only that this key is not known; a delay would be paid once per key of an agent.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key.private().clone()],
        window_size: WIDE_WINDOW,
        maximum_packet_size: PACKET,
        event_buffer_size: OUTPUT_QUEUE,
        preferred: preferred(fast),
        max_auth_attempts: config.max_auth_attempts,
        // A silent session is healthy. The questions are russh's, the judgement of silence is `Wire`'s.
        inactivity_timeout: None,
        keepalive_interval: Some(config.keepalive_interval),
        keepalive_max: 0,
        nodelay: true,
        ..Protocol::default()
    }
}

/// Why a client has to go, and how long its sessions may go on.
struct End {
    why: String,
    grace: Duration,
}

impl<F: FrontDoor> House<F> {
    async fn receive(&self, mut tcp: TcpStream, peer: SocketAddr, spot: Arc<Spot>) {
        if let Err(error) = self.prepare(&tcp) {
            tracing::debug!(%error, "the connection was gone at once");
            return;
        }
        let deadline = Instant::now() + self.config.login_timeout;
        let link = Arc::new(Link::default());
        let sessions = TaskTracker::new();
        let (logged_in, who) = oneshot::channel();
        let connection = Connection {
            door: self.door.clone(),
            config: self.config.clone(),
            slots: self.slots.clone(),
            link: link.clone(),
            sessions: sessions.clone(),
            places: Arc::new(Semaphore::new(self.config.max_channels_per_connection)),
            login_deadline: deadline,
            spot: spot.clone(),
            logged_in: Some(logged_in),
            shutdown: self.shutdown.clone(),
            account: None,
            channels: HashMap::new(),
            opened: 0,
        };
        let started = timeout_at(deadline, async {
            let greeting = greet(&mut tcp, self.config.ciphers.prefer_aes_gcm()).await?;
            let [everybody, fast] = &self.protocols;
            let protocol = if greeting.accepts_aes_gcm { fast } else { everybody };
            let wire = Wire::new(tcp, link.clone(), self.config.patience())
                .resume(&greeting.received, IDENTIFICATION.len() + "\r\n".len());
            run_stream(protocol.clone(), wire, connection).await
        });
        let started = tokio::select! {
            started = self.shutdown.run_until_cancelled(started) => started,
            () = spot.lost() => return tracing::debug!("no SSH client yet: made room for another one"),
        };
        let mut running = match started {
            Some(Ok(Ok(running))) => running,
            Some(Ok(Err(error))) => return tracing::debug!(%error, "no SSH client"),
            Some(Err(_)) => return tracing::debug!("no SSH client within the login time limit"),
            None => return,
        };
        let account = tokio::select! {
            Ok(account) = who => Ok(account),
            ended = &mut running => Err(ended),
            why = self.no_login(deadline, &spot) => {
                link.cut(why);
                Err((&mut running).await)
            }
        };
        let ended = match account {
            Err(ended) => ended,
            Ok(account) => tokio::select! {
                ended = &mut running => ended,
                end = self.end_of_stay(&account, &spot) => {
                    let handle = running.handle();
                    sessions.close();
                    if timeout(end.grace, sessions.wait()).await.is_err() {
                        tracing::warn!(sessions = sessions.len(), why = end.why, "sessions cut off");
                    } else if !end.grace.is_zero() && let Ok(ended) = timeout(LEAVE_TIME, &mut running).await {
                        return report(peer, ended);
                    }
                    let told = handle.disconnect(Disconnect::ByApplication, end.why, String::new());
                    let _ = timeout(LEAVE_TIME, told).await;
                    match timeout(LEAVE_TIME, &mut running).await {
                        Ok(ended) => ended,
                        Err(_) => {
                            link.cut("the client was told to go");
                            (&mut running).await
                        }
                    }
                }
            },
        };
        report(peer, ended);
        sessions.close();
        sessions.wait().await;
    }

    /// Returns, with the reason, when a client that has not logged in may stay no longer.
    async fn no_login(&self, deadline: Instant, spot: &Spot) -> &'static str {
        tokio::select! {
            () = self.shutdown.cancelled() => "the service is shutting down",
            () = sleep_until(deadline) => "the login took too long",
            () = spot.lost() => "made room for another client",
        }
    }

    /// Returns when a client that has logged in may stay no longer.
    async fn end_of_stay(&self, account: &F::Account, spot: &Spot) -> End {
        tokio::select! {
            () = self.shutdown.cancelled() => End {
                why: "the service is shutting down".to_owned(),
                grace: self.config.shutdown_grace,
            },
            why = self.door.revoked(account) => End { why, grace: REVOKED_GRACE },
            () = spot.lost() => End {
                why: "too many connections: this account has the most, and made room for another one".to_owned(),
                grace: Duration::ZERO,
            },
        }
    }

    fn prepare(&self, tcp: &TcpStream) -> std::io::Result<()> {
        let patience = self.config.patience();
        tcp.set_nodelay(true)?;
        // For a peer that cannot be reached while nothing is read from it.
        sockopt::set_socket_keepalive(tcp, true)?;
        sockopt::set_tcp_keepidle(tcp, self.config.keepalive_interval.max(Duration::from_secs(1)))?;
        sockopt::set_tcp_keepintvl(tcp, self.config.keepalive_interval.max(Duration::from_secs(1)))?;
        sockopt::set_tcp_keepcnt(tcp, self.config.keepalive_misses.clamp(1, 100))?;
        let millis = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(tcp, millis)?;
        Ok(())
    }
}

fn report(peer: SocketAddr, ended: Result<(), russh::Error>) {
    match ended {
        Ok(()) => tracing::debug!(%peer, "connection ended"),
        Err(error) => tracing::debug!(%peer, %error, "connection ended"),
    }
}
