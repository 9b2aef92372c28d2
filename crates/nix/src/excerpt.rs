//! What a person is shown of bytes that somebody else chose: escaped, and never more than a bound, whatever was sent.
//!
//! Every error, log line and stored reason that repeats foreign bytes shows them through [`excerpt`] or [`listed`]; what is put
//! together from such pieces is held by [`Words`].

use std::fmt;
use std::ops::Deref;

/// Bytes of a foreign string that are shown. Longer than every store path and every name that is one.
pub const EXCERPT: usize = 300;

/// Items of a foreign list that are shown.
const LISTED: usize = 20;

/// Room for the words that say what was cut.
const NOTE: usize = 40;

/// Shows a foreign string: its beginning, escaped, and how long it is when that is not all.
///
/// ```
/// use firn_nix::excerpt;
/// assert_eq!(excerpt("a\n\u{e9}'").to_string(), r"a\né\'");
/// assert_eq!(excerpt(b"\xff").to_string(), r"\xff");
/// let shown = excerpt(&vec![b'a'; 31 << 20]).to_string();
/// assert!(shown.ends_with("aa… (32505856 bytes in all)") && shown.len() < 400);
/// ```
pub fn excerpt<B: AsRef<[u8]> + ?Sized>(bytes: &B) -> Excerpt<'_> {
    Excerpt(bytes.as_ref())
}

/// See [`excerpt`].
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<'b>(&'b [u8]);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match self.0.get(..EXCERPT) {
            Some(head) if self.0.len() > EXCERPT => whole(head),
            _ => self.0,
        };
        for chunk in shown.utf8_chunks() {
            write!(
                f,
                "{}{}",
                chunk.valid().escape_debug(),
                chunk.invalid().escape_ascii()
            )?;
        }
        match self.0.len() {
            all if all > shown.len() => write!(f, "… ({all} bytes in all)"),
            _ => Ok(()),
        }
    }
}

/// Without a character that was cut in two.
fn whole(head: &[u8]) -> &[u8] {
    let first = |byte: &u8| byte & 0xc0 != 0x80;
    let Some(last) = head.iter().rposition(first) else {
        return head;
    };
    let (before, character) = head.split_at(last);
    match std::str::from_utf8(character) {
        Err(error) if error.error_len().is_none() => before,
        _ => head,
    }
}

/// Shows the first items of a foreign list, each by [`excerpt`], with commas between them, and how many more there are.
///
/// ```
/// use firn_nix::listed;
/// assert_eq!(listed(["kvm", "big-parallel"]).to_string(), "kvm, big-parallel");
/// assert!(listed(vec!["x"; 1000]).to_string().ends_with("x, x and 980 more"));
/// ```
pub fn listed<I>(items: I) -> String
where
    I: IntoIterator<Item: AsRef<[u8]>>,
{
    let mut items = items.into_iter();
    let shown: Vec<String> = items
        .by_ref()
        .take(LISTED)
        .map(|item| excerpt(&item).to_string())
        .collect();
    match items.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Words that are not longer than `MOST` bytes, whatever they were made of: for what is stored, logged or sent back.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Words<const MOST: usize>(String);

impl<const MOST: usize> Words<MOST> {
    /// These words, cut with a note at the end where they are longer.
    pub fn new(words: impl Into<String>) -> Self {
        let mut words = words.into();
        let all = words.len();
        if all > MOST {
            words.truncate(words.floor_char_boundary(MOST.saturating_sub(NOTE)));
            words.push_str(&format!("… ({all} bytes in all)"));
            words.shrink_to_fit();
        }
        Self(words)
    }

    /// As they are.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As they are.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl<const MOST: usize> Deref for Words<MOST> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MOST: usize> fmt::Display for Words<MOST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MOST: usize> fmt::Debug for Words<MOST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const MOST: usize> From<String> for Words<MOST> {
    fn from(words: String) -> Self {
        Self::new(words)
    }
}

impl<const MOST: usize> From<&str> for Words<MOST> {
    fn from(words: &str) -> Self {
        Self::new(words)
    }
}

impl<const MOST: usize> PartialEq<str> for Words<MOST> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl<const MOST: usize> PartialEq<String> for Words<MOST> {
    fn eq(&self, other: &String) -> bool {
        self.0 == *other
    }
}

impl<const MOST: usize> PartialEq<&str> for Words<MOST> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_bounded_and_says_so() {
        for unit in ["a", "é", "€", "\u{10ffff}", "\n", "'"] {
            for length in [
                EXCERPT - 1,
                EXCERPT,
                EXCERPT + 1,
                EXCERPT + 2,
                EXCERPT + 3,
                1 << 16,
            ] {
                let text = unit.repeat(length / unit.len());
                let shown = excerpt(&text).to_string();
                assert!(
                    shown.len() <= 4 * EXCERPT + NOTE,
                    "{unit:?} × {length}: {}",
                    shown.len()
                );
                assert!(!shown.contains("\\x"), "no character is cut in two: {shown}");
                let cut = text.len() > EXCERPT;
                assert_eq!(shown.ends_with(&format!("… ({} bytes in all)", text.len())), cut);
            }
        }
        let bytes = excerpt(&[0xff; 1 << 20]).to_string();
        assert_eq!(bytes.len(), 4 * EXCERPT + "… (1048576 bytes in all)".len());
    }

    #[test]
    fn words_are_bounded() {
        type Few = Words<100>;
        assert_eq!(Few::new("x".repeat(100)).len(), 100);
        for unit in ["x", "é", "\u{10ffff}"] {
            let words = Few::new(unit.repeat(1000));
            assert!(words.len() <= 100 && words.ends_with(" bytes in all)"), "{words}");
        }
    }
}
