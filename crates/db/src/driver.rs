//! What the operations need of a database, and the type that carries them.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;

use firn_service::Turn;
use firn_service::ports::DatabaseError;

use crate::dialect::Connection;

/// A future on the heap that borrows a connection.
pub type BoxFuture<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// What to do within a transaction; an error undoes it.
pub type Work<C, T> = Box<dyn for<'c> FnOnce(&'c mut C) -> BoxFuture<'c, Result<T, DatabaseError>> + Send>;

/// A connection for as long as the turn lasts that it is used in.
#[derive(Debug)]
pub struct InTurn<C> {
    connection: C,
    _turn: Turn,
}

impl<C> InTurn<C> {
    pub fn new(connection: C, turn: Turn) -> Self {
        Self {
            connection,
            _turn: turn,
        }
    }
}

impl<C: Deref> Deref for InTurn<C> {
    type Target = C::Target;

    fn deref(&self) -> &C::Target {
        &self.connection
    }
}

impl<C: DerefMut> DerefMut for InTurn<C> {
    fn deref_mut(&mut self) -> &mut C::Target {
        &mut self.connection
    }
}

/// A database: where reads and writes happen.
pub trait Driver: Clone + Send + Sync + 'static {
    /// What work runs on.
    type Connection: Connection;
    /// A connection for one read.
    type Reader: DerefMut<Target = Self::Connection> + Send;

    /// Whether nobody else writes to the database while this value is there.
    fn alone(&self) -> bool;

    /// A connection for one read; it sees everything that was answered before.
    fn reader(&self) -> impl Future<Output = Result<Self::Reader, DatabaseError>> + Send;

    /// One transaction that is durable when this returns.
    fn write<T: Send + 'static>(
        &self,
        work: Work<Self::Connection, T>,
    ) -> impl Future<Output = Result<T, DatabaseError>> + Send;

    /// One transaction that may be lost by power loss. It happens in the order of the calls; a failure may only be logged.
    fn write_soon(
        &self,
        work: Work<Self::Connection, ()>,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Returns when a reader sees what [`Driver::write_soon`] was given before.
    fn settle(&self) -> impl Future<Output = Result<(), DatabaseError>> + Send;
}

/// The metadata ports on one database: [`SqliteDatabase`](crate::SqliteDatabase) or [`PostgresDatabase`](crate::PostgresDatabase).
#[derive(Clone, Debug)]
pub struct Repository<D> {
    pub(crate) driver: D,
}
