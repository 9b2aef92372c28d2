//! Splitting a request into words: blanks separate, `'…'`, `"…"` and `\` quote. Everything else is itself.

/// A quote or backslash without its other half.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a quote or a backslash lacks its other half")]
pub struct UnbalancedQuote;

/// The words of a text; quotes and backslashes are gone from them.
///
/// # Errors
/// [`UnbalancedQuote`].
pub fn split_words(text: &[u8]) -> Result<Vec<Vec<u8>>, UnbalancedQuote> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => words.extend(word.take()),
            b'\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match bytes.next().ok_or(UnbalancedQuote)? {
                        b'\'' => break,
                        inner => word.push(inner),
                    }
                }
            }
            b'"' => {
                let word = word.get_or_insert_default();
                loop {
                    match bytes.next().ok_or(UnbalancedQuote)? {
                        b'"' => break,
                        b'\\' => match bytes.next().ok_or(UnbalancedQuote)? {
                            escaped @ (b'"' | b'\\' | b'$' | b'`') => word.push(escaped),
                            other => word.extend([b'\\', other]),
                        },
                        inner => word.push(inner),
                    }
                }
            }
            b'\\' => word
                .get_or_insert_default()
                .push(bytes.next().ok_or(UnbalancedQuote)?),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Result<Vec<String>, UnbalancedQuote> {
        let words = split_words(text.as_bytes())?;
        Ok(words
            .into_iter()
            .map(|word| String::from_utf8(word).unwrap())
            .collect())
    }

    #[test]
    fn quotes_and_blanks() {
        assert_eq!(split("  a\tb\n c ").unwrap(), ["a", "b", "c"]);
        assert_eq!(split("'a b'\"c d\"e").unwrap(), ["a bc de"]);
        assert_eq!(split(r"'it'\''s'").unwrap(), ["it's"]);
        assert_eq!(split(r#""a\"b\n" \ x"#).unwrap(), ["a\"b\\n", " x"]);
        assert_eq!(split("'' \"\"").unwrap(), ["", ""]);
        assert_eq!(
            split("$HOME `id` $(id) *;&|<>").unwrap(),
            ["$HOME", "`id`", "$(id)", "*;&|<>"]
        );
    }

    #[test]
    fn unbalanced() {
        for text in ["'a", "\"a", "a\\", "\"a\\"] {
            assert_eq!(split(text), Err(UnbalancedQuote), "{text}");
        }
    }
}
