//! Where SQLite and PostgreSQL differ: how values are bound and read, and how a list is asked for.

use std::fmt::Write as _;
use std::future::Future;

use firn_core::BuildKey;
use serde::Serialize;
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

    /// The same for a list of numbers.
    fn in_ints(n: usize) -> String;

    /// `FROM` the texts that are bound as `$n`, each as `asked.value`, and the rows of a table whose `id` a query of one column finds
    /// for the text: a search for each text.
    fn for_each_text(n: usize, table: &str, ids: &str) -> String;

    /// Condition that `list`, a JSON array of texts without blanks, has the text `item`, which is longer than one character and
    /// has no control characters. Both are column names.
    fn has_text(list: &str, item: &str) -> String;

    /// Ends a `SELECT` so that its rows stay as they are, and nothing refers to them anew, until the end of the transaction.
    const FOR_UPDATE: &'static str;

    /// Statement that keeps new rows out of `public_key` until the end of the transaction, where another one could add some.
    const KEEP_KEYS: Option<&'static str>;

    /// Statement that waits for all [`Connection::KEEP_KEYS`], before the transaction adds a row.
    const ADD_KEYS: Option<&'static str>;

    /// Statement that waits until no other transaction is recording a result of the build key.
    fn lock_result(key: &BuildKey) -> Option<Query>;

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

    fn in_ints(n: usize) -> String {
        format!("IN (SELECT value FROM json_each(${n}))")
    }

    fn for_each_text(n: usize, table: &str, ids: &str) -> String {
        format!("FROM json_each(${n}) AS asked CROSS JOIN {table} ON {table}.id IN ({ids})")
    }

    fn has_text(list: &str, item: &str) -> String {
        format!(
            "(instr({list}, '[' || json_quote({item})) > 0 OR instr({list}, ',' || json_quote({item})) > 0)"
        )
    }

    /// There is one writer.
    const FOR_UPDATE: &'static str = "";
    const KEEP_KEYS: Option<&'static str> = None;
    const ADD_KEYS: Option<&'static str> = None;

    fn lock_result(_key: &BuildKey) -> Option<Query> {
        None
    }

    async fn fetch(&mut self, query: Query) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        for value in query.values {
            match value {
                Value::Int(v) => arguments.add(v),
                Value::OptInt(v) => arguments.add(v),
                Value::Text(v) => arguments.add(v),
                Value::OptText(v) => arguments.add(v),
                Value::Blob(v) => arguments.add(v),
                Value::OptBlob(v) => arguments.add(v),
                Value::Ints(v) => arguments.add(json(&v)?),
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

    fn in_ints(n: usize) -> String {
        format!("= ANY(${n})")
    }

    fn for_each_text(n: usize, table: &str, ids: &str) -> String {
        format!(
            "FROM unnest(${n}) AS asked(value) CROSS JOIN LATERAL ({ids}) AS found JOIN {table} ON {table}.id = found.id"
        )
    }

    fn has_text(list: &str, item: &str) -> String {
        format!(
            "(strpos({list}, '[' || to_json({item})::text) > 0 OR strpos({list}, ',' || to_json({item})::text) > 0)"
        )
    }

    const FOR_UPDATE: &'static str = "FOR UPDATE";
    const KEEP_KEYS: Option<&'static str> = Some("LOCK TABLE public_key IN SHARE MODE");
    const ADD_KEYS: Option<&'static str> = Some("LOCK TABLE public_key IN SHARE ROW EXCLUSIVE MODE");

    fn lock_result(key: &BuildKey) -> Option<Query> {
        let (number, _) = key.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
        Some(Query::new("SELECT pg_advisory_xact_lock($1)").int(i64::from_le_bytes(*number)))
    }

    async fn fetch(&mut self, query: Query) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut arguments = PgArguments::default();
        for value in query.values {
            match value {
                Value::Int(v) => arguments.add(v),
                Value::OptInt(v) => arguments.add(v),
                Value::Text(v) => arguments.add(v),
                Value::OptText(v) => arguments.add(v),
                Value::Blob(v) => arguments.add(v),
                Value::OptBlob(v) => arguments.add(v),
                Value::Ints(v) => arguments.add(v),
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

fn json(values: &impl Serialize) -> Result<String, sqlx::Error> {
    serde_json::to_string(values).map_err(|e| sqlx::Error::Encode(Box::new(e)))
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
