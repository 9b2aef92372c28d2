//! An account, its machine, and how its requests were answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use firn_testkit::{Client, Run, Server};

use super::World;
use super::graph::Package;

/// How often the progress of a long run is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Lines of a failed run that are quoted.
const QUOTED: usize = 60;

/// How one request was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Path of the derivation.
    pub drv: String,
    /// Name of the rung; `failed` when none gave a result.
    pub rung: String,
    /// Why this one.
    pub reason: String,
    /// From request to answer; waiting for other builds is in it.
    pub wall: Duration,
    /// Its beginning, in seconds since 1970.
    time: u64,
}

/// One account on one server, with one machine.
pub struct Account<'a> {
    pub name: &'a str,
    pub server: &'a Server,
    pub client: Client,
    world: &'a World,
}

impl<'a> Account<'a> {
    /// A new account with an empty store into which sources and derivations have been put.
    pub fn new(world: &'a World, server: &'a Server, name: &'a str) -> anyhow::Result<Self> {
        Self::prepared(world, server, name, server.client(name)?)
    }

    /// A further machine of an account that exists.
    pub fn again(&self) -> anyhow::Result<Self> {
        let folder = format!("{}-again", self.name);
        let client = self.server.another_client(self.name, &folder)?;
        Self::prepared(self.world, self.server, self.name, client)
    }

    fn prepared(world: &'a World, server: &'a Server, name: &'a str, client: Client) -> anyhow::Result<Self> {
        world.corpus.fetch(&client.nix)?;
        ensure!(
            world.corpus.instantiate(&client.nix)? == world.drvs,
            "the corpus evaluates to other derivations than before"
        );
        Ok(Self {
            name,
            server,
            client,
            world,
        })
    }

    /// All answers so far, in the order in which they were asked for.
    pub fn answers(&self) -> anyhow::Result<Vec<Answer>> {
        let arguments = ["builds", "--account", self.name, "--json", "--limit", "10000"];
        let run = self.server.firn(&arguments)?.success()?;
        let rows: serde_json::Value = serde_json::from_str(&run.stdout)?;
        let rows = rows.as_array().context("a list")?;
        let text = |row: &serde_json::Value, key: &str, none: &str| {
            row.get(key).and_then(|v| v.as_str()).unwrap_or(none).to_owned()
        };
        Ok(rows
            .iter()
            .rev()
            .map(|row| Answer {
                drv: text(row, "derivation", ""),
                rung: text(row, "rung", "failed"),
                reason: text(row, "reason", ""),
                wall: Duration::from_millis(row.get("wall_ms").and_then(|v| v.as_u64()).unwrap_or(0)),
                time: row.get("time").and_then(|v| v.as_u64()).unwrap_or(0),
            })
            .collect())
    }

    /// What `explain` names as the causes for which a derivation was built: words and paths.
    pub fn causes(&self, drv: &str) -> anyhow::Result<BTreeSet<(String, String)>> {
        let arguments = ["explain", drv, "--account", self.name, "--json"];
        let run = self.server.firn(&arguments)?.success()?;
        let why: serde_json::Value = serde_json::from_str(&run.stdout)?;
        let causes = why
            .pointer("/compared/causes")
            .and_then(|causes| causes.as_array());
        let text = |cause: &serde_json::Value, key: &str| {
            let text = cause.get(key).and_then(|text| text.as_str());
            text.unwrap_or_default().to_owned()
        };
        let causes = causes.with_context(|| format!("nothing is known of earlier builds of {drv}"))?;
        Ok(causes
            .iter()
            .map(|cause| (text(cause, "cause"), text(cause, "path")))
            .collect())
    }

    /// Makes derivations' outputs valid in its store with the server as the only builder, and says what is built meanwhile.
    /// The new answers.
    pub fn realise(&self, scheme: &str, drvs: &[String]) -> anyhow::Result<Vec<Answer>> {
        self.watched(drvs.len(), || self.client.realise(scheme, drvs, &[]))
    }

