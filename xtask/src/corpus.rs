//! `cargo xtask corpus`: a small real distribution, built by plain Nix and on Firn, and every output compared.
//!
//! Either as a remote builder, or (`--remote-store`) in one command on the server; [`remote_store`] has the latter.
//! Accounts `one`, `two` and `three` share one server; `four` has a fresh one, so that its builds run too.

mod account;
mod changed;
mod compare;
mod distribution;
mod four;
mod graph;
mod options;
mod phases;
mod reference;
mod remote_store;
mod store;
mod summary;
mod three;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use firn_testkit::Server;

use crate::sandbox::Sandbox;
use crate::{setup, target};
use account::{Account, count, on_rung};
use distribution::Distribution;
use graph::{Graph, Package, drvs, outputs};
use options::Options;
use phases::Phases;
use reference::Reference;
use summary::Summary;

/// Derivations of the whole corpus that must have run on Firn.
const LEAST: usize = 40;
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
        setup::firn(options.remote_store)
    })?;
    let (corpus, reference) = phases.phase("copy the corpus and fetch its sources", |_| {
        for folder in ["server", "server-ssh", "server-vm", "remote-store", "logs"] {
            distribution::remove(&work.join(folder))?;
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
    let trial = Trial {
        world: World { corpus, drvs, logs },
        reference,
        graph: &graph,
        packages,
        whole: options.only.is_none(),
        sandbox: options.sandbox,
    };
    if options.remote_store {
        return trial.remote_store(&firn, &work.join("remote-store"), phases);
    }
    trial.run(&firn, &work, phases)
}

/// One run over a choice of packages.
pub struct Trial<'a> {
    world: World,
    reference: Reference,
    graph: &'a Graph,
    packages: Vec<&'a Package>,
    whole: bool,
    sandbox: Sandbox,
}

impl Trial<'_> {
    fn run(&self, firn: &Path, work: &Path, mut phases: Phases) -> anyhow::Result<()> {
        let expected = self.expected(&mut phases)?;
        let mut summary = Summary::default();

        let folder = match self.sandbox {
            Sandbox::Namespaces => "server",
            Sandbox::Machines => "server-vm",
        };
        let server = self.server(firn, &work.join(folder))?;
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
        if self.sandbox == Sandbox::Machines {
            // Who gets whose builds does not depend on what they run in.
            summary.print(&self.packages);
            return phases.end();
        }
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

    /// NAR hashes of what plain Nix builds.
    fn expected(&self, phases: &mut Phases) -> anyhow::Result<BTreeMap<String, String>> {
        phases.phase("the reference: plain Nix, locally, in its sandbox", |_| {
            self.reference.build(&drvs(&self.packages))?;
            store::hashes(&self.reference.nix, &outputs(&self.packages))
        })
    }

    fn server(&self, firn: &Path, dir: &Path) -> anyhow::Result<Server> {
        let mut server = Server::start_in(firn, dir)?;
        let shell = self.world.corpus.shell();
        let shell = shell.to_str().context("path of the shell")?;
        let lines = format!("sandbox-shell = {shell:?}\ncores = {}\n", self.reference.cores);
        Sandbox::restart(&[self.sandbox], &mut server, &lines)?;
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
}
