use super::grammar::{self as g, Expect};
use super::{Malformed, NarError, NarLimits, NarVisitor, Problem};

/// Reads one NAR that arrives in pieces.
///
/// It consumes up to the end of the root node and not a byte more. It keeps at most one token and the names on the way
/// to the current node.
#[derive(Debug)]
pub struct NarReader {
    limits: NarLimits,
    expect: Expect,
    /// The start of a token whose rest has not arrived.
    held: Vec<u8>,
    /// Per open directory the name of the latest entry, empty before the first.
    open: Vec<Vec<u8>>,
    executable: bool,
    entries: u64,
    consumed: u64,
    /// Where the token at hand began.
    token_start: u64,
}

/// What stops [`NarReader::push`] inside; the place is added on the way out.
enum Stop<E> {
    Problem(Problem),
    Visitor(E),
}

impl<E> From<Problem> for Stop<E> {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl NarReader {
    /// At the start of an archive.
    #[must_use]
    pub fn new(limits: NarLimits) -> Self {
        Self {
            limits,
            expect: Expect::Magic,
            held: Vec::new(),
            open: Vec::new(),
            executable: false,
            entries: 0,
            consumed: 0,
            token_start: 0,
        }
    }

    /// Takes the next piece of the archive and tells the visitor what was in it. Returns how many bytes belong to the
    /// archive: all of `input`, or fewer when the archive ends within it.
    ///
    /// # Errors
    /// [`NarError::Malformed`] or what the visitor returned. The reader cannot be used afterwards.
    pub fn push<V: NarVisitor>(
        &mut self,
        input: &[u8],
        visitor: &mut V,
    ) -> Result<usize, NarError<V::Error>> {
        let mut rest = input;
        let result = self.advance(&mut rest, visitor);
        match result {
            Ok(()) => Ok(input.len() - rest.len()),
            Err(stop) => {
                let error = match stop {
                    Stop::Problem(problem) => NarError::Malformed(self.malformed(problem)),
                    Stop::Visitor(error) => NarError::Visitor(error),
                };
                self.expect = Expect::Failed;
                Err(error)
            }
        }
    }

    /// Whether the root node has ended.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.expect == Expect::Done
    }

    /// Bytes of the archive taken so far; once complete, the size of the NAR.
    #[must_use]
    pub const fn bytes_read(&self) -> u64 {
        self.consumed
    }

    /// How many more bytes the archive has at least; 0 once complete. Reading no more than this from a stream never
    /// takes what comes after the NAR.
    #[must_use]
    pub fn bytes_to_come(&self) -> u64 {
        let mut least = self.expect.at_least(self.open.len() as u64);
        if let (Expect::Name | Expect::Target, Some(word)) = (self.expect, self.held.first_chunk::<8>()) {
            let token = u64::from_le_bytes(*word).next_multiple_of(8).saturating_add(8);
            least += token.saturating_sub(g::encoded(1));
        }
        match self.expect {
            Expect::Done | Expect::Failed => 0,
            _ => least.saturating_sub(self.held.len() as u64).max(1),
        }
    }

    /// To be called at the end of the input.
    ///
    /// # Errors
    /// [`Problem::Truncated`] unless the archive is complete.
    pub fn finish(&self) -> Result<(), Malformed> {
        match self.expect {
            Expect::Done => Ok(()),
            Expect::Failed => Err(self.malformed(Problem::Failed)),
            _ => Err(Malformed {
                offset: self.consumed,
                ..self.malformed(Problem::Truncated)
            }),
        }
    }

    fn malformed(&self, problem: Problem) -> Malformed {
        Malformed {
            offset: self.token_start,
            path: self.open.join(&b'/'),
            problem,
        }
    }

    fn advance<V: NarVisitor>(&mut self, rest: &mut &[u8], visitor: &mut V) -> Result<(), Stop<V::Error>> {
        while !rest.is_empty() {
            match self.expect {
                Expect::Done => break,
                Expect::Failed => return Err(Problem::Failed.into()),
                Expect::Data { left, padding } => self.data(left, padding, rest, visitor)?,
                Expect::Padding { left } => self.padding(left, rest)?,
                _ => {
                    let mut held = std::mem::take(&mut self.held);
                    let result = self.token(&mut held, rest, visitor);
                    self.held = held;
                    result?;
                }
            }
        }
        Ok(())
    }

