//! Rows into values. What cannot have been written is [`DatabaseError::Inconsistent`], named by table, column and row.

use std::collections::BTreeSet;

use firn_core::{AccountId, AccountName, Object, Origin, Trust};
use firn_nix::rewrite::SelfReferences;
use firn_nix::{ContentAddress, NarHash, StorePath};
use firn_service::ports::{Account, DatabaseError};

use crate::dialect::Row;

/// Reads a row's columns from left to right.
pub struct Fields<'r, R> {
    row: &'r R,
    next: usize,
    /// Which table the next columns come from.
    pub table: &'static str,
    /// Names the row in errors.
    pub label: &'r str,
}

impl<'r, R: Row> Fields<'r, R> {
    /// From the first column on.
    pub fn new(table: &'static str, row: &'r R) -> Self {
        Self {
            row,
            next: 0,
            table,
            label: "",
        }
    }

    /// The error for a column of this row.
    pub fn bad(&self, column: &str, why: impl std::fmt::Display) -> DatabaseError {
        let of = if self.label.is_empty() { "" } else { " of " };
        DatabaseError::Inconsistent {
            table: self.table,
            what: format!("{column}{of}{}: {why}", self.label),
        }
    }

    fn take<T>(
        &mut self,
        column: &str,
        get: impl FnOnce(&'r R, usize) -> Result<Option<T>, sqlx::Error>,
    ) -> Result<Option<T>, DatabaseError> {
        let at = self.next;
        self.next += 1;
        get(self.row, at).map_err(|e| self.bad(column, e))
    }

    /// A text or null.
    pub fn opt_text(&mut self, column: &str) -> Result<Option<&'r str>, DatabaseError> {
        self.take(column, R::text)
    }

