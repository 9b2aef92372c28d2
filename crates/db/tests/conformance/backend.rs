//! The two databases under test, each case with an empty one.

use std::path::PathBuf;
use std::sync::OnceLock;

use firn_db::{AnyDatabase, SqliteDatabase};
use firn_testkit::postgres::Postgres;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqliteConnection};
use tempfile::TempDir;

/// A database and a way around the ports.
pub struct Bench<D> {
    pub db: D,
    raw: Raw,
}

enum Raw {
    Sqlite(PathBuf),
    Postgres(String),
}

impl<D> Bench<D> {
    /// The same database through connections of its own, as another process has them.
    pub async fn beside(&self) -> AnyDatabase {
        match &self.raw {
            Raw::Sqlite(path) => AnyDatabase::Sqlite(SqliteDatabase::attach(path).await.unwrap()),
            Raw::Postgres(url) => AnyDatabase::connect(url, 8).await.unwrap(),
        }
    }

    /// Runs a statement beside the ports and returns how many rows it changed.
    pub async fn execute(&self, sql: &str) -> u64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.raw {
            Raw::Sqlite(path) => {
                let mut connection = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
                let changed = connection.execute(sql).await.unwrap().rows_affected();
                connection.close().await.unwrap();
                changed
            }
            Raw::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.unwrap();
                let changed = connection.execute(sql).await.unwrap().rows_affected();
                connection.close().await.unwrap();
                changed
            }
        }
    }
}

pub async fn sqlite() -> (Bench<AnyDatabase>, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("firn.sqlite");
    let db = AnyDatabase::open(&path).await.unwrap();
    let raw = Raw::Sqlite(path);
    (Bench { db, raw }, directory)
}

/// One server for all cases; it ends with the process.
pub async fn postgres() -> Option<Bench<AnyDatabase>> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    let server = SERVER.get_or_init(|| match Postgres::start() {
        Ok(server) => Some(server),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: {e}");
            None
        }
        Err(e) => panic!("{e}"),
    });
    let Some(server) = server else {
        println!("skipped: PostgreSQL is not installed");
        return None;
    };
    let url = server.database().unwrap();
    let db = AnyDatabase::connect(&url, 8).await.unwrap();
    let raw = Raw::Postgres(url);
    Some(Bench { db, raw })
}
