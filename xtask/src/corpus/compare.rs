//! What an account got, against the reference and against the first account.

use std::collections::{BTreeMap, BTreeSet};

use super::Trial;
use super::account::{Account, Answer, count, drv_name, on_rung};
use super::graph::outputs;
use super::phases::Phases;
use super::store::{self, Repeated};
use super::summary::Summary;

impl Trial<'_> {
    /// Every output against the reference. A difference is a problem unless Nix itself gets other bytes each time, or something
    /// that it was built from differs.
    pub fn compare(
        &self,
        phases: &mut Phases,
        account: &Account,
        expected: &BTreeMap<String, String>,
        summary: &mut Summary,
    ) -> anyhow::Result<()> {
        let nix = &account.client.nix;
        store::verify(nix)?;
        let got = store::hashes(nix, &outputs(&self.packages))?;
        let mut differing = BTreeSet::new();
        for package in &self.packages {
            let Some(path) = package
                .outputs
                .values()
                .find(|path| got.get(*path) != expected.get(*path))
            else {
                summary.verdict(package, "equal");
                continue;
            };
            let inputs = store::closure(nix, &self.graph.inputs(package))?;
            let cause = inputs
                .iter()
                .filter_map(|i| self.graph.producer(i))
                .find(|p| differing.contains(&p.name));
            let verdict = match cause {
                Some(input) => format!("differs: its input {} differs", input.name),
                None => match self.reference.repeat(package)? {
                    Repeated::Varies => "differs: not deterministic".to_owned(),
                    Repeated::Equal => {
                        phases.problem(format!(
                            "{}: Nix gets the same bytes twice, Firn gets others",
                            package.name
                        ));
                        "DIFFERS".to_owned()
                    }
                    Repeated::Otherwise => {
                        phases.problem(format!(
                            "{}: the reference is not what Nix builds here",
                            package.name
                        ));
                        "DIFFERS from a wrong reference".to_owned()
                    }
                },
            };
            phases.note(&format!("{}: {verdict}", package.name));
            for line in store::difference(&self.reference.nix.on_disk(path), &nix.on_disk(path))? {
                phases.note(&format!("  {line}"));
            }
            differing.insert(package.name.clone());
            summary.verdict(package, &verdict);
        }
        let equal = got
            .iter()
            .filter(|(path, hash)| expected.get(*path) == Some(*hash))
            .count();
        phases.note(&format!("{equal} of {} outputs are equal", got.len()));
        Ok(())
    }

    pub fn expect_all(&self, phases: &mut Phases, name: &str, answers: &[Answer], rung: &str) {
        phases.note(&count(answers));
        let as_expected = on_rung(answers, rung).len();
        phases.expect(
            as_expected == self.packages.len() && answers.len() == as_expected,
            || {
                let other = answers.iter().find(|a| a.rung != rung);
                let other = other.map_or_else(String::new, |a| {
                    format!(", but {} was {}: {}", drv_name(&a.drv), a.rung, a.reason)
                });
                format!(
                    "account {name}: {as_expected} of {} {rung}{other}",
                    self.packages.len()
                )
            },
        );
    }

    pub fn expect_bytes(
        &self,
        phases: &mut Phases,
        account: &Account,
        firsts: &BTreeMap<String, String>,
    ) -> anyhow::Result<()> {
        let nix = &account.client.nix;
        store::verify(nix)?;
        let got = store::hashes(nix, &outputs(&self.packages))?;
        let other: Vec<&String> = got
            .iter()
            .filter(|(p, h)| firsts.get(*p) != Some(*h))
            .map(|(p, _)| p)
            .collect();
        phases.expect(other.is_empty(), || {
            format!("account {} has other bytes than one: {other:?}", account.name)
        });
        phases.note(&format!(
            "{} of {} outputs are the bytes of account one",
            got.len() - other.len(),
            got.len()
        ));
        Ok(())
    }
}
