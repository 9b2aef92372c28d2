//! Parts without which the service is none. When one is lost, the process ends at once and says which: whoever started it starts it again.

use std::future::Future;

use tokio::sync::mpsc;

/// Watches over parts.
pub struct Vital {
    lost: mpsc::UnboundedSender<String>,
    told: mpsc::UnboundedReceiver<String>,
}

impl Vital {
    /// Over none yet.
    pub fn new() -> Self {
        let (lost, told) = mpsc::unbounded_channel();
        Self { lost, told }
    }

    /// A part that runs until the service stops. It may end only when `stopped` says that it does.
    pub fn spawn(
        &self,
        part: &'static str,
        stopped: impl Fn() -> bool + Send + 'static,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let lost = self.lost.clone();
        let work = tokio::spawn(work);
        tokio::spawn(async move {
            let why = match work.await {
                Err(error) if error.is_panic() => error.to_string(),
                _ if stopped() => return,
                _ => "it returned".to_owned(),
            };
            let _ = lost.send(format!("{part} has ended: {why}"));
        })
    }

    /// A part whose end, with the reason, is told by `lost`.
    pub fn watch(&self, lost: impl Future<Output = String> + Send + 'static) {
        let sender = self.lost.clone();
        tokio::spawn(async move {
            let _ = sender.send(lost.await);
        });
    }

    /// Returns, with the reason, when a part is lost.
    pub async fn lost(&mut self) -> String {
        match self.told.recv().await {
            Some(why) => why,
            // This value has a sender.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_early_is_named() {
        let mut vital = Vital::new();
        vital.spawn("the door", || false, async { panic!("the hinge broke") });
        let why = vital.lost().await;
        assert!(
            why.contains("the door has ended") && why.contains("the hinge broke"),
            "{why}"
        );
        vital.spawn("the window", || false, async {});
        assert_eq!(vital.lost().await, "the window has ended: it returned");
        vital.watch(async { "the roof is gone".to_owned() });
        assert_eq!(vital.lost().await, "the roof is gone");
    }

    #[tokio::test]
    async fn a_part_that_ends_with_the_service_is_not() {
        let mut vital = Vital::new();
        vital.spawn("the door", || true, async {}).await.unwrap();
        vital.watch(async { "the last".to_owned() });
        assert_eq!(vital.lost().await, "the last");
    }
}
