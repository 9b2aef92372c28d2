//! One server for a database.
//!
//! Contents lie on the server's own disk, so a second server on the database would take the first one's results for lost and its word
//! for what it does not have. Therefore a server holds an advisory lock, on a connection of its own, from before it looks at the tables
//! until it ends. PostgreSQL gives the lock back when that connection ends, however the server ends. When only the connection is lost,
//! nothing is asked of the database until the lock is held again; when another server has been there since, it never is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use firn_service::ports::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgRow};
use sqlx::{Acquire as _, PgConnection, PgPool};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::decode::Fields;
use crate::dialect::{Connection as _, Row as _};
use crate::error::{OpenError, backend, stored};
use crate::occupant::Occupant;
use crate::query::{Query, Value};

/// The lock's number among those of the database: two numbers, while results are locked by one.
const LOCK: (i32, i32) = (0x6669_726e, 1);

/// How long a server that was killed may take to be noticed by PostgreSQL.
const GRACE: Duration = Duration::from_secs(1);
/// How long whoever has the lock may take to write down who it is.
const INTRODUCTION: Duration = Duration::from_millis(500);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// How often PostgreSQL is asked whether it still knows of the lock: a network can swallow the end of a connection.
const LOOK: Duration = Duration::from_secs(2);
/// How long an answer to that may take.
const LOOK_DEADLINE: Duration = Duration::from_secs(10);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a question waits for the lock to be held again.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the lock's connection sets for itself, where the server knows it: not to be ended for being idle, and to be ended soon when
/// this machine is gone.
const SETTINGS: &str = "SELECT set_config(name, CASE name WHEN 'tcp_keepalives_count' THEN '3' WHEN 'tcp_keepalives_idle' THEN '10'
                                  WHEN 'tcp_keepalives_interval' THEN '5' ELSE '0' END, false)
     FROM pg_settings WHERE name IN ('idle_session_timeout', 'statement_timeout', 'tcp_keepalives_count', 'tcp_keepalives_idle',
                                     'tcp_keepalives_interval')";

/// Whether the database belongs to this server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Held,
    Waiting,
    /// Never again, and why.
    Lost(Arc<str>),
}

/// The lock, as those see it who use the database.
#[derive(Clone, Debug)]
pub struct Hold {
    state: watch::Receiver<State>,
    /// The lock is given back when a message comes, or the last of these is dropped.
    end: mpsc::Sender<()>,
}

impl Hold {
    /// Returns while the lock is held; waits a while for that.
    pub async fn wait(&self) -> Result<(), DatabaseError> {
        let mut state = self.state.clone();
        let settled = timeout(PATIENCE, state.wait_for(|state| *state != State::Waiting)).await;
        match settled {
            Ok(Ok(state)) if *state == State::Held => Ok(()),
            _ => Err(backend(OpenError::NotHeld)),
        }
    }

    /// Whether the lock is held.
    pub fn check(&self) -> Result<(), DatabaseError> {
        match *self.state.borrow() {
            State::Held if self.state.has_changed().is_ok() => Ok(()),
            _ => Err(backend(OpenError::NotHeld)),
        }
    }

    /// Returns, with the reason, when the database belongs to this server no more.
    pub async fn lost(&self) -> String {
        let mut state = self.state.clone();
        loop {
            if let State::Lost(why) = &*state.borrow_and_update() {
                return why.to_string();
            }
            if state.changed().await.is_err() {
                return "whoever keeps the database's lock has ended".to_owned();
            }
        }
    }

    /// Gives the lock back.
    pub async fn end(&self) {
        let _ = self.end.try_send(());
        let mut state = self.state.clone();
        while state.changed().await.is_ok() {}
    }
}

/// A connection of its own, for the lock.
struct Lock {
    listener: PgListener,
    pool: PgPool,
    backend: i64,
}

