//! The table at the end.

use std::collections::BTreeMap;

use super::account::Answer;
use super::graph::Package;
use crate::table;

const ACCOUNTS: [&str; 4] = ["one", "two", "three", "four"];

/// How each derivation was answered for each account, and whether its bytes are right.
#[derive(Default)]
pub struct Summary {
    /// (derivation, account) → rung and seconds.
    answers: BTreeMap<(String, String), String>,
    /// Attribute name → verdict.
    verdicts: BTreeMap<String, String>,
}

impl Summary {
    pub fn answers(&mut self, account: &str, answers: &[Answer]) {
        for answer in answers {
            let key = (answer.drv.clone(), account.to_owned());
            let text = format!("{} {:.1}", answer.rung, answer.wall.as_secs_f64());
            self.answers.insert(key, text);
        }
    }

    pub fn verdict(&mut self, package: &Package, verdict: &str) {
        self.verdicts.insert(package.name.clone(), verdict.to_owned());
    }

    /// Whether all its outputs are those of the reference.
    pub fn is_equal(&self, package: &Package) -> bool {
        self.verdicts.get(&package.name).is_some_and(|v| v == "equal")
    }

    pub fn print(&self, packages: &[&Package]) {
        let rows: Vec<Vec<String>> = packages
            .iter()
            .map(|package| {
                let answer = |account: &&str| {
                    let key = (package.drv.clone(), (*account).to_owned());
                    self.answers.get(&key).cloned().unwrap_or_default()
                };
                let verdict = self.verdicts.get(&package.name).cloned().unwrap_or_default();
                std::iter::once(package.name.clone())
                    .chain(ACCOUNTS.iter().map(answer))
                    .chain([verdict])
                    .collect()
            })
            .collect();
        println!(
            "\nHow each account was answered, with the seconds from request to answer (waiting for other builds included). \
             Three has another zlib; four used ssh:// on a fresh Firn.\n"
        );
        print!(
            "{}",
            table::text(&["derivation", "one", "two", "three", "four", "reference"], &rows)
        );
        let differing: Vec<String> = packages
            .iter()
            .filter(|package| !self.is_equal(package))
            .map(|package| package.name.clone())
            .collect();
        if !differing.is_empty() {
            println!("\nOther bytes than the reference's: {}", differing.join(", "));
        }
    }
}
