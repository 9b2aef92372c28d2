//! Who acts, and what is built: identities.

use std::fmt;

/// An account's number in the database; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub i64);

/// An account's name: 1 to 64 of `[a-z0-9-]`, a letter or digit in front.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountName(String);

/// Why a text is not an account name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an account name: use 1 to 64 of a-z, 0-9 and '-', with a letter or digit in front")]
pub struct AccountNameError(String);

impl AccountName {
    /// Checks the form.
    ///
    /// # Errors
    /// [`AccountNameError`] quotes the text.
    pub fn parse(text: &str) -> Result<Self, AccountNameError> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') {
            Ok(Self(text.to_owned()))
        } else {
            Err(AccountNameError(firn_nix::excerpt(text).to_string()))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One run of a build; time-ordered (UUID version 7), made by the caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildId(pub [u8; 16]);

/// 32 hexadecimal digits.
impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "0", "team-a", "a-", "a--b", &"x".repeat(64)] {
            assert_eq!(
                AccountName::parse(good).map(|n| n.to_string()),
                Ok(good.to_owned())
            );
        }
        for bad in [
            "",
            "-",
            "-a",
            "A",
            "a_b",
            "a.b",
            "a/b",
            "a b",
            "ä",
            "a\n",
            "a\0",
            &"x".repeat(65),
        ] {
            assert!(AccountName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_refused_name_is_quoted_safely_and_cut() {
        let error = AccountName::parse("a\n\u{1b}[2J").unwrap_err().to_string();
        assert!(error.contains(r"a\n\u{1b}[2J"), "{error}");
        assert!(!error.contains('\u{1b}'));
        let long = AccountName::parse(&"ß".repeat(10_000)).unwrap_err().to_string();
        assert!(
            long.contains("(20000 bytes in all)") && long.len() < 500,
            "{long}"
        );
    }

    #[test]
    fn build_ids_are_32_digits() {
        let mut id = [0; 16];
        id[15] = 0xab;
        assert_eq!(BuildId(id).to_string(), "000000000000000000000000000000ab");
    }
}