    /// Builds packages of the corpus in one command with the server as a remote store, and says what is built meanwhile. The new answers.
    pub fn build_in_store(&self, packages: &[&Package]) -> anyhow::Result<Vec<Answer>> {
        self.watched(packages.len(), || self.build_outputs(packages))
    }

    /// One `nix build` of all outputs of these packages with the server as a remote store: what it has not got is sent, outputs stay there.
    /// There is one expression, because Nix 2.8 evaluates each that it is given from the beginning.
    pub fn build_outputs(&self, packages: &[&Package]) -> anyhow::Result<Run> {
        let outputs: Vec<String> = packages
            .iter()
            .flat_map(|package| {
                let name = &package.name;
                package
                    .outputs
                    .keys()
                    .map(move |output| format!("{name}.{output}"))
            })
            .collect();
        let expression = format!(
            "with (import {} {{ }}).real; [ {} ]",
            self.world.corpus.file().display(),
            outputs.join(" ")
        );
        self.client.build_in_store(&expression, &[])
    }

    /// Runs a client's command and says what is built meanwhile. The new answers.
    fn watched(&self, of: usize, act: impl FnOnce() -> anyhow::Result<Run>) -> anyhow::Result<Vec<Answer>> {
        let before = self.answers()?;
        let mut seen = before.clone();
        let (running, ended) = channel::<()>();
        let run = std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut shown = 0;
                while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK) {
                    shown = self.show(&mut seen, shown, of);
                }
                self.show(&mut seen, shown, of);
            });
            let run = act();
            drop(running);
            run
        })?;
        let log = self
            .world
            .logs
            .join(format!("{}-{}.log", self.name, before.len()));
        std::fs::write(&log, &run.stderr)?;
        if !run.ok {
            bail!(
                "the client of account {} failed; its log is {}:\n{}\nThe server's log:\n{}",
                self.name,
                log.display(),
                last(&run.stderr),
                last(&self.server.log())
            );
        }
        Ok(without(self.answers()?, &before))
    }

    /// Prints what was built since the last look; how many answers there are now.
    fn show(&self, seen: &mut Vec<Answer>, shown: usize, of: usize) -> usize {
        let new = self.answers().map(|all| without(all, seen)).unwrap_or_default();
        for (number, answer) in new.iter().enumerate() {
            if ["built", "failed"].contains(&answer.rung.as_str()) {
                println!(
                    "    {:3}/{of}  {} {} in {:.1} s",
                    shown + number + 1,
                    answer.rung,
                    drv_name(&answer.drv),
                    answer.wall.as_secs_f64()
                );
            }
        }
        let now = shown + new.len();
        seen.extend(new);
        now
    }
}

/// What is not among `known`. An answer comes into the list when it is given, at the place of its beginning.
pub fn without(mut all: Vec<Answer>, known: &[Answer]) -> Vec<Answer> {
    for answer in known {
        if let Some(at) = all.iter().position(|a| a == answer) {
            all.remove(at);
        }
    }
    all
}

/// How many answers each rung gave, as text.
pub fn count(answers: &[Answer]) -> String {
    let mut rungs: BTreeMap<&str, usize> = BTreeMap::new();
    for answer in answers {
        *rungs.entry(&answer.rung).or_default() += 1;
    }
    let parts: Vec<String> = rungs.iter().map(|(rung, n)| format!("{n} {rung}")).collect();
    parts.join(", ")
}

/// Derivations that were answered by this rung.
pub fn on_rung(answers: &[Answer], rung: &str) -> BTreeSet<String> {
    let matching = answers.iter().filter(|a| a.rung == rung);
    matching.map(|a| a.drv.clone()).collect()
}

/// `hello-2.10` of `/nix/store/…-hello-2.10.drv`.
pub fn drv_name(drv: &str) -> &str {
    let base = drv.rsplit('/').next().unwrap_or(drv);
    base.get(33..).unwrap_or(base).trim_end_matches(".drv")
}

fn last(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(QUOTED);
    lines.get(from..).unwrap_or_default().join("\n")
}