    /// A text.
    pub fn text(&mut self, column: &str) -> Result<&'r str, DatabaseError> {
        self.opt_text(column)?.ok_or_else(|| self.bad(column, "is null"))
    }

    /// Leaves columns out.
    pub fn skip(&mut self, columns: usize) {
        self.next += columns;
    }

    /// A number or null.
    pub fn opt_int(&mut self, column: &str) -> Result<Option<i64>, DatabaseError> {
        self.take(column, R::int)
    }

    /// A number.
    pub fn int(&mut self, column: &str) -> Result<i64, DatabaseError> {
        self.opt_int(column)?.ok_or_else(|| self.bad(column, "is null"))
    }

    /// A number that is not negative, or null.
    pub fn opt_unsigned(&mut self, column: &str) -> Result<Option<u64>, DatabaseError> {
        let number = self.opt_int(column)?;
        let unsigned = |number| {
            u64::try_from(number).map_err(|_| self.bad(column, format_args!("{number} is negative")))
        };
        number.map(unsigned).transpose()
    }

    /// A number that is not negative.
    pub fn unsigned(&mut self, column: &str) -> Result<u64, DatabaseError> {
        self.opt_unsigned(column)?
            .ok_or_else(|| self.bad(column, "is null"))
    }

    /// Bytes.
    pub fn blob(&mut self, column: &str) -> Result<&'r [u8], DatabaseError> {
        self.take(column, R::blob)?
            .ok_or_else(|| self.bad(column, "is null"))
    }

    /// Exactly `N` bytes.
    pub fn array<const N: usize>(&mut self, column: &str) -> Result<[u8; N], DatabaseError> {
        let bytes = self.blob(column)?;
        self.sized(column, bytes)
    }

    /// Exactly `N` bytes or null.
    pub fn opt_array<const N: usize>(&mut self, column: &str) -> Result<Option<[u8; N]>, DatabaseError> {
        let bytes = self.take(column, R::blob)?;
        bytes.map(|b| self.sized(column, b)).transpose()
    }

    fn sized<const N: usize>(&self, column: &str, bytes: &[u8]) -> Result<[u8; N], DatabaseError> {
        let length = bytes.len();
        bytes
            .try_into()
            .map_err(|_| self.bad(column, format_args!("has {length} bytes, not {N}")))
    }

    /// A store path.
    pub fn path(&mut self, column: &str) -> Result<StorePath, DatabaseError> {
        let text = self.text(column)?;
        self.parse_path(column, text)
    }

    /// A store path or null.
    pub fn opt_path(&mut self, column: &str) -> Result<Option<StorePath>, DatabaseError> {
        let text = self.opt_text(column)?;
        text.map(|t| self.parse_path(column, t)).transpose()
    }

    /// A base name of a store path.
    pub fn parse_path(&self, column: &str, text: &str) -> Result<StorePath, DatabaseError> {
        StorePath::from_base_name(text.as_bytes()).map_err(|e| self.bad(column, e))
    }

    /// Store paths with a space between two.
    pub fn paths(&mut self, column: &str) -> Result<BTreeSet<StorePath>, DatabaseError> {
        let text = self.text(column)?;
        text.split(' ')
            .filter(|t| !t.is_empty())
            .map(|t| self.parse_path(column, t))
            .collect()
    }

    /// A JSON array of texts.
    pub fn texts(&mut self, column: &str) -> Result<BTreeSet<String>, DatabaseError> {
        let text = self.text(column)?;
        serde_json::from_str(text).map_err(|e| self.bad(column, e))
    }

    /// Where a claim comes from.
    pub fn origin(&mut self, column: &str) -> Result<Origin, DatabaseError> {
        let text = self.text(column)?;
        Origin::parse(text).ok_or_else(|| self.bad(column, format_args!("'{}'", text.escape_debug())))
    }

    /// A form of content addresses; empty when there is none.
    pub fn self_references(&mut self, column: &str) -> Result<Option<SelfReferences>, DatabaseError> {
        let text = self.text(column)?;
        let form = SelfReferences::parse(text);
        match text.is_empty() || form.is_some() {
            true => Ok(form),
            false => Err(self.bad(column, format_args!("'{}'", text.escape_debug()))),
        }
    }

    /// A level of trust or null.
    pub fn opt_trust(&mut self, column: &str) -> Result<Option<Trust>, DatabaseError> {
        let Some(text) = self.opt_text(column)? else {
            return Ok(None);
        };
        let trust = Trust::parse(text);
        trust
            .map(Some)
            .ok_or_else(|| self.bad(column, format_args!("'{}'", text.escape_debug())))
    }

    /// A level of trust.
    pub fn trust(&mut self, column: &str) -> Result<Trust, DatabaseError> {
        self.opt_trust(column)?.ok_or_else(|| self.bad(column, "is null"))
    }

    /// Yes or no.
    pub fn bool(&mut self, column: &str) -> Result<bool, DatabaseError> {
        match self.int(column)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.bad(column, format_args!("{other} is neither 0 nor 1"))),
        }
    }
}

/// What [`account`] reads.
pub const ACCOUNT: &str = "account.id, account.name, account.created";

/// An account.
pub fn account(row: &impl Row) -> Result<Account, DatabaseError> {
    let mut fields = Fields::new("account", row);
    let id = AccountId(fields.int("id")?);
    let name = fields.text("name")?;
    fields.label = name;
    Ok(Account {
        id,
        name: AccountName::parse(name).map_err(|e| fields.bad("name", e))?,
        created: fields.unsigned("created")?,
    })
}

/// What [`object`] reads.
pub const OBJECT: &str =
    "object.path, object.content, object.nar_size, object.refs, object.ca, object.self_refs";

/// An object; `None` when its path is null, as an outer join says "none".
pub fn object<R: Row>(fields: &mut Fields<'_, R>) -> Result<Option<Object>, DatabaseError> {
    fields.table = "object";
    let Some(path) = fields.opt_text("path")? else {
        return Ok(None);
    };
    fields.label = path;
    let path = fields.parse_path("path", path)?;
    let content = NarHash::new(fields.array("content")?);
    let nar_size = fields.unsigned("nar_size")?;
    let references = fields.paths("refs")?;
    let ca = match fields.text("ca")? {
        "" => None,
        text => Some(ContentAddress::parse(text).map_err(|e| fields.bad("ca", e))?),
    };
    let self_references = fields.self_references("self_refs")?;
    Ok(Some(Object {
        path,
        content,
        nar_size,
        references,
        ca,
        self_references,
    }))
}
