//! Real builds. Most derivations are built by the installed Nix (2.8) as well: outputs must have the same bytes and references, and what
//! one refuses the other must refuse, in the same words where a client sees them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed test is the point"
)]

mod attacks;
mod builtins;
mod environment;
mod failures;
mod firn;
mod fixed;
mod floating;
mod graphs;
mod lives;
mod machines;
mod nix;
mod outputs;
mod shortage;
mod web;

use std::collections::BTreeMap;

use firn_service::ports::RunFailure;

use firn::Firn;
use nix::Nix;

/// Both builders.
struct Pair {
    nix: Nix,
    firn: Firn,
}

impl Pair {
    fn new() -> Option<Self> {
        Nix::new().map(|nix| Self {
            nix,
            firn: Firn::new(),
        })
    }

    /// Builds with both, which must succeed and agree. Gives the contents of the files that the outputs are.
    async fn agree(&self, expression: &str) -> BTreeMap<String, Vec<u8>> {
        let (path, drv) = self.nix.instantiate(expression);
        let inputs = self.firn.import(&self.nix, &drv).await;
        let expected = self.nix.build(&path, &drv).unwrap();
        let built = self.firn.build(&path, &drv, inputs).await.unwrap();
        let got: BTreeMap<_, _> = built
            .iter()
            .map(|(name, object)| (name.clone(), (object.content.hex(), object.references.clone())))
            .collect();
        if got != expected {
            for (name, object) in &built {
                let known = self.nix.real(&object.path);
                firn::show_difference(name, &known, &self.firn.tree(object));
            }
        }
        assert_eq!(got, expected);
        let contents = |object| std::fs::read(self.firn.tree(object)).ok();
        built
            .iter()
            .filter_map(|(name, object)| Some((name.clone(), contents(object)?)))
            .collect()
    }

    /// Builds with both, which must refuse. Gives what both said, Nix first.
    async fn refuse(&self, expression: &str) -> (String, RunFailure) {
        let (path, drv) = self.nix.instantiate(expression);
        let inputs = self.firn.import(&self.nix, &drv).await;
        let said = self.nix.build(&path, &drv).unwrap_err();
        let failure = self.firn.build(&path, &drv, inputs).await.unwrap_err();
        assert!(self.firn.is_tidy(), "{failure}");
        (said, failure)
    }

    /// As [`Pair::refuse`], and Nix's text contains every line of ours. `nix-store` shows the log as it comes, so it does not repeat the
    /// last lines of it.
    async fn refuse_alike(&self, expression: &str) -> RunFailure {
        let (said, failure) = self.refuse(expression).await;
        let said: Vec<&str> = said.lines().map(str::trim).collect();
        let text = failure.to_string();
        for line in text
            .split(";\nlast ")
            .next()
            .unwrap_or_default()
            .lines()
            .map(str::trim)
        {
            assert!(
                said.iter().any(|theirs| theirs.contains(line)),
                "{line:?} is not in {said:#?}"
            );
        }
        failure
    }
}
