//! `--remote-store`: everything in one command on the server, and then the same command of other accounts beside plain Nix that copies
//! what came of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use firn_testkit::{Nix, Run, Server};

use super::account::{Account, count, on_rung, without};
use super::graph::{outputs, sources};
use super::phases::Phases;
use super::store;
use super::summary::Summary;
use super::{LEAST, Trial};
use crate::bench::plain::{self, Sshd};
use crate::bench::report::{load, median};
use crate::bench::usage::{CpuGroup, children_cpu};
use crate::table;

/// Accounts that ask for what account one built; plain Nix takes turns with them.
const OTHERS: [&str; 3] = ["two", "three", "four"];

/// What their command may take of the time in which plain Nix copies the closure.
const ALLOWED: f64 = 0.1;

/// What a client's command took, in seconds.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    /// Of the client's processes.
    client: f64,
    /// Of the server's.
    server: f64,
}

/// One account beside plain Nix.
struct Round {
    name: &'static str,
    /// Sending sources that the server would fetch if their addresses were real.
    sources: Cost,
    build: Cost,
    /// The same command once more.
    again: Cost,
    copy: Cost,
}

/// Plain Nix behind sshd with the reference's outputs.
struct PlainStore {
    sshd: Sshd,
    cpu: CpuGroup,
}

impl Trial<'_> {
    pub(super) fn remote_store(&self, firn: &Path, work: &Path, mut phases: Phases) -> anyhow::Result<()> {
        plain::check()?;
        let expected = self.expected(&mut phases)?;
        let server = self.server(firn, &work.join("firn"))?;
        let cpu = CpuGroup::new(server.pid().context("firn has ended")?);
        let mut summary = Summary::default();

        let one = self.account(&mut phases, &server, "one")?;
        phases.phase("account one sends its sources", |_| {
            measure(&cpu, || self.send(&one)).map(drop)
        })?;
        phases.phase(
            "account one builds everything in one command on the server",
            |phases| {
                let answers = one.build_in_store(&self.packages)?;
                let on_firn = on_rung(&answers, "built").len();
                phases.note(&count(&answers));
                phases.expect(on_firn == self.packages.len() && answers.len() == on_firn, || {
                    format!("{on_firn} of {} derivations ran on Firn", self.packages.len())
                });
                phases.expect(!self.whole || on_firn >= LEAST, || {
                    format!("fewer than {LEAST} derivations ran on Firn")
                });
                summary.answers("one", &answers);
                Ok(())
            },
        )?;
        phases.phase(
            "account one copies every output from the server; each is compared with the reference",
            |phases| {
                fetch(&one.client.nix, &outputs(&self.packages))?.success()?;
                self.compare(phases, &one, &expected, &mut summary)
            },
        )?;
        let firsts = store::hashes(&one.client.nix, &outputs(&self.packages))?;

        let plain = phases.phase("plain Nix behind sshd gets the reference's outputs", |phases| {
            self.plain_store(phases, &work.join("plain"))
        })?;
        let load_before = load();
        let mut rounds = Vec::new();
        for name in OTHERS {
            rounds.push(self.round(&mut phases, work, (&server, &cpu), &plain, name, &firsts)?);
        }
        tell(&mut phases, &rounds, &load_before);
        phases.end()
    }

    /// An account that has built nothing gives the same command; then plain Nix copies.
    fn round(
        &self,
        phases: &mut Phases,
        work: &Path,
        (server, cpu): (&Server, &CpuGroup),
        plain: &PlainStore,
        name: &'static str,
        firsts: &BTreeMap<String, String>,
    ) -> anyhow::Result<Round> {
        let account = self.account(phases, server, name)?;
        let sources = phases.phase(&format!("account {name} sends its sources"), |_| {
            measure(cpu, || self.send(&account))
        })?;
        let [build, again] = phases.phase(
            &format!("account {name} gives the same command, and gives it again"),
            |phases| {
                let before = account.answers()?;
                let build = measure(cpu, || account.build_outputs(&self.packages))?;
                let answers = without(account.answers()?, &before);
                phases.note(&count(&answers));
                let ran = answers
                    .iter()
                    .filter(|a| ["built", "failed"].contains(&a.rung.as_str()));
                let ran = ran.count();
                phases.expect(ran == 0, || format!("account {name}: {ran} derivations ran"));
                let again = measure(cpu, || account.build_outputs(&self.packages))?;
                Ok([build, again])
            },
        )?;
        phases.phase(
            &format!("account {name} copies every output; they are those of account one"),
            |phases| {
                fetch(&account.client.nix, &outputs(&self.packages))?.success()?;
                self.expect_bytes(phases, &account, firsts)
            },
        )?;
        let copy = phases.phase(
            "plain Nix copies the closure of all outputs over ssh-ng into an empty store",
            |_| self.copied(plain, &work.join("copies").join(name)),
        )?;
        Ok(Round {
            name,
            sources,
            build,
            again,
            copy,
        })
    }

    /// Sources whose addresses are no URLs: nobody can fetch them, so each account sends its own.
    fn send(&self, account: &Account) -> anyhow::Result<Run> {
        let mut arguments = vec!["copy", "--no-check-sigs", "--to", "ssh-ng://firn"];
        let sources = sources(&self.packages);
        arguments.extend(sources.iter().map(String::as_str));
        account.client.nix.run("nix", &arguments)
    }

    fn plain_store(&self, phases: &Phases, dir: &Path) -> anyhow::Result<PlainStore> {
        let sshd = Sshd::start(dir)?;
        let nix = &self.reference.nix;
        let all = outputs(&self.packages);
        let store = format!("local?root={}", sshd.store().display());
        let mut arguments = vec!["copy", "--no-check-sigs", "--to", &store];
        arguments.extend(all.iter().map(String::as_str));
        nix.run("nix", &arguments)?.success()?;
        let closure = store::closure(nix, &all)?;
        let paths: Vec<String> = closure.iter().cloned().collect();
        let bytes: u64 = store::sizes(nix, &paths)?.iter().sum();
        phases.note(&format!(
            "the closure of {} outputs: {} paths, {:.1} MB as NARs",
            all.len(),
            closure.len(),
            bytes as f64 / 1e6
        ));
        let cpu = CpuGroup::new(sshd.pid());
        Ok(PlainStore { sshd, cpu })
    }

    fn copied(&self, plain: &PlainStore, dir: &Path) -> anyhow::Result<Cost> {
        let mut nix = Nix::new(dir)?;
        nix.set("NIX_SSHOPTS", format!("-F {}", plain.sshd.ssh_config().display()));
        let all = outputs(&self.packages);
        let cost = measure(&plain.cpu, || fetch(&nix, &all))
            .with_context(|| format!("sshd's log: {}", plain.sshd.log()))?;
        let [got, wanted] = [&nix, &self.reference.nix].map(|nix| store::closure(nix, &all));
        ensure!(got? == wanted?, "plain Nix has not copied the whole closure");
        Ok(cost)
    }
}

