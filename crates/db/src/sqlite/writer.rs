//! The one writer. It takes what waits, does it in one transaction with a savepoint each, commits once, and only then answers:
//! one sync of the disk serves everybody who came while the last one ran.

use std::fs::File;
use std::sync::Arc;

use firn_service::ports::DatabaseError;
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot, watch};

use crate::driver::{BoxFuture, Work};
use crate::error::{WriteError, backend};

/// Writes that may wait; further callers wait for room.
const QUEUE: usize = 256;
/// Writes that share a commit.
const GROUP: usize = 64;

/// When a write must be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// With the next commit that must be.
    Soon,
    /// Before it is answered.
    Now,
}

/// Tells a caller: its own answer, or why the commit failed.
type Answer = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

/// Does one write within its savepoint.
type Run = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Done> + Send>;

/// What became of one write before the commit.
struct Done {
    keep: bool,
    answer: Answer,
}

struct Write {
    durability: Durability,
    run: Run,
}

enum Order {
    Write(Write),
    Close(oneshot::Sender<()>),
}

/// Gives writes to the writer's task.
#[derive(Clone, Debug)]
pub struct Writer {
    orders: mpsc::Sender<Order>,
    /// Why the task ended, when it should not have.
    lost: watch::Receiver<Option<String>>,
}

impl Writer {
    /// Starts the task. It ends with [`Writer::close`] or when no `Writer` is left, and unlocks `lock` then.
    pub fn start(connection: SqliteConnection, lock: Option<File>) -> Self {
        let (orders, queue) = mpsc::channel(QUEUE);
        let task = tokio::spawn(run(connection, queue, lock));
        let (ended, lost) = watch::channel(None);
        tokio::spawn(async move {
            let why = match task.await {
                Ok(Ok(())) => return,
                Ok(Err(why)) => why.to_string(),
                Err(error) if error.is_panic() => error.to_string(),
                // The runtime ends.
                Err(_) => return,
            };
            ended.send_replace(Some(why));
        });
        Self { orders, lost }
    }

    /// Returns, with the reason, when nothing is written any more.
    pub async fn lost(&self) -> String {
        let mut lost = self.lost.clone();
        let why = match lost.wait_for(Option::is_some).await {
            Ok(why) => why.clone(),
            Err(_) => None,
        };
        match why {
            Some(why) => why,
            None => std::future::pending().await,
        }
    }

    /// One transaction, answered after its commit. It happens even if the caller does not wait for the answer.
    pub async fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        work: Work<SqliteConnection, T>,
    ) -> Result<T, DatabaseError> {
        let (sender, answer) = oneshot::channel();
        self.give(durability, work, |outcome| {
            let _ = sender.send(outcome);
        })
        .await?;
        answer.await.map_err(|_| backend(WriteError::NotDone))?
    }

    /// One transaction that nobody waits for; a failure is logged.
    pub async fn write_soon(&self, work: Work<SqliteConnection, ()>) -> Result<(), DatabaseError> {
        self.give(Durability::Soon, work, |outcome| {
            if let Err(error) = outcome {
                tracing::warn!(%error, "a write that nobody waits for failed");
            }
        })
        .await
    }

    async fn give<T: Send + 'static>(
        &self,
        durability: Durability,
        work: Work<SqliteConnection, T>,
        tell: impl FnOnce(Result<T, DatabaseError>) + Send + 'static,
    ) -> Result<(), DatabaseError> {
        let write = Write {
            durability,
            run: Box::new(move |connection| {
                Box::pin(async move {
                    let outcome = work(connection).await;
                    Done {
                        keep: outcome.is_ok(),
                        answer: Box::new(move |commit| {
                            tell(outcome.and_then(|t| commit.map(|()| t).map_err(backend)))
                        }),
                    }
                })
            }),
        };
        let given = self.orders.send(Order::Write(write)).await;
        given.map_err(|_| backend(WriteError::NotDone))
    }

    /// Finishes what was given before and closes the connection.
    pub async fn close(&self) {
        let (sender, closed) = oneshot::channel();
        if self.orders.send(Order::Close(sender)).await.is_ok() {
            let _ = closed.await;
        }
        // Otherwise somebody else closes it; wait for that.
        self.orders.closed().await;
    }
}

/// The error is one after which nothing can be written.
async fn run(
    mut connection: SqliteConnection,
    mut queue: mpsc::Receiver<Order>,
    lock: Option<File>,
) -> Result<(), Arc<sqlx::Error>> {
    let mut waiting = Vec::new();
    let mut current = Durability::Now;
    let mut group = Vec::with_capacity(GROUP);
    while queue.recv_many(&mut waiting, GROUP).await > 0 {
        let mut closing = None;
        for order in waiting.drain(..) {
            match order {
                Order::Write(write) => group.push(write),
                Order::Close(sender) => closing = Some(sender),
            }
        }
        if !group.is_empty() {
            commit(&mut connection, &mut current, std::mem::take(&mut group)).await?;
        }
        if let Some(sender) = closing {
            if let Err(error) = connection.close().await {
                tracing::warn!(%error, "closing the database");
            }
            drop(lock);
            drop(queue);
            let _ = sender.send(());
            return Ok(());
        }
    }
    Ok(())
}

/// The error is one after which nothing can be written.
async fn commit(
    connection: &mut SqliteConnection,
    current: &mut Durability,
    group: Vec<Write>,
) -> Result<(), Arc<sqlx::Error>> {
    let mut answers = Vec::with_capacity(group.len());
    let outcome = transaction(connection, current, group, &mut answers).await;
    let outcome = outcome.map_err(|error| WriteError::Commit(Arc::new(error)));
    if let Err(error) = &outcome {
        tracing::error!(%error, "the database undid a commit of several writes");
        // Fails when SQLite has rolled back by itself, as it does when the disk is full.
        let _ = connection.execute("ROLLBACK").await;
    }
    for answer in answers {
        answer(outcome.clone());
    }
    match outcome {
        // The thread that SQLite runs in is gone.
        Err(WriteError::Commit(error)) if matches!(*error, sqlx::Error::WorkerCrashed) => Err(error),
        _ => Ok(()),
    }
}

/// Does all of the group; what is left in it after an error has not been done and its callers see a closed channel.
async fn transaction(
    connection: &mut SqliteConnection,
    current: &mut Durability,
    group: Vec<Write>,
    answers: &mut Vec<Answer>,
) -> Result<(), sqlx::Error> {
    let needed = group
        .iter()
        .map(|w| w.durability)
        .max()
        .unwrap_or(Durability::Now);
    if *current != needed {
        // In WAL mode a commit with NORMAL is atomic and ordered, but reaches the disk only with the next FULL one.
        connection
            .execute(match needed {
                Durability::Soon => "PRAGMA synchronous = NORMAL",
                Durability::Now => "PRAGMA synchronous = FULL",
            })
            .await?;
        *current = needed;
    }
    // Each statement that is sent is a change of threads, so what belongs together is sent together.
    let mut next = "BEGIN IMMEDIATE; SAVEPOINT one";
    for write in group {
        connection.execute(next).await?;
        let done = (write.run)(connection).await;
        answers.push(done.answer);
        next = if done.keep {
            "RELEASE one; SAVEPOINT one"
        } else {
            "ROLLBACK TO one"
        };
    }
    if next == "ROLLBACK TO one" {
        connection.execute(next).await?;
    }
    connection.execute("COMMIT").await?;
    Ok(())
}
