//! Running one session: the door's future, the two tasks that send its output, and the order of the good-byes.

use std::sync::Arc;
use std::time::Duration;

use russh::ChannelWriteHalf;
use russh::server::Msg;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::channel::{STDERR, send_all};
use crate::crowd::Busy;
use crate::slots::Slot;
use crate::stdin::Stdin;
use crate::stdout::{Outbox, Send, output};
use crate::wire::Link;
use crate::{Command, FrontDoor};

/// What the client sees when the session itself failed.
const INTERNAL_ERROR: u32 = 70;

/// Everything that one session holds.
pub(crate) struct Session<F: FrontDoor> {
    pub(crate) door: Arc<F>,
    pub(crate) account: F::Account,
    pub(crate) command: Command,
    pub(crate) env: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) stdin: Stdin,
    pub(crate) half: ChannelWriteHalf<Msg>,
    pub(crate) link: Arc<Link>,
    /// Cancelled when the client has gone; cancelled here when the session is over.
    pub(crate) over: CancellationToken,
    pub(crate) abandon_grace: Duration,
    pub(crate) slot: Slot,
    pub(crate) place: OwnedSemaphorePermit,
    pub(crate) busy: Busy,
}

impl<F: FrontDoor> Session<F> {
    /// Runs to the end: of the session, or of the client's connection and the grace after it.
    pub(crate) async fn run(self) {
        let Self {
            door,
            account,
            command,
            env,
            stdin,
            half,
            link,
            over,
            abandon_grace,
            slot,
            place,
            busy,
        } = self;
        let (stdout, stdout_box) = output(Send::FullPackets);
        let (stderr, stderr_box) = output(Send::AtOnce);
        let task =
            tokio::spawn(async move { door.session(account, command, env, stdin, stdout, stderr).await });
        let outcome = async {
            let status = match finish(task, &over, abandon_grace).await {
                Ok(status) => status,
                Err(error) => {
                    tracing::error!(%error, panicked = error.is_panic(), "the session was cut short");
                    stderr_box.append("firn: internal error: the session failed\n");
                    INTERNAL_ERROR
                }
            };
            // The session may have left its ends with a task of its own.
            stdout_box.finish();
            stderr_box.finish();
            status
        };
        let sending = async {
            let sent = over
                .run_until_cancelled(async {
                    tokio::join!(
                        send_all(&half, None, &stdout_box, &link),
                        send_all(&half, Some(STDERR), &stderr_box, &link),
                    )
                })
                .await;
            break_off(&[&stdout_box, &stderr_box]);
            matches!(sent, Some((Ok(()), Ok(()))))
        };
        let (status, sent) = tokio::join!(outcome, sending);
        tracing::debug!(status, client_gone = !sent, "session ended");
        // Given back before the client can know: its next session must not find the place taken.
        drop((slot, place, busy));
        if sent {
            over.run_until_cancelled(say_good_bye(&half, status)).await;
        }
        over.cancel();
    }
}

async fn finish(
    mut task: JoinHandle<u32>,
    over: &CancellationToken,
    abandon_grace: Duration,
) -> Result<u32, JoinError> {
    if let Some(ended) = over.run_until_cancelled(&mut task).await {
        return ended;
    }
    match timeout(abandon_grace, &mut task).await {
        Ok(ended) => ended,
        Err(_) => {
            tracing::warn!(
                ?abandon_grace,
                "the session went on without its client and was dropped"
            );
            task.abort();
            task.await
        }
    }
}

fn break_off(outboxes: &[&Outbox]) {
    for outbox in outboxes {
        outbox.break_off();
    }
}

async fn say_good_bye(half: &ChannelWriteHalf<Msg>, status: u32) {
    // Each fails only when the connection is gone, and then so do the others.
    let _ = half.exit_status(status).await;
    let _ = half.eof().await;
    let _ = half.close().await;
}
