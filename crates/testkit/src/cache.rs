//! Real binary caches: made by Nix, signed, and served by a plain web server.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::{Nix, busybox};

/// How long the web server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A key that signs caches.
#[derive(Clone, Debug)]
pub struct CacheKey {
    /// File with the secret half.
    pub secret: PathBuf,
    /// `name:base64` of the public half.
    pub public: String,
}

impl CacheKey {
    /// A new one of that name, in a file below `dir`.
    ///
    /// # Errors
    /// When Nix cannot make it.
    pub fn new(nix: &Nix, dir: &Path, name: &str) -> anyhow::Result<Self> {
        let make = nix.run("nix", &["key", "generate-secret", "--key-name", name])?;
        let text = make.success()?.stdout;
        std::fs::create_dir_all(dir)?;
        let secret = dir.join(format!("{name}.secret"));
        std::fs::write(&secret, text)?;
        let input = std::fs::File::open(&secret)?;
        let mut convert = nix.command("nix", true);
        let output = convert
            .args(["key", "convert-secret-to-public"])
            .stdin(input)
            .output()?;
        Ok(Self {
            secret,
            public: String::from_utf8(output.stdout)?.trim().to_owned(),
        })
    }
}

impl Nix {
    /// Copies the closures of paths of this store into a binary cache in the folder `cache`, signed when there is a key.
    ///
    /// # Errors
    /// When Nix refuses.
    pub fn copy_to_cache(
        &self,
        cache: &Path,
        compression: &str,
        key: Option<&CacheKey>,
        paths: &[String],
    ) -> anyhow::Result<()> {
        let mut uri = format!("file://{}?compression={compression}", cache.display());
        if let Some(key) = key {
            uri.push_str(&format!("&secret-key={}", key.secret.display()));
        }
        let mut arguments = vec!["copy", "--to", &uri];
        arguments.extend(paths.iter().map(String::as_str));
        self.run("nix", &arguments)?.success().map(drop)
    }
}

/// A web server for the files of a folder, on a free loopback port; killed when dropped.
#[derive(Debug)]
pub struct WebServer {
    child: Child,
    port: u16,
}

impl WebServer {
    /// Starts one.
    ///
    /// # Errors
    /// When there is no busybox with `httpd`, or it does not listen.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let child = Command::new(busybox().context("no static busybox")?)
            .args(["httpd", "-f", "-p", &format!("127.0.0.1:{port}"), "-h"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start busybox httpd")?;
        let server = Self { child, port };
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if begun.elapsed() > PATIENCE {
                bail!("busybox httpd does not listen");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
