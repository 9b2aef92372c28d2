//! The service's log on standard error: it never fails, blocks or ends whoever writes to it.
//!
//! Lines go through a queue to a thread that writes them. What it cannot write, because the disk is full or nobody reads the pipe, is
//! left out and counted; when it can write again, it says how much is missing.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be written.
const QUEUE: usize = 16 * 1024;
/// Bytes of those lines.
const QUEUED_BYTES: usize = 16 << 20;
/// Longest line; the rest of a longer one is left out.
const MAX_LINE: usize = 64 << 10;
/// How long the last lines may take to be written when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

static LOG: OnceLock<Lines> = OnceLock::new();

/// Starts the log of this process.
pub fn start(filter: EnvFilter) {
    let lines = LOG.get_or_init(|| Lines::to(io::stderr()));
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines.clone())
        .with_ansi(colours)
        .with_target(false)
        .init();
}

/// Waits, not for long, until what was logged is written.
pub fn flush() {
    if let Some(lines) = LOG.get() {
        lines.flush();
    }
}

enum Order {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

/// Takes lines. Clones are the same log.
#[derive(Clone)]
struct Lines {
    queue: SyncSender<Order>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    left_out: AtomicU64,
    bytes: AtomicUsize,
}

impl Lines {
    fn to(sink: impl Write + Send + 'static) -> Self {
        let (queue, orders) = sync_channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let writing = Arc::clone(&shared);
        // Without the thread every line is left out, and the service goes on.
        let _ = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&orders, &writing, sink));
        Self { queue, shared }
    }

    fn add(&self, line: &[u8]) {
        let end = line.len().min(MAX_LINE);
        let mut text = line.get(..end).unwrap_or(line).to_vec();
        if end < line.len() {
            text.extend_from_slice(b" (cut)\n");
        }
        let bytes = text.len();
        let before = self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before < QUEUED_BYTES && self.queue.try_send(Order::Line(text)).is_ok() {
            return;
        }
        self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.shared.left_out.fetch_add(1, Ordering::Relaxed);
    }

    fn flush(&self) {
        let (done, written) = channel();
        let mut order = Order::Flush(done);
        let end = std::time::Instant::now() + LAST_WORDS;
        while let Err(TrySendError::Full(again)) = self.queue.try_send(order) {
            if std::time::Instant::now() > end {
                return;
            }
            order = again;
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = written.recv_timeout(LAST_WORDS);
    }
}

fn write_all(orders: &Receiver<Order>, shared: &Shared, mut sink: impl Write) {
    // Whether the last line that was tried is there in part, or not at all.
    let mut broken = false;
    for order in orders {
        let line = match order {
            Order::Line(line) => line,
            Order::Flush(done) => {
                let _ = sink.flush();
                let _ = done.send(());
                continue;
            }
        };
        shared.bytes.fetch_sub(line.len(), Ordering::Relaxed);
        let left_out = shared.left_out.load(Ordering::Relaxed);
        let mut text = Vec::new();
        if left_out > 0 {
            if broken {
                text.push(b'\n');
            }
            text.extend_from_slice(
                format!("firn: {left_out} lines of the log could not be written\n").as_bytes(),
            );
        }
        text.extend_from_slice(&line);
        broken = sink.write_all(&text).is_err();
        match broken {
            true => shared.left_out.fetch_add(1, Ordering::Relaxed),
            false => shared.left_out.fetch_sub(left_out, Ordering::Relaxed),
        };
    }
}

/// One event, which comes in one piece.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'l> MakeWriter<'l> for Lines {
    type Writer = Self;

    fn make_writer(&'l self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    /// A place to write to that may be full, or not answer.
    #[derive(Clone, Default)]
    struct Sink(Arc<(Mutex<Place>, Condvar)>);

    #[derive(Default)]
    struct Place {
        text: Vec<u8>,
        room: usize,
        stuck: bool,
    }

    impl Sink {
        fn change(&self, how: impl FnOnce(&mut Place)) {
            how(&mut self.0.0.lock().unwrap());
            self.0.1.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.0.lock().unwrap().text.clone()).unwrap()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let place = self.0.0.lock().unwrap();
            let mut place = self.0.1.wait_while(place, |place| place.stuck).unwrap();
            let taken = bytes.len().min(place.room);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            place.room -= taken;
            place.text.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_full_disk_leaves_out_is_counted() {
        let sink = Sink::default();
        sink.change(|place| place.room = 8);
        let log = Lines::to(sink.clone());
        for line in ["one\n", "second\n", "third\n"] {
            log.add(line.as_bytes());
        }
        log.flush();
        sink.change(|place| place.room = usize::MAX);
        log.add(b"fourth\n");
        log.add(b"fifth\n");
        log.flush();
        let expected = "one\nseco\nfirn: 2 lines of the log could not be written\nfourth\nfifth\n";
        assert_eq!(sink.text(), expected);
    }

    #[test]
    fn who_logs_does_not_wait_for_a_pipe_that_nobody_reads() {
        let sink = Sink::default();
        sink.change(|place| (place.room, place.stuck) = (usize::MAX, true));
        let log = Lines::to(sink.clone());
        let lines = QUEUE + 1000;
        for _ in 0..lines {
            log.add(b"line\n");
        }
        let long = vec![b'x'; MAX_LINE + 1];
        for _ in 0..2 * QUEUED_BYTES / MAX_LINE {
            log.add(&long);
        }
        sink.change(|place| place.stuck = false);
        log.flush();
        log.add(b"the last\n");
        log.flush();
        let text = sink.text();
        assert!(text.matches("line\n").count() >= QUEUE);
        assert!(text.contains(" lines of the log could not be written\n"));
        assert!(text.ends_with("the last\n"));
    }
}
