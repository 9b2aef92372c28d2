//! Reading JSON (RFC 8259).

use std::collections::BTreeMap;

use super::Json;

/// Deepest nesting that is read.
pub const MAX_DEPTH: usize = 256;

/// Most values of one text. A value takes up to a hundred times the memory of its text.
pub const MAX_VALUES: usize = 1 << 18;

/// Why bytes are not JSON. Offsets count bytes from the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Something else was expected here.
    #[error("JSON, byte {offset}: expected {expected}")]
    Syntax {
        /// Where.
        offset: usize,
        /// What the format asks for.
        expected: &'static str,
    },
    /// A number beyond the range of a double.
    #[error("JSON, byte {0}: number out of range")]
    Range(usize),
    /// More than [`MAX_DEPTH`] levels.
    #[error("JSON, byte {0}: nested deeper than {MAX_DEPTH} levels")]
    Depth(usize),
    /// More than [`MAX_VALUES`].
    #[error("JSON, byte {0}: more than {MAX_VALUES} values")]
    Values(usize),
}

impl Json {
    /// Reads one value with nothing after it.
    ///
    /// # Errors
    /// [`JsonError`] says where.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(bytes).map_err(|e| JsonError::Syntax {
            offset: e.valid_up_to(),
            expected: "UTF-8",
        })?;
        let mut parser = Parser {
            text,
            at: 0,
            values: 0,
        };
        let value = parser.value(0)?;
        parser.blanks();
        if parser.peek().is_some() {
            return Err(parser.error("nothing after the value"));
        }
        Ok(value)
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::Depth(self.at));
        }
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(JsonError::Values(self.at));
        }
        self.blanks();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Json::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            _ => Err(self.error("a value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, JsonError> {
        let mut members = BTreeMap::new();
        self.sequence(b'}', "',' or '}'", |p| {
            if p.peek() != Some(b'"') {
                return Err(p.error("a key"));
            }
            let key = p.string()?;
            p.blanks();
            p.byte(b':', "':'")?;
            let value = p.value(depth + 1)?;
            members.insert(key, value);
            Ok(())
        })?;
        Ok(Json::Object(members))
    }

    fn array(&mut self, depth: usize) -> Result<Json, JsonError> {
        let mut items = Vec::new();
        self.sequence(b']', "',' or ']'", |p| {
            items.push(p.value(depth + 1)?);
            Ok(())
        })?;
        Ok(Json::Array(items))
    }

    fn sequence(
        &mut self,
        end: u8,
        expected: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.at += 1;
        self.blanks();
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.blanks();
            item(self)?;
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b) if b == end => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.error(expected)),
            }
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.byte(b'"', "'\"'")?;
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let special = rest
                .bytes()
                .position(|b| b == b'"' || b == b'\\' || b < b' ')
                .ok_or(JsonError::Syntax {
                    offset: self.text.len(),
                    expected: "'\"'",
                })?;
            out.push_str(rest.get(..special).unwrap_or_default());
            self.at += special;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                _ => return Err(self.error("an escape for this control character")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let c = match self.peek() {
            Some(b @ (b'"' | b'\\' | b'/')) => char::from(b),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.error("an escape")),
        };
        self.at += 1;
        Ok(c)
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        let first = self.hex4()?;
        let code = if (0xd800..0xdc00).contains(&first) && self.rest().starts_with("\\u") {
            self.at += 2;
            let second = self.hex4()?;
            if !(0xdc00..0xe000).contains(&second) {
                return Err(JsonError::Syntax {
                    offset: start,
                    expected: "a pair of surrogates",
                });
            }
            0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        char::from_u32(code).ok_or(JsonError::Syntax {
            offset: start,
            expected: "a pair of surrogates",
        })
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self
            .rest()
            .get(..4)
            .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|d| u32::from_str_radix(d, 16).ok())
            .ok_or_else(|| self.error("four hexadecimal digits"))?;
        self.at += 4;
        Ok(digits)
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        let negative = self.skip(b"-");
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        let mut whole = true;
        if self.skip(b".") {
            whole = false;
            self.digits()?;
        }
        if self.skip(b"eE") {
            whole = false;
            self.skip(b"+-");
            self.digits()?;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        if whole
            && negative
            && let Ok(n) = text.parse()
        {
            return Ok(Json::Int(n));
        }
        if whole
            && !negative
            && let Ok(n) = text.parse()
        {
            return Ok(Json::Uint(n));
        }
        match text.parse::<f64>() {
            Ok(f) if f.is_finite() => Ok(Json::Float(f)),
            _ => Err(JsonError::Range(start)),
        }
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let count = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 {
            return Err(self.error("a digit"));
        }
        self.at += count;
        Ok(())
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, JsonError> {
        if !self.rest().starts_with(word) {
            return Err(self.error("true, false or null"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn byte(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.skip(&[byte]) {
            Ok(())
        } else {
            Err(self.error(expected))
        }
    }

    fn skip(&mut self, any_of: &[u8]) -> bool {
        let hit = self.peek().is_some_and(|b| any_of.contains(&b));
        self.at += usize::from(hit);
        hit
    }

    fn blanks(&mut self) {
        while self.skip(b" \t\n\r") {}
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, expected: &'static str) -> JsonError {
        JsonError::Syntax {
            offset: self.at,
            expected,
        }
    }
}
