//! The text of a `.drv` file: `Derive([outputs],[inputDrvs],[inputSrcs],"platform","builder",[args],[env])`.
//!
//! Reading is strict about form (escapes, duplicates, trailing bytes) but not about order, because what is hashed is always the
//! text that is written here: lists other than the arguments sorted bytewise.

use std::collections::{BTreeMap, BTreeSet};

use memchr::{memchr2, memchr3};

use super::{
    BasicDerivation, Derivation, DerivationOutput, MAX_INPUTS, MAX_OUTPUTS, MAX_STRINGS, OutputFieldsError,
};
use crate::path::is_valid_name;
use crate::{PathError, StorePath, excerpt};

/// Largest text that is read, in bytes.
pub const MAX_ATERM: usize = 64 << 20;

const INPUT_DRVS: &str = "input derivations";

/// Why a text is not a derivation. Offsets count bytes from the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AtermError {
    /// More than [`MAX_ATERM`] bytes.
    #[error("derivation has {0} bytes, more than {MAX_ATERM}")]
    TooLarge(usize),
    /// Something else was expected here.
    #[error("derivation, byte {offset} ({field}): expected {expected}, found '{found}'")]
    Syntax {
        /// Where.
        offset: usize,
        /// In which field.
        field: &'static str,
        /// What the format asks for.
        expected: &'static str,
        /// What stands there, escaped; empty at the end of the text.
        found: String,
    },
    /// A versioned derivation: dynamic derivations are an experiment of Nix that is not supported.
    #[error("derivation, byte {offset}: versioned (dynamic) derivations are not supported: '{found}'")]
    Versioned {
        /// Where.
        offset: usize,
        /// What stands there, escaped.
        found: String,
    },
    /// A store path is not one.
    #[error("derivation, byte {offset} ({field}): {source}")]
    Path {
        /// Where.
        offset: usize,
        /// In which field.
        field: &'static str,
        /// Why not.
        source: PathError,
    },
    /// An output's fields do not fit together.
    #[error("derivation, byte {offset} (output '{output}'): {source}")]
    Output {
        /// Where.
        offset: usize,
        /// Its name.
        output: String,
        /// Why not.
        source: OutputFieldsError,
    },
    /// The same key twice.
    #[error("derivation, byte {offset} ({field}): '{key}' is there twice")]
    Duplicate {
        /// Where.
        offset: usize,
        /// In which field.
        field: &'static str,
        /// The key, escaped.
        key: String,
    },
    /// More items than a derivation may have: [`MAX_OUTPUTS`] outputs, of the derivation or of one input; [`MAX_INPUTS`] input
    /// derivations, outputs of all of them together, or input sources; [`MAX_STRINGS`] arguments or variables.
    #[error("derivation, byte {offset} ({field}): more than {limit} items")]
    TooMany {
        /// Where the first one too many starts.
        offset: usize,
        /// In which field.
        field: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl Derivation {
    /// Reads the text of a `.drv` file.
    ///
    /// # Errors
    /// [`AtermError`] says where and in which field.
    pub fn parse(bytes: &[u8]) -> Result<Self, AtermError> {
        if bytes.len() > MAX_ATERM {
            return Err(AtermError::TooLarge(bytes.len()));
        }
        Parser {
            bytes,
            at: 0,
            field: "head",
        }
        .derivation()
    }

    /// The text of the `.drv` file.
    #[must_use]
    pub fn to_aterm(&self) -> Vec<u8> {
        let inputs = self
            .input_drvs
            .iter()
            .map(|(path, outputs)| (path.to_string(), outputs));
        write(&self.basic, inputs, Masked::No)
    }
}

/// Whether what depends on the output paths is left out, as for computing them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Masked {
    No,
    Yes,
}

/// Writes the text with `inputs`, sorted, in place of the input derivations.
pub(super) fn write<'a>(
    drv: &BasicDerivation,
    inputs: impl Iterator<Item = (String, &'a BTreeSet<String>)>,
    masked: Masked,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(b"Derive(");
    list(&mut out, &drv.outputs, |out, (name, output)| {
        let [path, algo, hash] = output.to_fields();
        let path = if masked == Masked::Yes && matches!(output, DerivationOutput::InputAddressed(_)) {
            ""
        } else {
            &path
        };
        tuple(out, [name.as_str(), path, &algo, &hash]);
    });
    out.push(b',');
    list(&mut out, inputs, |out, (input, outputs)| {
        out.push(b'(');
        string(out, input.as_bytes());
        out.push(b',');
        list(out, outputs, |out, name| string(out, name.as_bytes()));
        out.push(b')');
    });
    out.push(b',');
    list(&mut out, &drv.input_srcs, |out, path| {
        string(out, path.to_string().as_bytes());
    });
    out.push(b',');
    string(&mut out, &drv.platform);
    out.push(b',');
    string(&mut out, &drv.builder);
    out.push(b',');
    list(&mut out, &drv.args, |out, arg| string(out, arg));
    out.push(b',');
    list(&mut out, &drv.env, |out, (name, value)| {
        let is_output = || std::str::from_utf8(name).is_ok_and(|n| drv.outputs.contains_key(n));
        let value: &[u8] = if masked == Masked::Yes && is_output() {
            b""
        } else {
            value
        };
        tuple(out, [name.as_slice(), value]);
    });
    out.push(b')');
    out
}