fn fetch(nix: &Nix, paths: &[String]) -> anyhow::Result<Run> {
    let mut arguments = vec!["copy", "--no-check-sigs", "--from", "ssh-ng://firn"];
    arguments.extend(paths.iter().map(String::as_str));
    nix.run("nix", &arguments)
}

/// Runs a client's command. What earlier ones left to write is written before.
fn measure(server: &CpuGroup, command: impl FnOnce() -> anyhow::Result<Run>) -> anyhow::Result<Cost> {
    Command::new("sync").arg("-f").arg(crate::target()).status()?;
    let (on_server, here) = (server.seconds(), children_cpu()?);
    let run = command()?.success()?;
    Ok(Cost {
        wall: run.took.as_secs_f64(),
        client: children_cpu()? - here,
        server: server.seconds() - on_server,
    })
}

fn tell(phases: &mut Phases, rounds: &[Round], load_before: &str) {
    let of = |cost: &Cost| format!("{:.3} ({:.2}, {:.2})", cost.wall, cost.client, cost.server);
    let ratio = |round: &Round| round.build.wall / round.copy.wall;
    let mut rows: Vec<Vec<String>> = rounds
        .iter()
        .map(|round| {
            vec![
                round.name.to_owned(),
                of(&round.sources),
                of(&round.build),
                of(&round.again),
                of(&round.copy),
                format!("{:.3}", ratio(round)),
            ]
        })
        .collect();
    let middle = |part: fn(&Round) -> &Cost| {
        let of = |one: fn(&Cost) -> f64| median(rounds.iter().map(part).map(one).collect());
        Cost {
            wall: of(|cost| cost.wall),
            client: of(|cost| cost.client),
            server: of(|cost| cost.server),
        }
    };
    let (build, copy) = (middle(|round| &round.build), middle(|round| &round.copy));
    let share = build.wall / copy.wall;
    rows.push(vec![
        "median".to_owned(),
        of(&middle(|round| &round.sources)),
        of(&build),
        of(&middle(|round| &round.again)),
        of(&copy),
        format!("{share:.3}"),
    ]);
    println!(
        "\nWall seconds, with CPU seconds of the client and of the server. Each account asks for the first time, from a machine whose store has \
         sources and derivations; `nix build` evaluates, sends derivations and what they name, and leaves all outputs valid on the server, \
         where account one built them. Its sources were sent before, because their addresses are no URLs; that is not in the ratio. Plain \
         Nix copies the same outputs with all that they refer to from its server into an empty store. Load average {load_before} to {}.\n",
        load()
    );
    let head = [
        "account",
        "sources",
        "nix build",
        "again",
        "plain Nix copies",
        "ratio",
    ];
    print!("{}", table::text(&head, &rows));
    phases.expect(share <= ALLOWED, || {
        format!("the same command takes {share:.3} of what plain Nix needs to copy; {ALLOWED} is allowed")
    });
}
