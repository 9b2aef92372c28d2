//! Whether a session is about to take its own rights away, and so may say how that went.

use tokio::sync::watch;

/// Clones are the same session's.
#[derive(Clone, Debug, Default)]
pub struct Leave(watch::Sender<bool>);

impl Leave {
    /// The command that runs may end the session: it still gets its answer, and nothing follows it.
    pub(super) fn ask(&self) {
        self.0.send_replace(true);
    }

    /// It has its answer: if the session has lost its rights, it ends here.
    pub(super) async fn answered(&self) {
        if self.0.send_replace(false) {
            // Whoever waits for this is heard before the next command begins.
            tokio::task::yield_now().await;
        }
    }

    /// Returns while the session does not end by its own wish.
    pub async fn not_asked_for(&self) {
        // The other end is this value.
        let _ = self.0.subscribe().wait_for(|asked| !asked).await;
    }
}
