//! What a command answers: a JSON value for programs, and the same for a person.

use firn_content::{Change, Difference};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One answer in both forms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// For programs.
    pub value: Value,
    /// For a person: lines, without the end of the last one.
    pub text: String,
}

impl Reply {
    /// A list of objects: a table of these members, or `none` where it is empty.
    pub fn table(rows: Vec<Value>, columns: &[&str], none: &str) -> Self {
        let text = if rows.is_empty() {
            none.to_owned()
        } else {
            table(&rows, columns)
        };
        Self {
            value: rows.into(),
            text,
        }
    }

    /// An object: a line for each member.
    pub fn facts(value: Value) -> Self {
        let lines: Vec<String> = value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| format!("{}: {}", name.replace('_', " "), cell(&value, name)))
            .collect();
        Self {
            value,
            text: lines.join("\n"),
        }
    }

    /// What was done, and a sentence or more about it.
    pub fn done(mut value: Value, sentence: &str) -> Self {
        let text = plain(sentence);
        if let Some(members) = value.as_object_mut() {
            members.insert("message".into(), json!(text));
        }
        Self { value, text }
    }

    /// A value with a text of its own.
    pub fn told(value: Value, text: &str) -> Self {
        Self {
            value,
            text: plain(text),
        }
    }

    /// With a hint after the text.
    pub fn hint(mut self, hint: &str) -> Self {
        self.text = format!("{}\n{}", self.text, plain(hint));
        self
    }
}

/// Text from outside moves no cursor.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() && char != '\n' {
            plain.extend(char.escape_default());
        } else {
            plain.push(char);
        }
    }
    plain
}

/// A member as a person reads it.
fn cell(row: &Value, column: &str) -> String {
    let text = match (row.get(column), column) {
        (None | Some(Value::Null), _) => "-".into(),
        (Some(value), "time" | "created" | "added" | "asked") => {
            moment(value).unwrap_or_else(|| value.to_string())
        }
        (Some(Value::String(text)), _) => text.clone(),
        (Some(Value::Bool(true)), _) => "yes".into(),
        (Some(Value::Bool(false)), _) => "no".into(),
        (Some(other), _) => other.to_string(),
    };
    plain(&text).replace('\n', "\\n")
}

/// Seconds since 1970, as a person reads them.
pub fn moment_text(time: u64) -> String {
    moment(&json!(time)).unwrap_or_else(|| time.to_string())
}

/// One place where two contents differ.
pub fn difference(difference: &Difference) -> Value {
    let mut value = json!({
        "file": difference.path.escape_ascii().to_string(),
        "change": difference.change.to_string(),
    });
    let more = match &difference.change {
        Change::OnlyFirst => json!({ "kind": "only-first" }),
        Change::OnlySecond => json!({ "kind": "only-second" }),
        Change::Kind => json!({ "kind": "type" }),
        Change::Executable { first } => json!({ "kind": "executable", "first": first, "second": !first }),
        Change::Target { first, second } => json!({
            "kind": "target",
            "first": first.escape_ascii().to_string(),
            "second": second.escape_ascii().to_string(),
        }),
        Change::Length {
            first,
            second,
            offset,
        } => {
            json!({ "kind": "bytes", "first_size": first, "second_size": second, "first_difference": offset })
        }
        Change::Bytes { offset } => json!({ "kind": "bytes", "first_difference": offset }),
    };
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    value
}

/// Seconds since 1970.
fn moment(value: &Value) -> Option<String> {
    Some(jiff::Timestamp::from_second(value.as_i64()?).ok()?.to_string())
}

fn table(rows: &[Value], columns: &[&str]) -> String {
    let head = columns
        .iter()
        .map(|column| column.to_uppercase().replace('_', " "));
    let mut lines: Vec<Vec<String>> = vec![head.collect()];
    for row in rows {
        lines.push(columns.iter().map(|column| cell(row, column)).collect());
    }
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| {
            let cells = lines.iter().filter_map(|line| line.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let shown: Vec<String> = lines
        .iter()
        .map(|line| {
            let cells = line.iter().zip(&widths);
            let padded: Vec<String> = cells.map(|(cell, width)| format!("{cell:width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        })
        .collect();
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_columns_and_says_when_it_is_empty() {
        let rows = vec![
            json!({ "name": "a", "wall_ms": 1, "time": 0, "more": "not shown" }),
            json!({ "name": "longer\u{1b}[2J\nx", "wall_ms": null, "time": 1_700_000_000 }),
        ];
        let reply = Reply::table(rows, &["name", "wall_ms", "time"], "nothing");
        assert_eq!(
            reply.text,
            "NAME                WALL MS  TIME\n\
             a                   1        1970-01-01T00:00:00Z\n\
             longer\\u{1b}[2J\\nx  -        2023-11-14T22:13:20Z"
        );
        assert_eq!(reply.value[0]["more"], "not shown");
        let empty = Reply::table(Vec::new(), &["name"], "nothing yet");
        assert_eq!((empty.value, empty.text.as_str()), (json!([]), "nothing yet"));
    }

    #[test]
    fn facts_and_deeds() {
        let reply = Reply::facts(json!({ "account": "alice", "cpu_us": 3, "operator": false }));
        assert_eq!(reply.text, "account: alice\ncpu us: 3\noperator: no");
        let reply = Reply::done(json!({ "removed": "x\r" }), "'x\r' is gone").hint("and a hint");
        assert_eq!(reply.text, "'x\\r' is gone\nand a hint");
        assert_eq!(
            reply.value,
            json!({ "removed": "x\r", "message": "'x\\r' is gone" })
        );
    }
}