    fn data<V: NarVisitor>(
        &mut self,
        left: u64,
        padding: u64,
        rest: &mut &[u8],
        visitor: &mut V,
    ) -> Result<(), Stop<V::Error>> {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let (chunk, after) = rest.split_at(take);
        *rest = after;
        visitor.data(chunk).map_err(Stop::Visitor)?;
        self.consumed += take as u64;
        self.expect = match left - take as u64 {
            0 if padding == 0 => Expect::CloseRegular,
            0 => Expect::Padding { left: padding },
            left => Expect::Data { left, padding },
        };
        Ok(())
    }

    fn padding(&mut self, left: u64, rest: &mut &[u8]) -> Result<(), Problem> {
        self.token_start = self.consumed;
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let (zeros, after) = rest.split_at(take);
        if let Some(at) = zeros.iter().position(|&b| b != 0) {
            self.token_start += at as u64;
            return Err(Problem::Padding);
        }
        *rest = after;
        self.consumed += take as u64;
        self.expect = match left - take as u64 {
            0 => Expect::CloseRegular,
            left => Expect::Padding { left },
        };
        Ok(())
    }

    /// Completes one token from what is held and what has arrived, or holds what has arrived.
    fn token<V: NarVisitor>(
        &mut self,
        held: &mut Vec<u8>,
        rest: &mut &[u8],
        visitor: &mut V,
    ) -> Result<(), Stop<V::Error>> {
        if held.is_empty() {
            self.token_start = self.consumed;
        }
        if held.is_empty()
            && let Some((word, tail)) = rest.split_first_chunk::<8>()
        {
            let length = u64::from_le_bytes(*word);
            if self.expect == Expect::Size {
                self.size(length, visitor)?;
                *rest = tail;
                self.consumed += 8;
                return Ok(());
            }
            let (length, padded) = self.length(length)?;
            if let Some((body, after)) = tail.split_at_checked(padded) {
                self.accept(body, length, visitor)?;
                *rest = after;
                self.consumed += 8 + padded as u64;
                return Ok(());
            }
        }
        if !self.fill(held, 8, rest) {
            return Ok(());
        }
        let word = held
            .first_chunk::<8>()
            .map_or(u64::MAX, |w| u64::from_le_bytes(*w));
        if self.expect == Expect::Size {
            self.size(word, visitor)?;
            held.clear();
            return Ok(());
        }
        let (length, padded) = self.length(word)?;
        if self.fill(held, 8 + padded, rest) {
            self.accept(held.get(8..).unwrap_or_default(), length, visitor)?;
            held.clear();
        }
        Ok(())
    }

    /// Moves bytes from `rest` until `held` has `want`; false when there are not enough.
    fn fill(&mut self, held: &mut Vec<u8>, want: usize, rest: &mut &[u8]) -> bool {
        let take = want.saturating_sub(held.len()).min(rest.len());
        let (now, after) = rest.split_at(take);
        held.extend_from_slice(now);
        *rest = after;
        self.consumed += take as u64;
        held.len() >= want
    }

    /// Length and padded length of the token that starts, if it may be that long.
    fn length(&self, length: u64) -> Result<(usize, usize), Problem> {
        let length = self
            .expect
            .check_length(length, &self.limits)
            .map_err(|limit| Problem::Length {
                expected: self.expect.words(),
                length,
                limit,
            })?;
        self.check_total(g::encoded(length))?;
        Ok((length, length.next_multiple_of(8)))
    }

    /// Whether the archive stays within its limit when `bytes` follow from the start of the token at hand.
    fn check_total(&self, bytes: u64) -> Result<(), Problem> {
        let limit = self.limits.total_bytes;
        if self.token_start.saturating_add(bytes) > limit {
            return Err(Problem::TotalBytes(limit));
        }
        Ok(())
    }

