//! Things of the host that a build must not reach, and that notice it.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use firn_attack::host;
use tempfile::TempDir;

use super::super::web::own_address;

/// Listeners, a file, a process.
pub struct Outside {
    dir: TempDir,
    builds: PathBuf,
    port: TcpListener,
    /// On an address that others can see, where there is one.
    seen: Option<TcpListener>,
    unix: [UnixListener; 2],
    abstract_name: String,
}

const TEXT: &str = "a file of the host";

impl Outside {
    /// `builds` is where the backend has its builds.
    pub fn new(builds: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(dir.path().join("file"), TEXT).unwrap();
        let abstract_name = format!(
            "firn-attack-{}-{}",
            std::process::id(),
            super::super::firn::next()
        );
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let this = Self {
            port: TcpListener::bind("127.0.0.1:0").unwrap(),
            seen: own_address().map(|address| TcpListener::bind((address, 0)).unwrap()),
            unix: [
                UnixListener::bind_addr(&address).unwrap(),
                UnixListener::bind(dir.path().join("socket")).unwrap(),
            ],
            builds: builds.to_owned(),
            abstract_name,
            dir,
        };
        this.port.set_nonblocking(true).unwrap();
        if let Some(seen) = &this.seen {
            seen.set_nonblocking(true).unwrap();
        }
        this.unix
            .iter()
            .for_each(|listener| listener.set_nonblocking(true).unwrap());
        this
    }

    /// For the environment of a build.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        [
            (host::FILE, path(self.dir.path().join("file"))),
            (host::DIR, path(self.builds.clone())),
            (host::PORT, self.port.local_addr().unwrap().port().to_string()),
            (
                host::ADDRESS,
                match &self.seen {
                    Some(seen) => seen.local_addr().unwrap().to_string(),
                    None => "10.0.0.1:80".to_owned(),
                },
            ),
            (host::ABSTRACT, self.abstract_name.clone()),
            (host::SOCKET, path(self.dir.path().join("socket"))),
            (host::PID, std::process::id().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Has things happen to a device of the host (the kernel says so to whoever listens, nothing else), where this process may. Forever.
    pub async fn stir(&self) -> std::convert::Infallible {
        loop {
            let _ = std::fs::write("/sys/class/mem/null/uevent", "change");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// What a build has done to it.
    pub fn touched(&self) -> Vec<&'static str> {
        let mut touched = Vec::new();
        if self.port.accept().is_ok() {
            touched.push("the port");
        }
        if self.seen.as_ref().is_some_and(|seen| seen.accept().is_ok()) {
            touched.push("the port that others can see");
        }
        for (listener, name) in self.unix.iter().zip(["the abstract socket", "the socket"]) {
            if listener.accept().is_ok() {
                touched.push(name);
            }
        }
        let mut names: Vec<_> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        if names != ["file", "socket"]
            || std::fs::read_to_string(self.dir.path().join("file")).unwrap() != TEXT
        {
            touched.push("the file");
        }
        touched
    }
}
