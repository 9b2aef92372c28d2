//! PostgreSQL, for more than one machine.

use std::str::FromStr as _;
use std::time::Duration;

use firn_service::Turns;
use firn_service::ports::DatabaseError;
use sqlx::migrate::Migrator;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgConnection, PgPool};

use crate::driver::{Driver, InTurn, Repository, Work};
use crate::error::backend;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// How long to wait for a free connection.
const ACQUIRE: Duration = Duration::from_secs(30);

/// What the server is asked for. Commits are on its disk when it answers, whatever its own settings say.
const SETTINGS: [(&str, &str); 4] = [
    ("synchronous_commit", "on"),
    ("lock_timeout", "30s"),
    ("statement_timeout", "5min"),
    ("idle_in_transaction_session_timeout", "1min"),
];

/// Connections to PostgreSQL.
#[derive(Clone, Debug)]
pub struct Postgres {
    pool: PgPool,
    turns: Turns,
}

/// The metadata ports on PostgreSQL.
pub type PostgresDatabase = Repository<Postgres>;

impl PostgresDatabase {
    /// Connects to `postgres://user@host/database` (or `postgres:///database?host=/directory/of/socket&user=…`) with up to
    /// `connections` connections, and brings the tables up to date; two servers may do so at once.
    ///
    /// # Errors
    /// [`DatabaseError::Backend`] when the server cannot be reached or the tables are of a newer program.
    pub async fn connect(url: &str, connections: u32) -> Result<Self, DatabaseError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(backend)?
            .application_name("firn")
            .options(SETTINGS)
            .disable_statement_logging();
        let connections = connections.max(1);
        let turns = Turns::new(usize::try_from(connections).unwrap_or(usize::MAX));
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE)
            .connect_with(options)
            .await
            .map_err(backend)?;
        MIGRATIONS.run(&pool).await.map_err(backend)?;
        Ok(Self {
            driver: Postgres { pool, turns },
        })
    }

    /// Waits for running transactions and closes the connections.
    pub async fn close(&self) {
        self.driver.pool.close().await;
    }
}

impl Postgres {
    async fn transaction<T>(
        &self,
        begin: &'static str,
        work: Work<PgConnection, T>,
    ) -> Result<T, DatabaseError> {
        let _turn = self.turns.turn().await;
        let mut transaction = self.pool.begin_with(begin).await.map_err(backend)?;
        let answer = work(&mut transaction).await?;
        transaction.commit().await.map_err(backend)?;
        Ok(answer)
    }
}

impl Driver for Postgres {
    type Connection = PgConnection;
    type Reader = InTurn<PoolConnection<sqlx::Postgres>>;

    fn alone(&self) -> bool {
        false
    }

    async fn reader(&self) -> Result<Self::Reader, DatabaseError> {
        let turn = self.turns.turn().await;
        let connection = self.pool.acquire().await.map_err(backend)?;
        Ok(InTurn::new(connection, turn))
    }

    async fn write<T: Send + 'static>(&self, work: Work<PgConnection, T>) -> Result<T, DatabaseError> {
        self.transaction("BEGIN", work).await
    }

    async fn write_soon(&self, work: Work<PgConnection, ()>) -> Result<(), DatabaseError> {
        self.transaction("BEGIN; SET LOCAL synchronous_commit TO off", work)
            .await
    }

    async fn settle(&self) -> Result<(), DatabaseError> {
        Ok(())
    }
}
