//! `cargo xtask bench`: plain Nix as a remote builder and remote store, and Firn, side by side.
//!
//! Every scenario gets a server and client stores of its own. Within a round the two sides take turns, so that what else the
//! machine does hits both; each row's ratio is the median of the rounds' ratios.
//!
//! `--only requests` is another table: what Firn alone adds to a build request, beside few and beside a million stored paths.
//! `--only graphs` is one of Firn alone: 100,000 derivations with a builder that does nothing.
//! `--only sandbox` is another one: a trivial build in Firn's sandbox and in the one of a local Nix.

mod builds;
mod graphs;
pub mod plain;
mod remote;
pub mod report;
mod requests;
mod substitution;
mod transfers;
pub mod usage;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail};

use crate::{setup, target};
use builds::Shape;
use graphs::Graph;
use remote::{Remote, Side};
use transfers::{Load, Sources};
use usage::Sample;

/// What selects the bench of the sandbox.
const SANDBOX: &str = "sandbox";

/// What selects the bench of large graphs.
const GRAPHS: &str = "graphs";

const SCHEMES: [&str; 2] = ["ssh-ng", "ssh"];

/// What one server is put through.
#[derive(Clone, Copy)]
enum Scenario {
    Builds(Shape),
    Transfer(Load),
    Substitution,
    Graph(Graph),
}

const SCENARIOS: [Scenario; 9] = [
    Scenario::Builds(Shape::Single),
    Scenario::Builds(Shape::Wide),
    Scenario::Builds(Shape::Wider),
    Scenario::Builds(Shape::Chain),
    Scenario::Transfer(Load::Large),
    Scenario::Transfer(Load::Many),
    Scenario::Substitution,
    Scenario::Graph(Graph::Wide),
    Scenario::Graph(Graph::Layers),
];

impl Scenario {
    /// Names of the cases, in the order in which they run; the others need what the first leaves on the server.
    fn cases(self) -> Vec<String> {
        match self {
            Self::Builds(shape) => vec![
                shape.name().to_owned(),
                format!("{}, results on the server", shape.name()),
            ],
            Self::Transfer(load) => vec![
                format!("upload {}", load.name()),
                format!("download {}", load.name()),
            ],
            Self::Substitution => vec![
                substitution::NAME.to_owned(),
                format!("{}, for a second account", substitution::NAME),
            ],
            Self::Graph(graph) => vec![
                graph.name().to_owned(),
                format!("{}, results on the server", graph.name()),
                format!("{}, for a second account", graph.name()),
            ],
        }
    }

    /// What it leaves is deleted at the end of the bench: where many files were deleted a short while ago, ext4 takes long to make new
    /// ones, and whoever comes next would pay for it.
    fn leaves_many_files(self) -> bool {
        !matches!(self, Self::Transfer(Load::Large))
    }
}

/// A row of the table.
pub struct Case {
    name: String,
    scheme: &'static str,
    rounds: BTreeMap<Side, Vec<Sample>>,
}

struct Options<'a> {
    rounds: usize,
    only: Option<&'a str>,
}

