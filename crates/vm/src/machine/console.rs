//! The end of what a machine and QEMU itself write: for error messages, and nothing else.

use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::mpsc;

/// Bytes that are kept.
const KEPT: usize = 4 << 10;

/// The last bytes of the console.
#[derive(Debug, Default)]
pub(super) struct Console(Mutex<Vec<u8>>);

impl Console {
    /// Takes everything until the other end is closed.
    pub(super) async fn fill(&self, mut from: mpsc::Receiver<Bytes>) {
        while let Some(bytes) = from.recv().await {
            self.push(&bytes);
        }
    }

    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        let old = kept.len().saturating_sub(KEPT);
        kept.drain(..old);
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if kept.is_empty() {
            return "nothing".to_owned();
        }
        kept.escape_ascii().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept() {
        let console = Console::default();
        for _ in 0..100 {
            console.push(&[b'a'; 1000]);
        }
        console.push(b"end\n\x1b");
        let text = console.text();
        assert!(text.ends_with("aend\\n\\x1b") && text.len() < KEPT + 100);
    }
}
