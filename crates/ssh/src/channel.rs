//! One SSH channel: from its opening to the request for a session, and the ends that the connection keeps after it.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use russh::ChannelWriteHalf;
use russh::server::Msg;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::Terminal;
use crate::stdin::StdinFeed;
use crate::stdout::{FULL_PACKET, Outbox};
use crate::wire::Link;

/// `SSH_EXTENDED_DATA_STDERR` (RFC 4254 section 5.2).
pub(crate) const STDERR: u32 = 1;

/// How long a packet that there is room for may take to be sent before input is looked at for the reason.
const KEY_CHANGE_TIME: Duration = Duration::from_millis(50);
/// Variables that one channel may set.
const MAX_VARIABLES: usize = 64;
/// Bytes of names and values that one channel may set.
const MAX_ENVIRONMENT: usize = 32 * 1024;

/// A channel as its connection knows it.
pub(crate) enum Channel {
    /// Open, and nothing requested yet.
    Waiting(Waiting),
    /// A session runs, or has run.
    Started {
        /// Where the client's data goes.
        stdin: StdinFeed,
        /// Cancelled when the channel is over, by whichever side.
        over: CancellationToken,
        /// Whose size follows the client's window.
        terminal: Option<Terminal>,
    },
}

/// What a session will need.
pub(crate) struct Waiting {
    pub(crate) half: ChannelWriteHalf<Msg>,
    pub(crate) place: OwnedSemaphorePermit,
    pub(crate) env: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) terminal: Option<Terminal>,
}

impl Channel {
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Started { over, .. } if over.is_cancelled())
    }

    pub(crate) fn terminal(&self) -> Option<&Terminal> {
        match self {
            Self::Waiting(waiting) => waiting.terminal.as_ref(),
            Self::Started { terminal, .. } => terminal.as_ref(),
        }
    }

    /// The client has closed the channel or gone altogether.
    pub(crate) fn client_gone(&self) {
        if let Self::Started { stdin, over, .. } = self {
            stdin.gone();
            over.cancel();
        }
    }
}

impl Waiting {
    /// Whether the variable was taken: within the limits, and with a name that can be one.
    pub(crate) fn set_variable(&mut self, name: &[u8], value: &[u8]) -> bool {
        let size = |pair: &(Vec<u8>, Vec<u8>)| pair.0.len() + pair.1.len();
        let taken: usize = self.env.iter().map(size).sum();
        let valid =
            !name.is_empty() && !name.iter().chain(value).any(|byte| *byte == 0) && !name.contains(&b'=');
        if !valid || self.env.len() >= MAX_VARIABLES || taken + name.len() + value.len() > MAX_ENVIRONMENT {
            return false;
        }
        self.env.push((name.to_vec(), value.to_vec()));
        true
    }
}

/// Sends what is written to `outbox` until its session has finished, as fast as the client takes it.
pub(crate) async fn send_all(
    half: &ChannelWriteHalf<Msg>,
    extended: Option<u32>,
    outbox: &Outbox,
    link: &Link,
) -> Result<(), russh::Error> {
    while let Some(mut bytes) = outbox.next().await {
        while !bytes.is_empty() {
            let room = half.writable_packet_size().await;
            let limit = if room == 0 { FULL_PACKET } else { room };
            let packet = bytes.split_to(bytes.len().min(limit));
            let mut sending = pin!(send(half, extended, packet));
            // No room: only the client can make some. Room, and still no progress: the keys are being changed, and
            // the client's part of that may stand behind its data.
            if room > 0
                && let Ok(sent) = timeout(KEY_CHANGE_TIME, &mut sending).await
            {
                sent?;
            } else {
                let _starved = link.starve();
                sending.await?;
            }
        }
    }
    Ok(())
}

async fn send(
    half: &ChannelWriteHalf<Msg>,
    extended: Option<u32>,
    packet: Bytes,
) -> Result<(), russh::Error> {
    match extended {
        None => half.data_bytes(packet).await,
        Some(code) => half.extended_data_bytes(code, packet).await,
    }
}