impl<'a> Options<'a> {
    fn parse(words: &[&'a str]) -> anyhow::Result<Self> {
        let mut options = Self {
            rounds: 5,
            only: None,
        };
        for pair in words.chunks(2) {
            match *pair {
                ["--rounds", n] => {
                    options.rounds = n
                        .parse()
                        .ok()
                        .filter(|n| *n > 0)
                        .context("--rounds takes a number")?;
                }
                ["--only", word] => options.only = Some(word),
                _ => bail!(
                    "usage: cargo xtask bench [--rounds N] [--only WORD | --only requests | --only sandbox | --only graphs]"
                ),
            }
        }
        Ok(options)
    }

    fn wants(&self, scenario: Scenario, scheme: &str) -> bool {
        // A cache has one way in, whoever asks, and the older protocol cannot build graphs.
        if matches!(scenario, Scenario::Substitution | Scenario::Graph(_)) && scheme != "ssh-ng" {
            return false;
        }
        let full = |name: String| format!("{name} over {scheme}");
        self.only
            .is_none_or(|word| scenario.cases().into_iter().any(|name| full(name).contains(word)))
    }
}

/// Measures, prints a table, and writes it to `bench/results/`.
pub fn bench(words: &[&str]) -> anyhow::Result<()> {
    let options = Options::parse(words)?;
    setup::programs()?;
    plain::check()?;
    if options.only == Some(SANDBOX) {
        return sandbox();
    }
    if options.only == Some(GRAPHS) {
        return cargo(&["bench", "--quiet", "--bench", "graphs", "--package", "firn"]);
    }
    println!("compiling firn (release)");
    let firn = setup::firn(true)?;
    let scratch = firn_testkit::scratch(&target().join("bench"))?;
    if options.only == Some(requests::NAME) {
        return requests::bench(&firn, scratch.path());
    }
    let begun = Instant::now();
    let load_before = report::load();
    let mut cases = Vec::new();
    let outcome = measure(&options, &firn, scratch.path(), &mut cases);
    let report = report::Report {
        cases,
        rounds: options.rounds,
        took: begun.elapsed(),
        load_before,
    };
    report.print();
    outcome?;
    if options.only.is_some() {
        println!("\n--only: nothing is written to bench/results");
        return Ok(());
    }
    let file = report.write()?;
    println!("\nwritten to {}", file.display());
    Ok(())
}

/// The benches of the builder and of machines, with the helpers that they start.
fn sandbox() -> anyhow::Result<()> {
    setup::for_machines()?;
    for words in [
        [
            "build",
            "--release",
            "--example",
            "builder-sandbox-exec",
            "--package",
            "firn-builder",
        ],
        [
            "build",
            "--release",
            "--example",
            "firn-vm-guest",
            "--package",
            "firn-vm",
        ],
        [
            "bench",
            "--quiet",
            "--bench",
            "sandbox",
            "--package",
            "firn-builder",
        ],
        ["bench", "--quiet", "--bench", "machine", "--package", "firn-vm"],
    ] {
        cargo(&words)?;
    }
    Ok(())
}

fn cargo(words: &[&str]) -> anyhow::Result<()> {
    let status = std::process::Command::new(env!("CARGO"))
        .args(words)
        .current_dir(crate::root())
        .status()?;
    if !status.success() {
        bail!("cargo {} failed", words.join(" "));
    }
    Ok(())
}

/// Runs what is wanted; what was measured before an error is in `cases`.
fn measure(options: &Options<'_>, firn: &Path, scratch: &Path, cases: &mut Vec<Case>) -> anyhow::Result<()> {
    let mut sources = Sources::new(scratch);
    let mut kept = Vec::new();
    for scenario in SCENARIOS {
        for scheme in SCHEMES
            .into_iter()
            .filter(|scheme| options.wants(scenario, scheme))
        {
            let mut rows: Vec<Case> = scenario
                .cases()
                .into_iter()
                .map(|name| Case {
                    name,
                    scheme,
                    rounds: BTreeMap::new(),
                })
                .collect();
            for round in 0..options.rounds {
                for side in Side::BOTH {
                    let dir = tempfile::tempdir_in(scratch)?;
                    let samples = run(scenario, scheme, side, firn, dir.path(), &mut sources)
                        .with_context(|| format!("{} over {scheme}, {side}", scenario.cases().join("; ")))?;
                    for (case, sample) in rows.iter_mut().zip(samples) {
                        println!("  {round} {:40} {scheme:7} {side:5} {sample}", case.name);
                        case.rounds.entry(side).or_default().push(sample);
                    }
                    if scenario.leaves_many_files() {
                        kept.push(dir);
                    }
                }
            }
            cases.extend(rows);
        }
    }
    if cases.is_empty() {
        bail!("no case has that word in its name");
    }
    Ok(())
}

fn run(
    scenario: Scenario,
    scheme: &str,
    side: Side,
    firn: &Path,
    dir: &Path,
    sources: &mut Sources,
) -> anyhow::Result<Vec<Sample>> {
    let remote = Remote::start(side, firn, dir)?;
    builds::warm_up(&remote, scheme, &dir.join("warm-up"))?;
    match scenario {
        Scenario::Builds(shape) => builds::run(&remote, scheme, shape, dir),
        Scenario::Transfer(load) => transfers::run(&remote, scheme, load, sources, dir),
        Scenario::Substitution => sources.cache()?.run(&remote, side, dir),
        Scenario::Graph(graph) => graphs::run(&remote, graph, dir),
    }
}
