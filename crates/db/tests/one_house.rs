//! One server for a PostgreSQL database: who is refused, who takes over, and what is answered meanwhile.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use firn_db::{AnyDatabase, Occupant, OpenError};
use firn_service::ports::{DatabaseError, Policies as _};
use firn_testkit::postgres::Postgres;
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The lock, as PostgreSQL names it.
const LOCK: &str = "1718186606, 1";

/// What must not take for ever; generous, because it says nothing about speed.
const PATIENCE: Duration = Duration::from_secs(60);

fn server() -> Option<Postgres> {
    match Postgres::start() {
        Ok(server) => Some(server),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: {e}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

fn occupant(n: u8) -> Occupant {
    Occupant {
        host: format!("host-{n}"),
        address: format!("192.0.2.{n}:22"),
        data_dir: format!("/srv/firn-{n}"),
        since: 1_700_000_000 + u64::from(n),
    }
}

async fn occupy(url: &str, n: u8) -> Result<AnyDatabase, DatabaseError> {
    AnyDatabase::occupy(url, 2, occupant(n), [n; 16]).await
}

/// Who has it already, according to a refusal.
fn occupied(refused: Result<AnyDatabase, DatabaseError>) -> Option<Occupant> {
    let error = refused.expect_err("two servers have one database");
    match error.source().and_then(|e| e.downcast_ref()) {
        Some(OpenError::Occupied(other)) => other.clone(),
        _ => panic!("{error}"),
    }
}

async fn held(raw: &mut PgConnection) -> bool {
    let query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted";
    raw.fetch_one(query).await.unwrap().get::<i64, _>(0) > 0
}

/// Ends the session that has the lock, as a network does that loses it.
async fn cut(raw: &mut PgConnection) {
    let query = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted";
    raw.execute(query).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_is_refused_and_told_by_whom() {
    let Some(postgres) = server() else { return };
    let url = postgres.database().unwrap();
    let first = occupy(&url, 1).await.unwrap();
    let refused = occupy(&url, 2).await;
    let text = refused.as_ref().err().unwrap().to_string();
    for part in [
        "another `firn serve`",
        "host-1",
        "192.0.2.1:22",
        "/srv/firn-1",
        "since 2023-11-14T22:13:21Z",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(occupied(refused), Some(occupant(1)));
    first.epoch().await.unwrap();
    // Another database of the same PostgreSQL is another house.
    let elsewhere = occupy(&postgres.database().unwrap(), 2).await.unwrap();
    elsewhere.close().await;
    // Whoever comes when it has ended is let in.
    first.close().await;
    let third = occupy(&url, 3).await.unwrap();
    assert_eq!(occupied(occupy(&url, 4).await), Some(occupant(3)));
    third.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_start_at_once_one_serves() {
    let Some(postgres) = server() else { return };
    let mut url = String::new();
    for n in 0..40 {
        if n % 5 == 0 {
            // They make the tables, too.
            url = postgres.database().unwrap();
        }
        let start = Arc::new(Barrier::new(2));
        let mut tasks = JoinSet::new();
        for server in 1..=2 {
            let (url, start) = (url.clone(), Arc::clone(&start));
            tasks.spawn(async move {
                start.wait().await;
                occupy(&url, server).await
            });
        }
        let (serves, refused): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!((serves.len(), refused.len()), (1, 1));
        for refused in refused {
            occupied(refused);
        }
        for database in serves {
            database.unwrap().close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_answered_after_a_restart_is_answered_with_the_lock() {
    let Some(mut postgres) = server() else { return };
    let url = postgres.database().unwrap();
    let first = occupy(&url, 1).await.unwrap();
    for _ in 0..3 {
        let asking = tokio::spawn({
            let first = first.clone();
            async move { while first.epoch().await.is_ok() {} }
        });
        tokio::task::block_in_place(|| postgres.stop().unwrap());
        // What was asked while it stopped fails, or waits.
        assert!(!asking.is_finished() || asking.await.is_ok());
        tokio::task::block_in_place(|| postgres.launch().unwrap());
        let mut raw = PgConnection::connect(&url).await.unwrap();
        let answered = async {
            while first.epoch().await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, answered).await.unwrap();
        assert!(held(&mut raw).await);
        assert_eq!(occupied(occupy(&url, 2).await), Some(occupant(1)));
    }
    first.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_made_again() {
    let Some(postgres) = server() else { return };
    let url = postgres.database().unwrap();
    let first = occupy(&url, 1).await.unwrap();
    let mut raw = PgConnection::connect(&url).await.unwrap();
    for _ in 0..5 {
        cut(&mut raw).await;
        let back = async {
            while !held(&mut raw).await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, back).await.unwrap();
    }
    first.epoch().await.unwrap();
    assert!(timeout(Duration::ZERO, first.lost()).await.is_err());
    first.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_somebody_else_took_it_nothing_is_answered_any_more() {
    let Some(postgres) = server() else { return };
    // Whether the other one is there still or has gone when the first one looks.
    for stays in [true, false] {
        let url = postgres.database().unwrap();
        let first = occupy(&url, 1).await.unwrap();
        let mut cutting = PgConnection::connect(&url).await.unwrap();
        let mut other = PgConnection::connect(&url).await.unwrap();
        // It stands next in line, so that the lock goes from one to the other.
        let waits = tokio::spawn(async move {
            let (next, entry) = (
                format!("SELECT pg_advisory_lock({LOCK})"),
                "UPDATE server SET token = '\\x02', backend = pg_backend_pid(), host = 'host-2'",
            );
            other.execute(sqlx::AssertSqlSafe(next)).await.unwrap();
            other.execute(entry).await.unwrap();
            other
        });
        let waiting = async {
            let query =
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND NOT granted";
            while cutting.fetch_one(query).await.unwrap().get::<i64, _>(0) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap();
        cut(&mut cutting).await;
        let other = waits.await.unwrap();
        let other = match stays {
            true => Some(other),
            false => {
                other.close().await.unwrap();
                None
            }
        };
        let why = timeout(PATIENCE, first.lost()).await.unwrap();
        assert!(why.contains("another `firn serve` on host host-2"), "{why}");
        let refused = first.epoch().await.unwrap_err();
        assert!(refused.to_string().contains("hold on the database"), "{refused}");
        drop(other);
        first.close().await;
    }
}
