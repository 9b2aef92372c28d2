//! Twenty clients at once, random disconnects, and a server that is killed again and again: nothing that was acknowledged is lost,
//! nothing that is there is wrong, nothing is left behind.
//!
//! `FIRN_LONG_TESTS=1` makes it longer; `FIRN_STORM_SEED` repeats the decisions of an earlier storm.

mod memory;
mod nix_clients;
mod random;
mod raw_clients;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use memory::Memory;
use random::Random;

use crate::cancelled_builds::process_with_argument;
use crate::raw::{Raw, content, settled};

/// Accounts of the raw clients.
const ACCOUNTS: [&str; 4] = ["anna", "bert", "cora", "dora"];

/// What all clients of a storm share.
struct Storm {
    data_dir: PathBuf,
    /// For raw clients that come by ssh, by account.
    ssh_configs: Vec<PathBuf>,
    memory: Memory,
    over: AtomicBool,
    /// Argument of processes in builds that never end.
    marker: String,
    disconnects: AtomicUsize,
}

impl Storm {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_nothing_is_left() {
    let Some(mut server) = crate::server() else { return };
    let long = std::env::var_os("FIRN_LONG_TESTS").is_some();
    let (raw_clients, nix_clients, kills) = if long { (37, 3, 60) } else { (17, 3, 10) };
    let random = Random::from_environment();
    eprintln!("FIRN_STORM_SEED={}", random.seed());
    server
        .configure("[build]\nmax-jobs = 4\nfinish-left-builds = 0\n")
        .unwrap();
    server.kill();
    server.launch().unwrap();

    let by_ssh: Vec<_> = ACCOUNTS
        .iter()
        .map(|account| server.client(account).unwrap())
        .collect();
    let storm = Arc::new(Storm {
        data_dir: server.data_dir(),
        ssh_configs: by_ssh.iter().map(|client| client.ssh_config.clone()).collect(),
        memory: Memory::default(),
        over: AtomicBool::new(false),
        marker: format!("{}", 200_000 + std::process::id()),
        disconnects: AtomicUsize::new(0),
    });
    let mut clients = Vec::new();
    for n in 0..raw_clients {
        clients.push(tokio::spawn(raw_clients::run(
            Arc::clone(&storm),
            n,
            random.child(n),
        )));
    }
    let mut nixes = Vec::new();
    for n in 0..nix_clients {
        // Two of them are of one account.
        let client = if n == 0 {
            server.another_client(ACCOUNTS[0], "anna-nix").unwrap()
        } else {
            server.client(&format!("nix-{n}")).unwrap()
        };
        let account = if n == 0 {
            ACCOUNTS[0].to_owned()
        } else {
            format!("nix-{n}")
        };
        let (storm, random) = (Arc::clone(&storm), random.child(1000 + n));
        nixes.push(std::thread::spawn(move || {
            nix_clients::run(&storm, client, &account, random)
        }));
    }

    let begun = Instant::now();
    let mut weather = random.child(u64::MAX);
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(weather.between(1000, 4000))).await;
        server.kill();
        server.launch().unwrap();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    storm.over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let mut kept = Vec::new();
    for nix in nixes {
        kept.push(tokio::task::spawn_blocking(|| nix.join().unwrap()).await.unwrap());
    }
    eprintln!(
        "{kills} kills and {} disconnects in {:.0} s; {}",
        storm.disconnects.load(Ordering::Relaxed),
        begun.elapsed().as_secs_f64(),
        storm.memory.summary()
    );

    // What was acknowledged is there; what is there is right.
    let mut checked = 0;
    for (account, expected) in storm.memory.by_account() {
        let mut raw = Raw::open(&server, &account).await;
        for (path, expected) in expected {
            let valid = raw.is_valid(&path).await;
            assert!(valid || !expected.acknowledged, "{account} lost {path}");
            if valid {
                let nar = raw.download(&path).await.unwrap();
                assert_eq!(content(&nar), expected.content, "{account}: {path}");
                checked += 1;
            }
        }
        assert!(raw.end().await.ok);
    }
    eprintln!("{checked} paths have the right bytes");
    assert!(checked > 20, "a storm does something");

    // Nothing is left.
    settled(&server).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while process_with_argument(&storm.marker) {
        assert!(Instant::now() < deadline, "a build's process is left");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let builds = server.data_dir().join("builds");
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let mounts = std::fs::read_to_string(entry.path().join("mounts")).unwrap_or_default();
        let left = mounts
            .lines()
            .find(|line| line.contains(builds.to_str().unwrap()));
        assert_eq!(left, None, "a mount is left in {}", entry.path().display());
    }
    let status = server.firn(&["status", "--json"]).unwrap().success().unwrap();
    assert!(
        status.stdout.contains("\"running_builds\":0"),
        "{}",
        status.stdout
    );
    let log = server.log();
    for word in ["panicked", "database", "cannot keep", "cannot read"] {
        let line = log.lines().find(|line| line.contains(word));
        assert_eq!(line, None);
    }
    drop(kept);
}
