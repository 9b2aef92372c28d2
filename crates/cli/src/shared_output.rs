//! One output in two hands: a session's, and whoever has the last word when the session is dropped.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use crate::shell::Output;

struct Hand(Arc<Mutex<Output>>);

/// Two ends of the same output. Only one is used at a time.
pub fn shared(output: Output) -> (Output, Output) {
    let output = Arc::new(Mutex::new(output));
    (Box::new(Hand(Arc::clone(&output))), Box::new(Hand(output)))
}

impl Hand {
    fn poll<T>(&self, poll: impl FnOnce(Pin<&mut (dyn AsyncWrite + Send + Unpin)>) -> T) -> T {
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        poll(Pin::new(&mut **output))
    }
}

impl AsyncWrite for Hand {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|output| output.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|output| output.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|output| output.poll_shutdown(context))
    }
}
