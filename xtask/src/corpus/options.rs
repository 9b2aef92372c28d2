//! The words after `cargo xtask corpus DIR`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

/// What to build and what to compare with.
#[derive(Debug, Default)]
pub struct Options {
    /// These packages and what they use; all without it.
    pub only: Option<BTreeSet<String>>,
    /// Root of a store in which plain Nix has built the corpus already.
    pub reference: Option<PathBuf>,
}

impl Options {
    pub fn parse(words: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match *word {
                "--only" => options.only = Some(value()?.split(',').map(str::to_owned).collect()),
                "--reference" => options.reference = Some(std::path::absolute(value()?)?),
                _ => bail!("unknown option {word}"),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let options = Options::parse(&["--only", "m4,hello", "--reference", "/ref"]).unwrap();
        assert_eq!(
            options.only.unwrap(),
            BTreeSet::from(["m4".into(), "hello".into()])
        );
        assert_eq!(options.reference.unwrap(), PathBuf::from("/ref"));
        assert!(Options::parse(&["--only"]).is_err());
        assert!(Options::parse(&["--other"]).is_err());
    }
}