impl Lock {
    async fn connect(options: &PgConnectOptions) -> Result<Self, sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(CONNECT)
            .connect_with(options.clone())
            .await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.ignore_pool_close_event(true);
        listener.eager_reconnect(false);
        let mut lock = Self {
            listener,
            pool,
            backend: 0,
        };
        let connection = lock.connection().await?;
        connection.fetch(Query::new(SETTINGS)).await?;
        let me = Query::new("SELECT CAST(pg_backend_pid() AS BIGINT)");
        let backend = number(&connection.fetch(me).await?)?;
        lock.backend = backend.ok_or(sqlx::Error::RowNotFound)?;
        Ok(lock)
    }

    async fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.listener.acquire().await
    }

    /// Whether the lock is this connection's from now on.
    async fn take(&mut self) -> Result<bool, sqlx::Error> {
        let (class, object) = LOCK;
        let query = format!(
            "SELECT CASE WHEN pg_try_advisory_lock({class}, {object}) THEN CAST(1 AS BIGINT) ELSE 0 END"
        );
        let rows = self.connection().await?.fetch(Query::new(query)).await?;
        Ok(number(&rows)? == Some(1))
    }

    /// Returns when the connection is lost, or the lock with it. `pool` is what it protects.
    async fn gone(&mut self, pool: &PgPool) {
        let backend = self.backend;
        tokio::select! {
            // Nothing is ever sent: this ends with the connection.
            () = async { while let Ok(Some(_)) = self.listener.try_recv().await {} } => {}
            () = unseen(pool, backend) => {}
        }
    }

    async fn close(self) {
        drop(self.listener);
        // A connection that is gone without a word would be waited for.
        let _ = timeout(CONNECT, self.pool.close()).await;
    }
}

/// Returns when PostgreSQL knows nothing of the lock. When it cannot be asked, nobody is answered from it either.
async fn unseen(pool: &PgPool, backend: i64) {
    loop {
        sleep(LOOK).await;
        let look = async { holder(&mut *pool.acquire().await?).await };
        if let Ok(Ok(found)) = timeout(LOOK_DEADLINE, look).await
            && found != Some(backend)
        {
            return;
        }
    }
}

/// The one number of an answer, if there is a row.
fn number(rows: &[PgRow]) -> Result<Option<i64>, sqlx::Error> {
    match rows.first() {
        Some(row) => row.int(0),
        None => Ok(None),
    }
}

