//! The words after `cargo xtask corpus DIR`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use crate::sandbox::Sandbox;

/// What is built in machines unless something else is named: without the help of the processor each takes a while.
const IN_MACHINES: [&str; 20] = [
    "aclBin",
    "bzip2",
    "cjson",
    "expat",
    "gcclibs",
    "glibc",
    "gmpBin",
    "gnumake",
    "hello",
    "islBin",
    "jansson",
    "libyaml",
    "mpcBin",
    "mpfrBin",
    "patchelf",
    "selinuxBin",
    "tarBin",
    "tree",
    "zlib",
    "zstdBin",
];

/// What to build and what to compare with.
#[derive(Debug, Default)]
pub struct Options {
    /// These packages and what they use; all without it.
    pub only: Option<BTreeSet<String>>,
    /// Root of a store in which plain Nix has built the corpus already.
    pub reference: Option<PathBuf>,
    /// What Firn's builds run in.
    pub sandbox: Sandbox,
    /// Everything in one command on the server instead of as a remote builder.
    pub remote_store: bool,
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
                "--remote-store" => options.remote_store = true,
                "--sandbox" => options.sandbox = Sandbox::parse(value()?)?,
                _ => bail!("unknown option {word}"),
            }
        }
        ensure!(
            !(options.remote_store && options.sandbox == Sandbox::Machines),
            "--remote-store measures, and machines would be most of what it measures"
        );
        if options.sandbox == Sandbox::Machines && options.only.is_none() {
            options.only = Some(IN_MACHINES.map(str::to_owned).into());
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
        let options = Options::parse(&["--sandbox", "vm"]).unwrap();
        assert!(options.sandbox == Sandbox::Machines && options.only.unwrap().len() >= 10);
        assert!(Options::parse(&["--remote-store"]).unwrap().remote_store);
        assert!(Options::parse(&["--remote-store", "--sandbox", "vm"]).is_err());
        assert!(Options::parse(&["--only"]).is_err());
        assert!(Options::parse(&["--other"]).is_err());
    }
}
