//! What only SQLite promises: the file, its lock, and what survives a kill.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use firn_core::{AccountId, AccountName, Claim, KeyId, Object, Origin, Policy};
use firn_db::{OpenError, SqliteDatabase};
use firn_nix::{NarHash, StorePath};
use firn_service::on_behalf_of;
use firn_service::ports::{Accounts as _, DatabaseError, Gives, Views as _};
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use tokio::task::JoinSet;

/// Set for the child that writes until it is killed: the file to write to.
const CHILD: &str = "FIRN_DB_TEST_CHILD";

fn alice() -> AccountName {
    AccountName::parse("alice").unwrap()
}

fn claim(n: u64) -> Claim {
    let mut hash = [0; 20];
    hash[..8].copy_from_slice(&n.to_le_bytes());
    Claim {
        object: Object {
            path: StorePath::new(&hash, "thing").unwrap(),
            content: NarHash::new([1; 32]),
            nar_size: n,
            references: [].into(),
            ca: None,
            self_references: None,
        },
        origin: Origin::Uploaded,
        deriver: None,
        signatures: [].into(),
        registered: 1,
        cache: None,
        shareable: true,
    }
}

fn open_error(error: &DatabaseError) -> &OpenError {
    match error {
        DatabaseError::Backend(e) => e.downcast_ref().expect("an OpenError"),
        other => panic!("{other}"),
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn files_are_for_their_owner_only_and_last() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("firn.sqlite");
    let db = SqliteDatabase::open(&path).await.unwrap();
    let account = db
        .create_account(&alice(), "secret", Gives::ALL, 1)
        .await
        .unwrap();
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let file = PathBuf::from(format!("{}{suffix}", path.display()));
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    db.close().await;
    assert!(db.account(&alice()).await.is_err());
    assert!(
        db.create_account(&alice(), "secret", Gives::ALL, 1)
            .await
            .is_err()
    );
    db.close().await;

    let db = SqliteDatabase::open(&path).await.unwrap();
    assert_eq!(db.account(&alice()).await.unwrap(), Some(account));
    db.close().await;
}

#[tokio::test]
async fn a_directory_is_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none/firn.sqlite");
    let error = SqliteDatabase::open(&path).await.unwrap_err();
    assert!(matches!(open_error(&error), OpenError::File { .. }));
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert!(!directory.path().join("none").exists());
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("firn.sqlite");
    std::fs::write(&path, "precious ".repeat(1000)).unwrap();
    assert!(SqliteDatabase::open(&path).await.is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious ".repeat(1000));
}

#[tokio::test]
async fn one_server_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("firn.sqlite");
    let db = SqliteDatabase::open(&path).await.unwrap();
    let error = SqliteDatabase::open(&path).await.unwrap_err();
    assert!(matches!(open_error(&error), OpenError::InUse(p) if *p == path));
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    db.close().await;
    SqliteDatabase::open(&path).await.unwrap().close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_works_beside_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("firn.sqlite");
    let missing = SqliteDatabase::attach(&path).await.unwrap_err();
    assert!(matches!(open_error(&missing), OpenError::File { .. }));
    assert!(!path.exists());

    let server = SqliteDatabase::open(&path).await.unwrap();
    let command = SqliteDatabase::attach(&path).await.unwrap();
    let account = command
        .create_account(&alice(), "secret", Gives::ALL, 1)
        .await
        .unwrap()
        .id;
    assert!(server.account(&alice()).await.unwrap().is_some());
    let mut tasks = JoinSet::new();
    for (first, db) in [(0, server.clone()), (100, command.clone())] {
        tasks.spawn(async move {
            for n in first..first + 50 {
                db.record_claims(account, &[claim(n)], &[], KeyId(0))
                    .await
                    .unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(server.paths(&Policy::alone(account)).await.unwrap().len(), 100);
    command.close().await;
    server.close().await;
}

#[tokio::test]
async fn other_versions_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("firn.sqlite");
    std::fs::write(&path, "").unwrap();
    let error = SqliteDatabase::attach(&path).await.unwrap_err();
    assert!(matches!(open_error(&error), OpenError::Version { found: 0, .. }));

    SqliteDatabase::open(&path).await.unwrap().close().await;
    let mut newer = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
    newer
        .execute("INSERT INTO _sqlx_migrations SELECT 9999, description, installed_on, success, checksum, execution_time FROM _sqlx_migrations")
        .await
        .unwrap();
    newer.close().await.unwrap();
    let error = SqliteDatabase::attach(&path).await.unwrap_err();
    assert!(matches!(
        open_error(&error),
        OpenError::Version { found: 9999, .. }
    ));
    let error = SqliteDatabase::open(&path).await.unwrap_err();
    assert!(error.to_string().contains("9999"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failure_in_a_group_is_ones_own() {
    let directory = tempfile::tempdir().unwrap();
    let db = SqliteDatabase::open(&directory.path().join("firn.sqlite"))
        .await
        .unwrap();
    let account = db
        .create_account(&alice(), "secret", Gives::ALL, 1)
        .await
        .unwrap()
        .id;
    let mut tasks = JoinSet::new();
    for n in 0..200 {
        let db = db.clone();
        tasks.spawn(async move {
            let account = if n % 3 == 0 { AccountId(99) } else { account };
            let done = db.record_claims(account, &[claim(n)], &[], KeyId(0)).await;
            assert_eq!(done.is_ok(), n % 3 != 0);
        });
    }
    tasks.join_all().await;
    let numbers = (0..200).filter(|n| n % 3 != 0).map(|n| claim(n).object.path);
    assert_eq!(
        db.paths(&Policy::alone(account)).await.unwrap(),
        numbers.collect()
    );
    db.close().await;
}

#[tokio::test]
async fn an_abandoned_write_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let db = SqliteDatabase::open(&directory.path().join("firn.sqlite"))
        .await
        .unwrap();
    let account = db
        .create_account(&alice(), "secret", Gives::ALL, 1)
        .await
        .unwrap()
        .id;
    let claims: Vec<Claim> = (0..1000).map(claim).collect();
    // Polled once: it is in the queue then, and its caller is gone.
    tokio::select! {
        biased;
        done = db.record_claims(account, &claims, &[], KeyId(0)) => done.unwrap(),
        () = std::future::ready(()) => {}
    }
    db.record_claims(account, &[claim(5000)], &[], KeyId(0))
        .await
        .unwrap();
    let paths = db.paths(&Policy::alone(account)).await.unwrap().len();
    assert!(paths == 1 || paths == 1001, "{paths}");
    db.close().await;
}

/// Not a test by itself: the child of the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_killed() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let db = SqliteDatabase::open(Path::new(&path)).await.unwrap();
    let account = db
        .create_account(&alice(), "secret", Gives::ALL, 1)
        .await
        .unwrap()
        .id;
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let db = db.clone();
        tasks.spawn(async move {
            // Ends by itself if nobody kills it.
            for n in 0..100_000 {
                let n = n * 8 + task;
                db.record_claims(account, &[claim(n)], &[], KeyId(0))
                    .await
                    .unwrap();
                println!("\nacknowledged {n}.");
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn acknowledged_commits_survive_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("firn.sqlite");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_writes_until_killed", "--nocapture"])
        .env(CHILD, &path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged: Vec<u64> = Vec::new();
    let mut read = |lines: &mut dyn Iterator<Item = std::io::Result<String>>| {
        for line in lines {
            if let Some(n) = line
                .unwrap()
                .strip_prefix("acknowledged ")
                .and_then(|n| n.strip_suffix('.'))
            {
                acknowledged.push(n.parse().unwrap());
            }
        }
    };
    read(&mut lines.by_ref().take(400));
    child.kill().unwrap();
    child.wait().unwrap();
    read(&mut lines);
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());

    // The lock has died with it.
    let db = SqliteDatabase::open(&path).await.unwrap();
    let account = db.account(&alice()).await.unwrap().unwrap().id;
    let paths = db.paths(&Policy::alone(account)).await.unwrap();
    for n in acknowledged {
        assert!(paths.contains(&claim(n).object.path), "{n} is lost");
    }
    db.close().await;
}

/// Whoever asks for much does not stand before others.
#[tokio::test]
async fn reads_are_fair_by_account() {
    let directory = tempfile::tempdir().unwrap();
    let db = SqliteDatabase::open(&directory.path().join("firn.sqlite"))
        .await
        .unwrap();
    let (mallory, bob) = (AccountId(1), AccountId(2));
    let read = |account| {
        let db = db.clone();
        on_behalf_of(account, async move {
            db.accounts().await.unwrap();
            account
        })
    };
    let mut reads = JoinSet::new();
    for _ in 0..1000 {
        reads.spawn(read(mallory));
    }
    reads.spawn(read(bob));
    let mut before = 0;
    while reads.join_next().await.unwrap().unwrap() == mallory {
        before += 1;
    }
    assert!(
        before < 100,
        "{before} reads of one account came before the only one of another"
    );
}