/// PostgreSQL's process that has the lock.
async fn holder(connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    let (class, object) = LOCK;
    let query = format!(
        "SELECT CAST(pid AS BIGINT) FROM pg_locks
         WHERE locktype = 'advisory' AND classid = {class} AND objid = {object} AND objsubid = 2 AND granted
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    number(&connection.fetch(Query::new(query)).await?)
}

/// What is written down of whoever has the lock, or had it last.
struct Entry {
    token: Vec<u8>,
    backend: i64,
    occupant: Occupant,
}

async fn entry(connection: &mut PgConnection) -> Result<Option<Entry>, DatabaseError> {
    let query = Query::new("SELECT token, backend, host, address, data_dir, since FROM server");
    let rows = connection.fetch(query).await.map_err(backend)?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let mut fields = Fields::new("server", row);
    Ok(Some(Entry {
        token: fields.blob("token")?.to_owned(),
        backend: fields.int("backend")?,
        occupant: Occupant {
            host: fields.text("host")?.to_owned(),
            address: fields.text("address")?.to_owned(),
            data_dir: fields.text("data_dir")?.to_owned(),
            since: fields.unsigned("since")?,
        },
    }))
}

/// Who has the lock, if that is soon to be read.
async fn introduced(connection: &mut PgConnection) -> Option<Occupant> {
    let end = Instant::now() + INTRODUCTION;
    loop {
        // There may be no tables yet.
        if let Ok(Some(entry)) = entry(connection).await
            && holder(connection).await.ok()? == Some(entry.backend)
        {
            return Some(entry.occupant);
        }
        if Instant::now() > end {
            return None;
        }
        sleep(PAUSE).await;
    }
}

/// The lock of a server, which it has taken.
pub struct Taken {
    lock: Lock,
    options: PgConnectOptions,
    token: [u8; 16],
    occupant: Occupant,
}

impl Taken {
    /// Takes the lock for a server; `token` is random.
    ///
    /// # Errors
    /// [`OpenError::Occupied`] when another one has it.
    pub async fn take(
        options: PgConnectOptions,
        occupant: Occupant,
        token: [u8; 16],
    ) -> Result<Self, DatabaseError> {
        let end = Instant::now() + GRACE;
        let mut lock = Lock::connect(&options).await.map_err(backend)?;
        while !lock.take().await.map_err(backend)? {
            if Instant::now() > end {
                let other = introduced(lock.connection().await.map_err(backend)?).await;
                lock.close().await;
                return Err(backend(OpenError::Occupied(other)));
            }
            sleep(PAUSE).await;
        }
        Ok(Self {
            lock,
            options,
            token,
            occupant,
        })
    }

    /// PostgreSQL's process that has the lock.
    pub fn backend(&self) -> Arc<AtomicI64> {
        Arc::new(AtomicI64::new(self.lock.backend))
    }

    /// Writes down whose it is, where there are tables, and keeps it from now on. `pool` is what it protects, and [`is_seen`] with
    /// `backend` on every new connection there.
    pub async fn keep(mut self, pool: PgPool, backend: Arc<AtomicI64>) -> Result<Hold, DatabaseError> {
        self.enter().await?;
        let (state, seen) = watch::channel(State::Held);
        let (end, ended) = mpsc::channel(1);
        tokio::spawn(self.stay(pool, backend, state, ended));
        Ok(Hold { state: seen, end })
    }

    async fn enter(&mut self) -> Result<(), DatabaseError> {
        let Occupant {
            host,
            address,
            data_dir,
            since,
        } = self.occupant.clone();
        let query = Query::new(
            "INSERT INTO server (one, token, backend, host, address, data_dir, since) VALUES (1, $1, $2, $3, $4, $5, $6)
             ON CONFLICT (one) DO UPDATE SET token = excluded.token, backend = excluded.backend, host = excluded.host,
               address = excluded.address, data_dir = excluded.data_dir, since = excluded.since",
        )
        .blob(self.token)
        .int(self.lock.backend)
        .bind(Value::words(&host))
        .bind(Value::words(&address))
        .bind(Value::words(&data_dir))
        .int(stored(since)?);
        let connection = self.lock.connection().await.map_err(backend)?;
        connection.fetch(query).await.map(drop).map_err(backend)
    }

    async fn stay(
        mut self,
        pool: PgPool,
        backend: Arc<AtomicI64>,
        state: watch::Sender<State>,
        mut ended: mpsc::Receiver<()>,
    ) {
        loop {
            tokio::select! {
                _ = ended.recv() => return self.lock.close().await,
                () = self.lock.gone(&pool) => {}
            }
            state.send_replace(State::Waiting);
            tracing::warn!(
                "the connection that holds the database's lock is lost: nobody is answered until it is held again"
            );
            let again = tokio::select! {
                _ = ended.recv() => return self.lock.close().await,
                again = self.again() => again,
            };
            match again {
                Ok(lock) => {
                    backend.store(lock.backend, Ordering::Release);
                    let before = std::mem::replace(&mut self.lock, lock);
                    tokio::spawn(before.close());
                    state.send_replace(State::Held);
                    tracing::info!("the database's lock is held again");
                }
                Err(why) => {
                    state.send_replace(State::Lost(why.into()));
                    return self.lock.close().await;
                }
            }
        }
    }

    /// Takes the lock again, as often as it needs; the error says who was faster.
    async fn again(&self) -> Result<Lock, String> {
        loop {
            if let Ok(lock) = Lock::connect(&self.options).await
                && let Some(done) = self.take_again(lock).await
            {
                return done;
            }
            sleep(PAUSE).await;
        }
    }

    /// `None`: not yet.
    async fn take_again(&self, mut lock: Lock) -> Option<Result<Lock, String>> {
        let taken = lock.take().await.ok()?;
        let connection = lock.connection().await.ok()?;
        let entry = entry(connection).await.ok()?;
        let ours = entry.as_ref().is_some_and(|entry| entry.token == self.token);
        let backend = entry.as_ref().map(|entry| entry.backend);
        if taken && ours {
            let mut again = Self {
                lock,
                options: self.options.clone(),
                token: self.token,
                occupant: self.occupant.clone(),
            };
            again.enter().await.ok()?;
            return Some(Ok(again.lock));
        }
        let other = if taken {
            // Somebody was here and has gone: what this server remembers may not hold.
            entry.map(|entry| entry.occupant)
        } else {
            let holder = holder(connection).await.ok()??;
            if ours && Some(holder) == backend {
                // The session that was lost; PostgreSQL has not noticed.
                let end =
                    Query::new("SELECT CASE WHEN pg_terminate_backend(CAST($1 AS INT)) THEN 1 ELSE 0 END");
                connection.fetch(end.int(holder)).await.ok()?;
                lock.close().await;
                return None;
            }
            introduced(connection).await
        };
        lock.close().await;
        let other = other.map_or_else(String::new, |other| format!(" {other}"));
        Some(Err(format!(
            "while the connection to the database was lost, another `firn serve`{other} took it over"
        )))
    }
}

/// Whether PostgreSQL says that the lock is held by that process of its own.
pub async fn is_seen(connection: &mut PgConnection, backend: &AtomicI64) -> Result<bool, sqlx::Error> {
    Ok(holder(connection).await? == Some(backend.load(Ordering::Acquire)))
}