    fn size<V: NarVisitor>(&mut self, size: u64, visitor: &mut V) -> Result<(), Stop<V::Error>> {
        let padding = size.wrapping_neg() % 8;
        let data = Expect::Data { left: size, padding };
        self.check_total(data.at_least(self.open.len() as u64).saturating_add(8))?;
        visitor.regular(self.executable, size).map_err(Stop::Visitor)?;
        self.expect = if size == 0 { Expect::CloseRegular } else { data };
        Ok(())
    }

    /// Takes one complete token: `length` bytes of `body`, the rest is padding.
    fn accept<V: NarVisitor>(
        &mut self,
        body: &[u8],
        length: usize,
        visitor: &mut V,
    ) -> Result<(), Stop<V::Error>> {
        let (token, padding) = body.split_at_checked(length).unwrap_or((body, &[]));
        if padding.iter().any(|&b| b != 0) {
            return Err(Problem::Padding.into());
        }
        self.expect = match (self.expect, token) {
            (Expect::Magic, g::MAGIC) => Expect::Open,
            (Expect::Open, g::OPEN) => self.begin_node()?,
            (Expect::Type, g::TYPE) => Expect::Kind,
            (Expect::Kind, g::REGULAR) => {
                self.executable = false;
                Expect::ExecutableOrContents
            }
            (Expect::Kind, g::SYMLINK) => Expect::TargetTag,
            (Expect::Kind, g::DIRECTORY) => {
                visitor.directory().map_err(Stop::Visitor)?;
                self.open.push(Vec::new());
                Expect::EntryOrClose
            }
            (Expect::ExecutableOrContents, g::EXECUTABLE) => Expect::ExecutableValue,
            (Expect::ExecutableValue, b"") => {
                self.executable = true;
                Expect::Contents
            }
            (Expect::ExecutableOrContents | Expect::Contents, g::CONTENTS) => Expect::Size,
            (Expect::TargetTag, g::TARGET) => Expect::Target,
            (Expect::Target, target) => {
                if !g::is_target(target) {
                    return Err(Problem::Target(target.to_vec()).into());
                }
                visitor.symlink(target).map_err(Stop::Visitor)?;
                Expect::CloseSymlink
            }
            (Expect::CloseRegular, g::CLOSE) => {
                visitor.end_regular().map_err(Stop::Visitor)?;
                self.end_node()
            }
            (Expect::CloseSymlink, g::CLOSE) => self.end_node(),
            (Expect::EntryOrClose, g::ENTRY) => Expect::EntryOpen,
            (Expect::EntryOrClose, g::CLOSE) => {
                self.open.pop();
                visitor.end_directory().map_err(Stop::Visitor)?;
                self.end_node()
            }
            (Expect::EntryOpen, g::OPEN) => Expect::NameTag,
            (Expect::NameTag, g::NAME) => Expect::Name,
            (Expect::Name, name) => {
                self.begin_entry(name)?;
                visitor.entry(name).map_err(Stop::Visitor)?;
                Expect::NodeTag
            }
            (Expect::NodeTag, g::NODE) => Expect::Open,
            (Expect::EntryClose, g::CLOSE) => Expect::EntryOrClose,
            (expect, found) => {
                return Err(Problem::Token {
                    expected: expect.words(),
                    found: found.to_vec(),
                }
                .into());
            }
        };
        Ok(())
    }

    fn begin_node(&mut self) -> Result<Expect, Problem> {
        if self.open.len() >= self.limits.depth {
            return Err(Problem::Depth(self.limits.depth));
        }
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Problem::Entries(self.limits.entries));
        }
        Ok(Expect::Type)
    }

    fn end_node(&self) -> Expect {
        if self.open.is_empty() {
            Expect::Done
        } else {
            Expect::EntryClose
        }
    }

    fn begin_entry(&mut self, name: &[u8]) -> Result<(), Problem> {
        if !g::is_name(name) {
            return Err(Problem::Name(name.to_vec()));
        }
        if let Some(previous) = self.open.last_mut() {
            // The empty name before the first entry is smaller than every valid one.
            if previous.as_slice() >= name {
                return Err(Problem::Order {
                    previous: previous.clone(),
                    name: name.to_vec(),
                });
            }
            previous.clear();
            previous.extend_from_slice(name);
        }
        Ok(())
    }
}
