//! A query text with its values.

use std::borrow::Cow;

use crate::dialect::Connection;

/// A value to bind. Lists are for [`Connection::in_ints`](crate::dialect::Connection::in_ints) and its like.
#[derive(Clone, Debug)]
pub enum Value {
    /// A number.
    Int(i64),
    /// A number or nothing.
    OptInt(Option<i64>),
    /// A text without NUL, which PostgreSQL cannot store.
    Text(String),
    /// A text or nothing.
    OptText(Option<String>),
    /// Bytes.
    Blob(Vec<u8>),
    /// Bytes or nothing.
    OptBlob(Option<Vec<u8>>),
    /// Numbers.
    Ints(Vec<i64>),
    /// Texts.
    Texts(Vec<String>),
    /// Byte strings.
    Blobs(Vec<Vec<u8>>),
}

impl Value {
    /// Words of people or builders: NUL becomes U+FFFD.
    pub fn words(text: &str) -> Self {
        Self::Text(text.replace('\0', "\u{fffd}"))
    }
}

/// A query: `$1`, `$2`, … stand for the values.
#[derive(Clone, Debug)]
pub struct Query {
    pub(crate) sql: Cow<'static, str>,
    pub(crate) values: Vec<Value>,
}

impl Query {
    /// A text of this program's, never of a user's.
    pub fn new(sql: impl Into<Cow<'static, str>>) -> Self {
        Self {
            sql: sql.into(),
            values: Vec::new(),
        }
    }

    /// Binds the next value.
    pub fn bind(mut self, value: Value) -> Self {
        self.values.push(value);
        self
    }

    /// Binds the next number.
    pub fn int(self, number: i64) -> Self {
        self.bind(Value::Int(number))
    }

    /// Binds the next text.
    pub fn text(self, text: impl Into<String>) -> Self {
        self.bind(Value::Text(text.into()))
    }

    /// Binds the next bytes.
    pub fn blob(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.bind(Value::Blob(bytes.into()))
    }
}

/// Rows per statement, largest first. A few sizes only, so that every statement is found prepared; the largest stays below SQLite's
/// 32,766 values and PostgreSQL's 65,535 for rows of up to 60 columns.
const SIZES: [usize; 4] = [512, 64, 8, 1];

/// `<insert> VALUES (…), (…), … <end>` for all rows, in their order, in as few statements as [`SIZES`] allow. Rows are of equal length.
pub fn insert_rows<C: Connection, const N: usize>(
    insert: &str,
    rows: Vec<[Value; N]>,
    end: &str,
) -> Vec<Query> {
    let mut queries = Vec::new();
    let mut rows = rows.into_iter();
    while let Some(size) = SIZES.into_iter().find(|size| *size <= rows.len()) {
        let mut sql = format!("{insert} VALUES ");
        for row in 0..size {
            sql.push_str(if row == 0 { "(" } else { ", (" });
            for column in 0..N {
                let comma = if column == 0 { "" } else { ", " };
                sql.push_str(comma);
                C::push_placeholder(&mut sql, row * N + column + 1);
            }
            sql.push(')');
        }
        sql.push(' ');
        sql.push_str(end);
        queries.push(Query {
            sql: sql.into(),
            values: rows.by_ref().take(size).flatten().collect(),
        });
    }
    queries
}

#[cfg(test)]
mod tests {
    use sqlx::{PgConnection, SqliteConnection};

    use super::*;

    #[test]
    fn rows_are_cut_into_a_few_sizes_and_keep_their_order() {
        let rows: Vec<[Value; 2]> = (0..590).map(|n| [Value::Int(n), Value::Int(-n)]).collect();
        let queries = insert_rows::<PgConnection, 2>("INSERT INTO t (a, b)", rows, "RETURNING a");
        let sizes: Vec<usize> = queries.iter().map(|q| q.values.len() / 2).collect();
        assert_eq!(sizes, [512, 64, 8, 1, 1, 1, 1, 1, 1]);
        assert_eq!(queries[3].sql, "INSERT INTO t (a, b) VALUES ($1, $2) RETURNING a");
        assert!(
            queries[2]
                .sql
                .starts_with("INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4), ")
        );
        let firsts: Vec<i64> = queries
            .iter()
            .flat_map(|q| q.values.iter().step_by(2))
            .map(|v| match v {
                Value::Int(n) => *n,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(firsts, (0..590).collect::<Vec<_>>());
    }

    #[test]
    fn no_rows_are_no_statement() {
        assert!(insert_rows::<SqliteConnection, 1>("INSERT INTO t (a)", Vec::new(), "").is_empty());
    }
}
