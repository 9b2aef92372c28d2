//! PostgreSQL, for more than one machine.

mod hold;

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use firn_service::Turns;
use firn_service::ports::DatabaseError;
use sqlx::migrate::Migrator;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgConnection, PgPool};

use crate::driver::{Driver, InTurn, Repository, Work};
use crate::error::backend;
use crate::occupant::Occupant;
use hold::{Hold, Taken};

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
    /// Where it is a server's.
    hold: Option<Hold>,
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
        let pool = pool(connections)
            .connect_with(options(url)?)
            .await
            .map_err(backend)?;
        MIGRATIONS.run(&pool).await.map_err(backend)?;
        let hold = None;
        Ok(Self {
            driver: Postgres {
                pool,
                hold,
                turns: turns(connections),
            },
        })
    }

    /// The same for a server, which has the database to itself as long as it lives. `token` is random, for this run of it.
    ///
    /// # Errors
    /// [`OpenError::Occupied`](crate::OpenError::Occupied) in [`DatabaseError::Backend`] when another server has it; else as for
    /// [`connect`](Self::connect).
    pub async fn occupy(
        url: &str,
        connections: u32,
        occupant: Occupant,
        token: [u8; 16],
    ) -> Result<Self, DatabaseError> {
        let options = options(url)?;
        // Before the tables are looked at: they may be those of another version, which is running.
        let taken = Taken::take(options.clone(), occupant, token).await?;
        let holder = taken.backend();
        let seen = Arc::clone(&holder);
        let pool = pool(connections).after_connect(move |connection, _| {
            let seen = Arc::clone(&seen);
            Box::pin(async move {
                match hold::is_seen(connection, &seen).await? {
                    true => Ok(()),
                    false => Err(sqlx::Error::Protocol(
                        "the database's lock is not held".to_owned(),
                    )),
                }
            })
        });
        let pool = pool.connect_with(options).await.map_err(backend)?;
        MIGRATIONS.run(&pool).await.map_err(backend)?;
        let hold = Some(taken.keep(pool.clone(), holder).await?);
        Ok(Self {
            driver: Postgres {
                pool,
                hold,
                turns: turns(connections),
            },
        })
    }

    /// Returns, with the reason, when another server has the database.
    pub async fn lost(&self) -> String {
        match &self.driver.hold {
            Some(hold) => hold.lost().await,
            None => std::future::pending().await,
        }
    }

    /// Waits for running transactions and closes the connections.
    pub async fn close(&self) {
        self.driver.pool.close().await;
        if let Some(hold) = &self.driver.hold {
            hold.end().await;
        }
    }
}

fn options(url: &str) -> Result<PgConnectOptions, DatabaseError> {
    let options = PgConnectOptions::from_str(url).map_err(backend)?;
    Ok(options
        .application_name("firn")
        .options(SETTINGS)
        .disable_statement_logging())
}

/// As many as there are connections: who waits for one waits fairly.
fn turns(connections: u32) -> Turns {
    Turns::new(usize::try_from(connections.max(1)).unwrap_or(usize::MAX))
}

fn pool(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections.max(1))
        .acquire_timeout(ACQUIRE)
}

impl Postgres {
    /// Returns while the database is this server's.
    async fn wait(&self) -> Result<(), DatabaseError> {
        match &self.hold {
            Some(hold) => hold.wait().await,
            None => Ok(()),
        }
    }

    async fn transaction<T>(
        &self,
        begin: &'static str,
        work: Work<PgConnection, T>,
    ) -> Result<T, DatabaseError> {
        self.wait().await?;
        let _turn = self.turns.turn().await;
        let mut transaction = self.pool.begin_with(begin).await.map_err(backend)?;
        let answer = work(&mut transaction).await?;
        if let Some(hold) = &self.hold {
            hold.check()?;
        }
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
        self.wait().await?;
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
