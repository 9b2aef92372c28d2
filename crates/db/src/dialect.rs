//! Where SQLite and PostgreSQL differ: how values are bound and read, and how a list is asked for.

use std::fmt::Write as _;
use std::future::Future;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, AssertSqlSafe, PgConnection, Row as _, SqliteConnection};

use crate::query::{Query, Value};

/// A row of an answer. Columns count from 0; the error is about the column's type.
pub trait Row: Send {
    /// A number.
    fn int(&self, column: usize) -> Result<Option<i64>, sqlx::Error>;
    /// A text.
    fn text(&self, column: usize) -> Result<Option<&str>, sqlx::Error>;
    /// Bytes.
    fn blob(&self, column: usize) -> Result<Option<&[u8]>, sqlx::Error>;
}

/// A connection to either database.
pub trait Connection: Send {
    /// Its rows.
    type Row: Row;

    /// Appends what stands for the `n`th of many values, where those stand in order.
    fn push_placeholder(sql: &mut String, n: usize);

    /// `IN (…)` for the list of texts that is bound as `$n`: one value whatever the length, so that the statement's text is constant.
    fn in_texts(n: usize) -> String;

    /// The same for a list of byte strings.
    fn in_blobs(n: usize) -> String;

    /// Runs a query.
    fn fetch(&mut self, query: Query) -> impl Future<Output = Result<Vec<Self::Row>, sqlx::Error>> + Send;
}

macro_rules! row {
    ($row:ty) => {
        impl Row for $row {
            fn int(&self, column: usize) -> Result<Option<i64>, sqlx::Error> {
                self.try_get(column)
            }

            fn text(&self, column: usize) -> Result<Option<&str>, sqlx::Error> {
                self.try_get(column)
            }

            fn blob(&self, column: usize) -> Result<Option<&[u8]>, sqlx::Error> {
                self.try_get(column)
            }
        }
    };
}

row!(SqliteRow);
row!(PgRow);

impl Connection for SqliteConnection {
    type Row = SqliteRow;

    /// To SQLite `$1` is a name, and finding a name takes as long as there are names.
    fn push_placeholder(sql: &mut String, _n: usize) {
        sql.push('?');
    }

    fn in_texts(n: usize) -> String {
        format!("IN (SELECT value FROM json_each(${n}))")
    }

    fn in_blobs(n: usize) -> String {
        format!("IN (SELECT unhex(value) FROM json_each(${n}))")
    }

    async fn fetch(&mut self, query: Query) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        for value in query.values {
            match value {
                Value::Int(v) => arguments.add(v),
                Value::Text(v) => arguments.add(v),
                Value::OptText(v) => arguments.add(v),
                Value::Blob(v) => arguments.add(v),
                Value::OptBlob(v) => arguments.add(v),
                Value::Texts(v) => arguments.add(json(&v)?),
                Value::Blobs(v) => arguments.add(json(&v.iter().map(|b| hex(b)).collect::<Vec<_>>())?),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        sqlx::query_with(AssertSqlSafe(query.sql), arguments)
            .fetch_all(self)
            .await
    }
}

impl Connection for PgConnection {
    type Row = PgRow;

    fn push_placeholder(sql: &mut String, n: usize) {
        let _ = write!(sql, "${n}");
    }

    fn in_texts(n: usize) -> String {
        format!("= ANY(${n})")
    }

    fn in_blobs(n: usize) -> String {
        format!("= ANY(${n})")
    }

    async fn fetch(&mut self, query: Query) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut arguments = PgArguments::default();
        for value in query.values {
            match value {
                Value::Int(v) => arguments.add(v),
                Value::Text(v) => arguments.add(v),
                Value::OptText(v) => arguments.add(v),
                Value::Blob(v) => arguments.add(v),
                Value::OptBlob(v) => arguments.add(v),
                Value::Texts(v) => arguments.add(v),
                Value::Blobs(v) => arguments.add(v),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        sqlx::query_with(AssertSqlSafe(query.sql), arguments)
            .fetch_all(self)
            .await
    }
}

fn json(texts: &[String]) -> Result<String, sqlx::Error> {
    serde_json::to_string(texts).map_err(|e| sqlx::Error::Encode(Box::new(e)))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digit = |n: u8| DIGITS.get(usize::from(n)).copied().unwrap_or('0');
    bytes
        .iter()
        .flat_map(|b| [digit(b >> 4), digit(b & 15)])
        .collect()
}
