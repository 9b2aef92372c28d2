//! A web server on an address of this machine that is not its loopback device's, for fixed-output builds.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firn_builder::FixedOutputs;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::firn::Firn;

/// Answers one request a connection.
pub struct Web {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

/// Status line, one header, body.
pub type Answer = (&'static str, String, Vec<u8>);

/// An address of this machine; none, with the reason printed, when there is no other than loopback. Nothing is sent.
pub fn own_address() -> Option<IpAddr> {
    let found = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("1.1.1.1:53")?;
        socket.local_addr()
    });
    if found.is_err() {
        println!("skipped: this machine has no network");
    }
    found.ok().map(|address| address.ip())
}

impl Web {
    /// None, with the reason printed, where builds can have no network.
    pub fn start(answer: impl Fn(&str) -> Answer + Send + 'static) -> Option<Self> {
        Self::start_with(None, answer)
    }

    /// With TLS.
    pub fn start_with(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&str) -> Answer + Send + 'static,
    ) -> Option<Self> {
        if let Err(why) = firn_sandbox::probe::can_relay() {
            println!("skipped: {why}");
            return None;
        }
        let listener = TcpListener::bind((own_address()?, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let served = match &tls {
                    None => serve(stream, &answer),
                    Some(config) => {
                        let session = ServerConnection::new(Arc::clone(config)).unwrap();
                        serve(StreamOwned::new(session, stream), &answer)
                    }
                };
                if served.is_ok() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Some(Self { address, requests })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Builds may reach it.
    pub fn allowed(&self, firn: Firn) -> Firn {
        let range = format!("{}/32", self.address.ip());
        firn.changed(|config| {
            config.fixed = FixedOutputs {
                network: Ok(vec![range.parse().unwrap()]),
                ..FixedOutputs::without_network("")
            };
        })
    }
}

fn serve(stream: impl Read + Write, answer: impl Fn(&str) -> Answer) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first)?;
    let mut line = String::new();
    while stream.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let (status, header, body) = answer(path);
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{header}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.get_mut().write_all(&[head.as_bytes(), &body].concat())?;
    stream.get_mut().flush()
}

pub fn ok(body: impl Into<Vec<u8>>) -> Answer {
    ("200 OK", String::new(), body.into())
}

pub fn not_found() -> Answer {
    ("404 Not Found", String::new(), b"no such page\n".into())
}
