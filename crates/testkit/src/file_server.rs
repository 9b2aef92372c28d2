//! A web server that does not limit what is measured: it keeps connections, and lets many wait. That of busybox does neither; a client
//! whose connection it drops tries again after a second.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Serves the files of a folder on a free loopback port, until it is dropped.
#[derive(Debug)]
pub struct FileServer {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl FileServer {
    /// Starts one.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), dir)
    }

    /// Starts one that answers every tenth request, as good as at random, with 502.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn stumbling(dir: &Path) -> anyhow::Result<Self> {
        Self::serve(Ipv4Addr::LOCALHOST.into(), dir, true)
    }

    /// Starts one on another address of this machine.
    ///
    /// # Errors
    /// When there is no free port, or no such address.
    pub fn start_on(address: IpAddr, dir: &Path) -> anyhow::Result<Self> {
        Self::serve(address, dir, false)
    }

    fn serve(address: IpAddr, dir: &Path, stumbles: bool) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((address, 0))?;
        let address = listener.local_addr()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let (dir, stop) = (Arc::new(dir.to_owned()), Arc::clone(&stopped));
        let count = Arc::new(AtomicU64::new(0));
        let listening = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (dir, count) = (Arc::clone(&dir), Arc::clone(&count));
                let fails = move || stumbles && is_unlucky(count.fetch_add(1, Ordering::Relaxed));
                if let Ok(connection) = connection {
                    // The client's errors are its own.
                    std::thread::spawn(move || drop(answer(&connection, &dir, &fails)));
                }
            }
        });
        Ok(Self {
            address,
            stopped,
            listening: Some(listening),
        })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // So that it looks.
        let _ = TcpStream::connect(self.address);
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

/// Answers the requests of one connection until the client closes it.
fn answer(connection: &TcpStream, dir: &Path, fails: &dyn Fn() -> bool) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut lines = BufReader::new(connection).lines();
    while let Some(request) = lines.next() {
        let request = request?;
        while lines.next().transpose()?.is_some_and(|header| !header.is_empty()) {}
        let file = wanted(&request, dir).and_then(|file| std::fs::read(file).ok());
        let (status, body) = match file {
            _ if fails() => ("502 Bad Gateway", Vec::new()),
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", Vec::new()),
        };
        let mut answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        if !request.starts_with("HEAD ") {
            answer.extend(body);
        }
        (&*connection).write_all(&answer)?;
    }
    Ok(())
}

/// One number in ten, in no order that a client could keep step with.
fn is_unlucky(number: u64) -> bool {
    (number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).is_multiple_of(10)
}

/// The file that a request line names.
fn wanted(request: &str, dir: &Path) -> Option<PathBuf> {
    let path = request.split(' ').nth(1)?.strip_prefix('/')?;
    let inside = path
        .split('/')
        .all(|part| !part.is_empty() && !part.starts_with('.'));
    inside.then(|| dir.join(path))
}
