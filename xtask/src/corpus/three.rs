//! The account with a changed library.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use firn_testkit::Server;

use super::account::{Account, count, drv_name};
use super::graph::{drvs, outputs};
use super::phases::Phases;
use super::store::{self, Repeated};
use super::summary::Summary;
use super::{Trial, changed};

/// Builds with the changed library that Nix repeats locally.
const REPEATED: usize = 3;

impl Trial<'_> {
    /// Account three uploads a changed library: it gets its own builds from there on, and nobody else sees anything of it.
    pub fn third(
        &self,
        phases: &mut Phases,
        server: &Server,
        others: [&Account; 2],
        firsts: &BTreeMap<String, String>,
        summary: &mut Summary,
    ) -> anyhow::Result<()> {
        let library = self.packages.iter().find(|p| p.name == changed::LIBRARY);
        let users = self.packages.iter().filter(|p| p.uses(changed::LIBRARY)).count();
        let Some(library) = library.filter(|_| users > 0) else {
            println!(
                "    skipped: the choice has no package that uses {}",
                changed::LIBRARY
            );
            return Ok(());
        };
        let three = self.account(phases, server, "three")?;
        let nix = &three.client.nix;
        let answers = phases.phase(
            &format!(
                "account three, whose {} has other bytes, asks for the same",
                library.name
            ),
            |phases| {
                let mut below = Vec::new();
                for path in library.outputs.values() {
                    let references = store::references(&self.reference.nix, path)?;
                    below.extend(references.iter().filter_map(|r| self.graph.producer(r)));
                }
                below.retain(|p| p.name != library.name);
                let mut answers = three.realise("ssh-ng", &drvs(&below))?;
                changed::plant(&self.reference.nix, nix, library)?;
                answers.extend(three.realise("ssh-ng", &drvs(&self.packages))?);
                phases.note(&count(&answers));
                phases.expect(answers.iter().all(|a| a.drv != library.drv), || {
                    format!("account three asked for {}, which it has", library.name)
                });
                let expected = changed::expected(self.graph, &self.packages, &three, firsts)?;
                for (drv, rung) in &expected {
                    let rungs: Vec<&str> = answers
                        .iter()
                        .filter(|a| a.drv == *drv)
                        .map(|a| a.rung.as_str())
                        .collect();
                    phases.expect(rungs == [*rung], || {
                        format!("account three: {} was {rungs:?}, should be {rung}", drv_name(drv))
                    });
                }
                Ok(answers)
            },
        )?;
        phases.phase(
            "explain names what account three uploaded, for each of its builds, and nothing else",
            |phases| {
                let planted: Vec<String> = library.outputs.values().cloned().collect();
                let fix: BTreeSet<(String, String)> = store::hashes(nix, &planted)?
                    .into_iter()
                    .filter(|(path, hash)| firsts.get(path) != Some(hash))
                    .map(|(path, _)| ("brought".to_owned(), path))
                    .collect();
                let built: Vec<&str> = answers
                    .iter()
                    .filter(|a| a.rung == "built")
                    .map(|a| a.drv.as_str())
                    .collect();
                for drv in &built {
                    let causes = three.causes(drv)?;
                    phases.expect(!causes.is_empty() && causes.is_subset(&fix), || {
                        format!("explain says of {}: {causes:?}", drv_name(drv))
                    });
                }
                phases.note(&format!("{} builds, each because of {fix:?}", built.len()));
                Ok(())
            },
        )?;
        summary.answers("three", &answers);
        let paths = outputs(&self.packages);
        phases.phase(
            "account three's bytes come from its library, as plain Nix builds them",
            |phases| {
                store::verify(nix)?;
                let own = store::hashes(nix, &paths)?;
                let other: Vec<&str> = self
                    .packages
                    .iter()
                    .filter(|p| p.outputs.values().any(|o| own.get(o) != firsts.get(o)))
                    .map(|p| p.name.as_str())
                    .collect();
                phases.note(&format!("other bytes than one and two in {}", other.join(", ")));
                let marked = store::files_with(nix, changed::MARK, &paths)?;
                phases.note(&format!(
                    "{} files of account three say {}",
                    marked.len(),
                    changed::MARK
                ));
                phases.expect(other.len() > 1 && marked.len() > 1, || {
                    "the changed library has changed nothing".into()
                });
                for drv in changed::quickest(&answers, REPEATED)? {
                    let package = self.packages.iter().find(|p| p.drv == drv);
                    let package = package.context("a derivation of the corpus")?;
                    let again =
                        store::repeat(nix, &self.world.corpus.shell(), self.reference.cores, package)?;
                    let said = match again {
                        Repeated::Equal => "equal",
                        Repeated::Varies => "not deterministic",
                        Repeated::Otherwise => "differs",
                    };
                    phases.note(&format!(
                        "{}, built by plain Nix in the store of three: {said}",
                        package.name
                    ));
                    phases.expect(again != Repeated::Otherwise, || {
                        format!("{} of account three is not what Nix builds", package.name)
                    });
                }
                Ok(())
            },
        )?;
        for account in others {
            phases.phase(
                &format!(
                    "account {} again, from an empty store: nothing of three in it",
                    account.name
                ),
                |phases| {
                    let again = account.again()?;
                    let answers = again.realise("ssh-ng", &drvs(&self.packages))?;
                    self.expect_all(phases, account.name, &answers, "already-valid");
                    self.expect_bytes(phases, &again, firsts)?;
                    let marked = store::files_with(&again.client.nix, changed::MARK, &paths)?;
                    phases.expect(marked.is_empty(), || {
                        format!("account {} has bytes of three: {marked:?}", account.name)
                    });
                    Ok(())
                },
            )?;
        }
        Ok(())
    }
}