fn list<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut item: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (i, value) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        item(out, value);
    }
    out.push(b']');
}

fn tuple<T: AsRef<[u8]>, const N: usize>(out: &mut Vec<u8>, fields: [T; N]) {
    for (i, field) in fields.iter().enumerate() {
        out.push(if i == 0 { b'(' } else { b',' });
        string(out, field.as_ref());
    }
    out.push(b')');
}

fn string(out: &mut Vec<u8>, mut rest: &[u8]) {
    out.push(b'"');
    while let Some(at) = first_to_escape(rest) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&byte, tail)) = tail.split_first() else {
            break;
        };
        out.push(b'\\');
        out.push(match byte {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            other => other,
        });
        rest = tail;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Two vector searches per piece; pieces are short so that text with many escapes is not read again and again.
fn first_to_escape(bytes: &[u8]) -> Option<usize> {
    const PIECE: usize = 256;
    bytes.chunks(PIECE).enumerate().find_map(|(i, piece)| {
        let quote = memchr2(b'"', b'\\', piece);
        let before = piece.get(..quote.unwrap_or(piece.len())).unwrap_or(piece);
        let first = memchr3(b'\n', b'\r', b'\t', before).or(quote)?;
        Some(i * PIECE + first)
    })
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    field: &'static str,
}

impl<'a> Parser<'a> {
    fn derivation(mut self) -> Result<Derivation, AtermError> {
        if self.rest().starts_with(b"DrvWithVersion(") {
            return Err(AtermError::Versioned {
                offset: 0,
                found: self.shown(40),
            });
        }
        self.expect(b"Derive(", "'Derive('")?;
        let mut basic = BasicDerivation::default();
        self.field = "outputs";
        self.list(MAX_OUTPUTS, |p| p.output(&mut basic.outputs))?;
        self.comma(INPUT_DRVS)?;
        let mut input_drvs = BTreeMap::new();
        let mut wanted = 0;
        self.list(MAX_INPUTS, |p| p.input_drv(&mut input_drvs, &mut wanted))?;
        self.comma("input sources")?;
        self.list(MAX_INPUTS, |p| {
            let offset = p.at;
            let path = p.path()?;
            let shown = path.to_string();
            p.unique(offset, shown.as_bytes(), basic.input_srcs.insert(path))
        })?;
        self.comma("platform")?;
        basic.platform = self.string()?;
        self.comma("builder")?;
        basic.builder = self.string()?;
        self.comma("arguments")?;
        self.list(MAX_STRINGS, |p| {
            basic.args.push(p.string()?);
            Ok(())
        })?;
        self.comma("environment")?;
        self.list(MAX_STRINGS, |p| {
            let offset = p.at;
            p.expect(b"(", "'('")?;
            let name = p.string()?;
            p.expect(b",", "','")?;
            let value = p.string()?;
            p.expect(b")", "')'")?;
            if basic.env.contains_key(&name) {
                return p.unique(offset, &name, false);
            }
            basic.env.insert(name, value);
            Ok(())
        })?;
        self.field = "end";
        self.expect(b")", "')'")?;
        if !self.rest().is_empty() {
            return Err(self.syntax("nothing after the derivation"));
        }
        Ok(Derivation { basic, input_drvs })
    }

    fn output(&mut self, outputs: &mut BTreeMap<String, DerivationOutput>) -> Result<(), AtermError> {
        let offset = self.at;
        self.expect(b"(", "'('")?;
        let name = self.output_name()?;
        let mut fields = [const { Vec::new() }; 3];
        for field in &mut fields {
            self.expect(b",", "','")?;
            *field = self.string()?;
        }
        self.expect(b")", "')'")?;
        let [path, algo, hash] = fields;
        match DerivationOutput::from_fields(&path, &algo, &hash) {
            Ok(output) => {
                let key = name.clone();
                let new = outputs.insert(name, output).is_none();
                self.unique(offset, key.as_bytes(), new)
            }
            Err(source) => Err(AtermError::Output {
                offset,
                output: name,
                source,
            }),
        }
    }

