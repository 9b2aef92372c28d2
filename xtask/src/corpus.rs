//! `cargo xtask corpus`: a small real distribution, built by plain Nix and on Firn, and every output compared.
//!
//! Accounts `one`, `two` and `three` share one server; `four` has a fresh one, so that its builds run too.

mod account;
mod changed;
mod distribution;
mod graph;
mod options;
mod phases;
mod reference;
mod store;
mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use firn_testkit::Server;

use crate::{setup, target};
use account::{Account, Answer, count, drv_name, on_rung};
use distribution::Distribution;
use graph::{Graph, Package, drvs, outputs};
use options::Options;
use phases::Phases;
use reference::Reference;
use summary::Summary;

/// Derivations of the whole corpus that must have run on Firn.
const LEAST: usize = 40;
/// What is built over `ssh://`, with everything that it uses.
const OVER_SSH: [&str; 10] = [
    "hello", "gnused", "zlib", "bzip2", "lz4", "expat", "libyaml", "cjson", "jansson", "tree",
];
/// Builds with the changed library that Nix repeats locally.
const REPEATED: usize = 3;

/// What all accounts start from.
pub struct World {
    corpus: Distribution,
    /// Attribute name → `.drv` path.
    drvs: BTreeMap<String, String>,
    /// Folder of the clients' logs.
    logs: PathBuf,
}

/// Runs it all; an error when anything is not as it should be.
pub fn corpus(dir: &Path, options: &[&str]) -> anyhow::Result<()> {
    let options = Options::parse(options)?;
    let work = std::path::absolute(target().join("corpus"))?;
    let mut phases = Phases::new();

    let firn = phases.phase("install what is missing and compile firn", |_| {
        setup::programs()?;
        let missing = ["python3", "diff", "grep"]
            .into_iter()
            .find(|p| firn_testkit::find(p).is_none());
        ensure!(missing.is_none(), "this needs {}", missing.unwrap_or_default());
        setup::firn(false)
    })?;
    let (corpus, reference) = phases.phase("copy the corpus and fetch its sources", |_| {
        for folder in ["server", "server-ssh", "logs"] {
            remove(&work.join(folder))?;
        }
        std::fs::create_dir_all(work.join("logs"))?;
        let corpus = Distribution::copy(dir, &work.join("distribution"))?;
        let reference = Reference::new(&work.join("reference"), options.reference.as_deref(), &corpus)?;
        Ok((corpus, reference))
    })?;
    let drvs = corpus.instantiate(&reference.nix)?;
    let graph = Graph::read(&reference.nix, &drvs)?;
    let everything: BTreeSet<String> = drvs.keys().cloned().collect();
    let packages = graph.with_dependencies(options.only.as_ref().unwrap_or(&everything))?;
    phases.note(&format!(
        "{} derivations with {} outputs",
        packages.len(),
        outputs(&packages).len()
    ));
    let logs = work.join("logs");
    let run = Run {
        world: World { corpus, drvs, logs },
        reference,
        graph: &graph,
        packages,
        whole: options.only.is_none(),
    };
    run.all(&firn, &work, phases)
}

/// One run over a choice of packages.
struct Run<'a> {
    world: World,
    reference: Reference,
    graph: &'a Graph,
    packages: Vec<&'a Package>,
    whole: bool,
}

impl Run<'_> {
    fn all(&self, firn: &Path, work: &Path, mut phases: Phases) -> anyhow::Result<()> {
        let expected = phases.phase("the reference: plain Nix, locally, in its sandbox", |_| {
            self.reference.build(&drvs(&self.packages))?;
            store::hashes(&self.reference.nix, &outputs(&self.packages))
        })?;
        let mut summary = Summary::default();

        let server = self.server(firn, &work.join("server"))?;
        let one = self.account(&mut phases, &server, "one")?;
        let built = phases.phase("account one builds everything on Firn", |phases| {
            let answers = one.realise("ssh-ng", &drvs(&self.packages))?;
            let on_firn = on_rung(&answers, "built").len();
            phases.note(&count(&answers));
            phases.expect(on_firn == self.packages.len(), || {
                format!("{on_firn} of {} derivations ran on Firn", self.packages.len())
            });
            phases.expect(!self.whole || on_firn >= LEAST, || {
                format!("fewer than {LEAST} derivations ran on Firn")
            });
            Ok(answers)
        })?;
        summary.answers("one", &built);
        phases.phase(
            "compare every output of account one with the reference",
            |phases| self.compare(phases, &one, &expected, &mut summary),
        )?;
        let firsts = store::hashes(&one.client.nix, &outputs(&self.packages))?;

        let two = self.account(&mut phases, &server, "two")?;
        let reused = phases.phase(
            "account two asks for the same with uploads of its own",
            |phases| {
                let answers = two.realise("ssh-ng", &drvs(&self.packages))?;
                self.expect_all(phases, "two", &answers, "reused");
                self.expect_bytes(phases, &two, &firsts)?;
                Ok(answers)
            },
        )?;
        summary.answers("two", &reused);

        self.third(&mut phases, &server, [&one, &two], &firsts, &mut summary)?;
        drop(server);
        self.over_ssh(firn, work, &mut phases, &expected, &mut summary)?;

        summary.print(&self.packages);
        phases.end()
    }

    fn server(&self, firn: &Path, dir: &Path) -> anyhow::Result<Server> {
        let mut server = Server::start_in(firn, dir)?;
        let shell = self.world.corpus.shell();
        let shell = shell.to_str().context("path of the shell")?;
        server.configure(&format!(
            "[build]\nsandbox-shell = {shell:?}\ncores = {}\n",
            self.reference.cores
        ))?;
        server.stop();
        server.launch()?;
        Ok(server)
    }

    fn account<'s>(
        &'s self,
        phases: &mut Phases,
        server: &'s Server,
        name: &'s str,
    ) -> anyhow::Result<Account<'s>> {
        phases.phase(
            &format!("account {name}: an empty store, sources put into it"),
            |_| Account::new(&self.world, server, name),
        )
    }

    /// Every output against the reference. A difference is a problem unless Nix itself gets other bytes when it repeats the build, or
    /// something that it was built from differs.
    fn compare(
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
                None if !self.reference.repeats(&package.drv)? => "differs, but not deterministic".to_owned(),
                None => {
                    phases.problem(format!(
                        "{}: Nix gets the same bytes twice, Firn gets others",
                        package.name
                    ));
                    "DIFFERS".to_owned()
                }
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

    fn expect_all(&self, phases: &mut Phases, name: &str, answers: &[Answer], rung: &str) {
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

    fn expect_bytes(
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

    /// Account three uploads a changed library: it gets its own builds from there on, and nobody else sees anything of it.
    fn third(
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
                    let same = store::repeats(nix, &self.world.corpus.shell(), self.reference.cores, &drv)?;
                    phases.note(&format!(
                        "{} repeated by plain Nix in the store of three: {}",
                        drv_name(&drv),
                        if same { "equal" } else { "differs" }
                    ));
                    phases.expect(same || !self.reference.repeats(&drv)?, || {
                        format!("{} of account three is not what Nix builds", drv_name(&drv))
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

    /// Some packages over the serve protocol, on a server that has built nothing yet.
    fn over_ssh(
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

fn remove(dir: &Path) -> anyhow::Result<()> {
    if dir.exists() {
        distribution::run(std::process::Command::new("chmod").args(["-R", "u+w"]).arg(dir))?;
        std::fs::remove_dir_all(dir)?;
    }
    Ok(())
}
