//! SQLite, for one machine: many readers, and one writer that commits for several at once.

mod file;
#[cfg(test)]
mod plan;
mod writer;

use std::path::Path;
use std::time::Duration;

use firn_service::Turns;
use firn_service::ports::DatabaseError;
use sqlx::migrate::Migrator;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, SqliteConnection, SqlitePool};

use crate::decode::Fields;
use crate::dialect::Connection as _;
use crate::driver::{Driver, InTurn, Repository, Work};
use crate::error::{OpenError, backend};
use crate::query::Query;
use writer::{Durability, Writer};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// How long a write waits for another process, as an `attach`ed one or a backup.
const BUSY: Duration = Duration::from_secs(30);
/// How long to wait for a free reader.
const ACQUIRE: Duration = Duration::from_secs(30);
/// Each is a thread and a cache.
const READERS: u32 = 4;
/// Writes that wait for a commit in the order in which they came: one commit's, and those that come while it is made.
const WRITES: usize = 128;

/// Connections to a SQLite file.
#[derive(Clone, Debug)]
pub struct Sqlite {
    readers: SqlitePool,
    reading: Turns,
    writing: Turns,
    writer: Writer,
    /// Holds the lock of the file.
    alone: bool,
}

/// The metadata ports on SQLite.
pub type SqliteDatabase = Repository<Sqlite>;

impl SqliteDatabase {
    /// Opens the file for a server, and makes it (mode 0600, in a directory that exists) when it is missing. Until
    /// [`close`](Self::close), or until the last clone is dropped, no other process can do the same: `<path>.lock` is locked.
    ///
    /// # Errors
    /// [`DatabaseError::Backend`] with [`OpenError`] when the file is in use or cannot be made, or with the database's own error.
    pub async fn open(path: &Path) -> Result<Self, DatabaseError> {
        let lock = file::lock(path).map_err(backend)?;
        file::create(path).map_err(backend)?;
        let mut connection = options(path).connect().await.map_err(backend)?;
        MIGRATIONS.run(&mut connection).await.map_err(backend)?;
        Self::start(path, connection, Some(lock)).await
    }

    /// Opens the file beside the server that may have it open, for an administrator's command. The file and its tables must be there and up to date.
    ///
    /// # Errors
    /// [`DatabaseError::Backend`] with [`OpenError`] or the database's own error.
    pub async fn attach(path: &Path) -> Result<Self, DatabaseError> {
        file::check(path).map_err(backend)?;
        let mut connection = options(path).connect().await.map_err(backend)?;
        let wanted = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0);
        let found = version(&mut connection).await?;
        if found != wanted {
            let path = path.to_owned();
            return Err(backend(OpenError::Version { path, found, wanted }));
        }
        Self::start(path, connection, None).await
    }

    async fn start(
        path: &Path,
        connection: SqliteConnection,
        lock: Option<std::fs::File>,
    ) -> Result<Self, DatabaseError> {
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .connect_with(
                options(path)
                    .pragma("query_only", "ON")
                    .pragma("cache_size", "-8192"),
            )
            .await
            .map_err(backend)?;
        let alone = lock.is_some();
        let writer = Writer::start(connection, lock);
        Ok(Self {
            driver: Sqlite {
                readers,
                reading: Turns::new(READERS as usize),
                writing: Turns::new(WRITES),
                writer,
                alone,
            },
        })
    }

    /// Returns, with the reason, when nothing is written any more, and it was not closed.
    pub async fn lost(&self) -> String {
        let why = self.driver.writer.lost().await;
        format!("the database's writer has ended: {why}")
    }

    /// A fault for tests: the writer dies.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub async fn lose_writer(&self) {
        let fault: Work<SqliteConnection, ()> =
            Box::new(|_| Box::pin(async { panic!("a fault for a test") }));
        let _ = self.driver.writer.write(Durability::Now, fault).await;
    }

    /// Finishes what was given to it, also by other clones, and closes the file; it can be opened again then.
    pub async fn close(&self) {
        self.driver.readers.close().await;
        self.driver.writer.close().await;
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        // Kibibytes, when negative.
        .pragma("cache_size", "-32768")
        // The log shrinks to this many bytes after a burst.
        .pragma("journal_size_limit", "67108864")
        .row_buffer_size(1024)
        .disable_statement_logging()
}

/// The last migration of the file; 0 when it has none.
async fn version(connection: &mut SqliteConnection) -> Result<i64, DatabaseError> {
    let table =
        Query::new("SELECT name FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'");
    if connection.fetch(table).await.map_err(backend)?.is_empty() {
        return Ok(0);
    }
    let newest = Query::new("SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success");
    let rows = connection.fetch(newest).await.map_err(backend)?;
    rows.first()
        .map_or(Ok(0), |row| Fields::new("_sqlx_migrations", row).int("version"))
}

impl Driver for Sqlite {
    type Connection = SqliteConnection;
    type Reader = InTurn<PoolConnection<sqlx::Sqlite>>;

    /// A server is; an administrator's command that is attached beside it writes no evidence.
    fn alone(&self) -> bool {
        self.alone
    }

    async fn reader(&self) -> Result<Self::Reader, DatabaseError> {
        let turn = self.reading.turn().await;
        let connection = self.readers.acquire().await.map_err(backend)?;
        Ok(InTurn::new(connection, turn))
    }

    async fn write<T: Send + 'static>(&self, work: Work<SqliteConnection, T>) -> Result<T, DatabaseError> {
        let _turn = self.writing.turn().await;
        self.writer.write(Durability::Now, work).await
    }

    async fn write_soon(&self, work: Work<SqliteConnection, ()>) -> Result<(), DatabaseError> {
        self.writer.write_soon(work).await
    }

    async fn settle(&self) -> Result<(), DatabaseError> {
        // The writer takes one after the other, and answers when all before is committed.
        let nothing: Work<SqliteConnection, ()> = Box::new(|_| Box::pin(async { Ok(()) }));
        self.writer.write(Durability::Soon, nothing).await
    }
}
