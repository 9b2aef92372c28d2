//! JSON as Nix's own library reads and writes it, because its bytes end up in builds and under signatures.
//!
//! Compact, keys sorted bytewise, text as raw UTF-8. Integers stay integers; other numbers are printed by the rules of C++'s nlohmann
//! library. The last of two equal keys counts.

use std::collections::BTreeMap;

mod parse;

pub use parse::{JsonError, MAX_DEPTH};

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A negative integer, or zero written with a minus.
    Int(i64),
    /// Any other integer.
    Uint(u64),
    /// A number with fraction or exponent, or an integer beyond 64 bits. Finite.
    Float(f64),
    /// Text.
    String(String),
    /// `[…]`
    Array(Vec<Json>),
    /// `{…}`
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// The member of that name, when this is an object that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.get(key),
            _ => None,
        }
    }

    /// The text, when this is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Compact text.
    #[must_use]
    pub fn dump(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Self::Int(n) => out.push_str(&n.to_string()),
            Self::Uint(n) => out.push_str(&n.to_string()),
            Self::Float(f) => write_float(out, *f),
            Self::String(s) => write_string(out, s),
            Self::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_string(out, key);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl<K: Into<String>> FromIterator<(K, Json)> for Json {
    fn from_iter<T: IntoIterator<Item = (K, Json)>>(members: T) -> Self {
        Self::Object(members.into_iter().map(|(k, v)| (k.into(), v)).collect())
    }
}

impl FromIterator<Json> for Json {
    fn from_iter<T: IntoIterator<Item = Json>>(items: T) -> Self {
        Self::Array(items.into_iter().collect())
    }
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Shortest digits that read back as the same number; positional up to 15 digits before and 3 zeros after the point.
fn write_float(out: &mut String, value: f64) {
    const MAX_POINT: i32 = 15;
    const MIN_POINT: i32 = -4;
    if !value.is_finite() {
        out.push_str("null");
        return;
    }
    if value == 0.0 {
        out.push_str(if value.is_sign_negative() { "-0.0" } else { "0.0" });
        return;
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    if value < 0.0 {
        out.push('-');
    }
    // Where the point stands, counted in digits from the first.
    let point = exponent + 1;
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    let split = |at: i32| digits.split_at(usize::try_from(at).unwrap_or(0).min(digits.len()));
    if count <= point && point <= MAX_POINT {
        out.push_str(&format!("{digits}{}.0", zeros(point - count)));
    } else if 0 < point && point <= MAX_POINT {
        let (whole, fraction) = split(point);
        out.push_str(&format!("{whole}.{fraction}"));
    } else if MIN_POINT < point && point <= 0 {
        out.push_str(&format!("0.{}{digits}", zeros(-point)));
    } else {
        let (first, rest) = split(1);
        let dot = if rest.is_empty() { "" } else { "." };
        let sign = if exponent < 0 { '-' } else { '+' };
        out.push_str(&format!("{first}{dot}{rest}e{sign}{:02}", exponent.abs()));
    }
}