    /// `wanted` counts the outputs of all inputs: each becomes an input path.
    fn input_drv(
        &mut self,
        inputs: &mut BTreeMap<StorePath, BTreeSet<String>>,
        wanted: &mut usize,
    ) -> Result<(), AtermError> {
        let offset = self.at;
        self.expect(b"(", "'('")?;
        let path = self.path()?;
        self.expect(b",", "','")?;
        if self.rest().starts_with(b"(") {
            return Err(AtermError::Versioned {
                offset: self.at,
                found: self.shown(40),
            });
        }
        let mut outputs = BTreeSet::new();
        self.field = "outputs of input derivations";
        self.list(MAX_OUTPUTS, |p| {
            let offset = p.at;
            p.below(*wanted, MAX_INPUTS)?;
            *wanted += 1;
            let name = p.output_name()?;
            let key = name.clone();
            p.unique(offset, key.as_bytes(), outputs.insert(name))
        })?;
        self.field = INPUT_DRVS;
        self.expect(b")", "')'")?;
        let key = path.to_string();
        let new = inputs.insert(path, outputs).is_none();
        self.unique(offset, key.as_bytes(), new)
    }

    /// Counts while it reads: a text of the largest size has room for far more items than memory should hold.
    fn list(
        &mut self,
        limit: usize,
        mut item: impl FnMut(&mut Self) -> Result<(), AtermError>,
    ) -> Result<(), AtermError> {
        self.expect(b"[", "'['")?;
        if self.rest().starts_with(b"]") {
            self.at += 1;
            return Ok(());
        }
        let mut count = 0;
        loop {
            self.below(count, limit)?;
            count += 1;
            item(self)?;
            match self.rest().first() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.syntax("',' or ']'")),
            }
        }
    }

    fn string(&mut self) -> Result<Vec<u8>, AtermError> {
        self.expect(b"\"", "'\"'")?;
        let mut out = Vec::new();
        loop {
            let rest = self.rest();
            let Some(special) = first_to_escape(rest) else {
                self.at = self.bytes.len();
                return Err(self.syntax("'\"'"));
            };
            out.extend_from_slice(rest.get(..special).unwrap_or_default());
            self.at += special;
            match rest.get(special..).unwrap_or_default() {
                [b'"', ..] => {
                    self.at += 1;
                    return Ok(out);
                }
                [b'\\', escaped, ..] => {
                    out.push(match escaped {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'"' | b'\\' => *escaped,
                        _ => return Err(self.syntax("one of the escapes \\\" \\\\ \\n \\r \\t")),
                    });
                    self.at += 2;
                }
                _ => return Err(self.syntax("an escape for this byte")),
            }
        }
    }

    fn output_name(&mut self) -> Result<String, AtermError> {
        let offset = self.at;
        let bytes = self.string()?;
        let bad = |bytes: &[u8], field| AtermError::Path {
            offset,
            field,
            source: PathError::OutputName(excerpt(bytes).to_string()),
        };
        if !is_valid_name(&bytes) {
            return Err(bad(&bytes, self.field));
        }
        String::from_utf8(bytes).map_err(|e| bad(e.as_bytes(), self.field))
    }

    fn path(&mut self) -> Result<StorePath, AtermError> {
        let offset = self.at;
        let bytes = self.string()?;
        StorePath::parse(&bytes).map_err(|source| AtermError::Path {
            offset,
            field: self.field,
            source,
        })
    }

    fn comma(&mut self, next: &'static str) -> Result<(), AtermError> {
        self.expect(b",", "','")?;
        self.field = next;
        Ok(())
    }

    fn expect(&mut self, token: &[u8], expected: &'static str) -> Result<(), AtermError> {
        if !self.rest().starts_with(token) {
            return Err(self.syntax(expected));
        }
        self.at += token.len();
        Ok(())
    }

    /// Whether one more may follow `count` items.
    const fn below(&self, count: usize, limit: usize) -> Result<(), AtermError> {
        if count < limit {
            return Ok(());
        }
        Err(AtermError::TooMany {
            offset: self.at,
            field: self.field,
            limit,
        })
    }

    fn unique(&self, offset: usize, key: &[u8], new: bool) -> Result<(), AtermError> {
        if new {
            return Ok(());
        }
        Err(AtermError::Duplicate {
            offset,
            field: self.field,
            key: excerpt(key).to_string(),
        })
    }

    fn syntax(&self, expected: &'static str) -> AtermError {
        AtermError::Syntax {
            offset: self.at,
            field: self.field,
            expected,
            found: self.shown(20),
        }
    }

    fn shown(&self, limit: usize) -> String {
        let rest = self.rest();
        rest.get(..limit.min(rest.len()))
            .unwrap_or_default()
            .escape_ascii()
            .to_string()
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }
}
