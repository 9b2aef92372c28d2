//! A small HTTP/1.1 server whose every answer is a script.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firn_core::CacheUrl;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What a client asked.
#[derive(Clone, Debug)]
pub struct Seen {
    pub target: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// How many requests came before.
    pub before: usize,
}

pub enum Step {
    Send(Vec<u8>),
    /// Nothing more, with the connection open.
    Stall,
    /// These bytes for ever.
    Endless(Vec<u8>),
    /// One byte now and then, for ever.
    Trickle(Duration),
    /// Goes on after a permit.
    Hold(Arc<Semaphore>),
    Close,
}

pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start(script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::start_tls(script, None).await
    }

    /// With TLS, when there is a configuration for it.
    pub async fn start_tls(
        script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, script) = (Arc::new(Mutex::new(Vec::new())), Arc::new(script));
        let (connections, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let task = tokio::spawn({
            let (seen, connections, open) = (seen.clone(), connections.clone(), open.clone());
            async move {
                let mut sessions = tokio::task::JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    connections.fetch_add(1, Ordering::SeqCst);
                    let (seen, script, open) = (seen.clone(), script.clone(), open.clone());
                    let tls = tls.clone();
                    sessions.spawn(async move {
                        open.fetch_add(1, Ordering::SeqCst);
                        stream.set_nodelay(true).unwrap();
                        let _ = match tls {
                            None => session(stream, &seen, &*script).await,
                            Some(tls) => match tls.accept(stream).await {
                                Ok(stream) => session(stream, &seen, &*script).await,
                                Err(e) => Err(e),
                            },
                        };
                        open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            }
        });
        Self {
            address,
            seen,
            connections,
            open,
            task,
        }
    }

    /// Answers with these files, and 404.
    pub async fn files(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let files: BTreeMap<String, Vec<u8>> = files.into_iter().collect();
        Self::start(move |seen| {
            files
                .get(&seen.target)
                .map_or_else(|| status(404), |body| ok(body))
        })
        .await
    }

    pub fn url(&self, path: &str) -> CacheUrl {
        format!("http://{}{path}", self.address).parse().unwrap()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Connections that are served now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn session(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: &Mutex<Vec<Seen>>,
    script: &(dyn Fn(&Seen) -> Vec<Step> + Send + Sync),
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            stream.read_line(&mut line).await?;
            match line.trim_end().split_once(':') {
                Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
                None => break,
            };
        }
        let request = {
            let mut all = seen.lock().unwrap();
            let before = all.len();
            all.push(Seen {
                target,
                headers,
                before,
            });
            all[before].clone()
        };
        for step in script(&request) {
            match step {
                Step::Send(bytes) => stream.write_all(&bytes).await?,
                // Ends when the client hangs up.
                Step::Stall => return stream.fill_buf().await.map(drop),
                Step::Endless(bytes) => loop {
                    stream.write_all(&bytes).await?;
                },
                Step::Trickle(pause) => loop {
                    stream.write_all(b"x").await?;
                    tokio::time::sleep(pause).await;
                },
                Step::Hold(gate) => gate.acquire().await.unwrap().forget(),
                Step::Close => return Ok(()),
            }
        }
    }
}

/// 200 with a length.
pub fn ok(body: &[u8]) -> Vec<Step> {
    with("200 OK", "", body)
}

/// Without a body that matters.
pub fn status(code: u16) -> Vec<Step> {
    with(&format!("{code} Status"), "", b"no")
}

/// `headers` end with CR LF each.
pub fn with(status: &str, headers: &str, body: &[u8]) -> Vec<Step> {
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    vec![Step::Send(bytes)]
}

pub fn redirect(to: &str) -> Vec<Step> {
    with("302 Found", &format!("Location: {to}\r\n"), b"")
}
