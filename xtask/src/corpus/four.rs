//! The account that speaks the serve protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;

use super::account::{count, on_rung};
use super::graph::{drvs, outputs};
use super::phases::Phases;
use super::summary::Summary;
use super::{Trial, store};

/// What is built over `ssh://`, with everything that it uses.
const OVER_SSH: [&str; 10] = [
    "hello", "gnused", "zlib", "bzip2", "lz4", "expat", "libyaml", "cjson", "jansson", "tree",
];

impl Trial<'_> {
    /// Some packages over the serve protocol, on a server that has built nothing yet.
    pub fn over_ssh(
        &self,
        firn: &Path,
        work: &Path,
        phases: &mut Phases,
        expected: &BTreeMap<String, String>,
        summary: &mut Summary,
    ) -> anyhow::Result<()> {
        let chosen = self.packages.iter().map(|p| p.name.as_str());
        let chosen: BTreeSet<String> = chosen
            .filter(|name| OVER_SSH.contains(name))
            .map(str::to_owned)
            .collect();
        if chosen.is_empty() {
            println!("    skipped over ssh://: the choice has none of {OVER_SSH:?}");
            return Ok(());
        }
        let packages = self.graph.with_dependencies(&chosen)?;
        let server = self.server(firn, &work.join("server-ssh"))?;
        let four = self.account(phases, &server, "four")?;
        phases.phase(
            &format!(
                "account four builds {} packages and what they use over ssh:// on a fresh Firn",
                chosen.len()
            ),
            |phases| {
                let answers = four.realise("ssh", &drvs(&packages))?;
                phases.note(&count(&answers));
                let built = on_rung(&answers, "built").len();
                phases.expect(built == packages.len(), || {
                    format!("account four: {built} of {} built", packages.len())
                });
                store::verify(&four.client.nix)?;
                for (path, hash) in store::hashes(&four.client.nix, &outputs(&packages))? {
                    let known = self.graph.producer(&path).context("whose output")?;
                    let equal = expected.get(&path) == Some(&hash) || !summary.is_equal(known);
                    phases.expect(equal, || {
                        format!("over ssh://, {path} differs from the reference")
                    });
                }
                summary.answers("four", &answers);
                Ok(())
            },
        )
    }
}
