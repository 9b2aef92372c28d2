//! What a trivial build costs from its start to its end, beside the local sandbox of the installed Nix: with few inputs and with many.
//!
//! Nix is measured in two ways: a process for each build, from its start to its end, as whoever wants one thing built has it; and all
//! in one process, which spreads its start-up. Firn runs the same derivations with the same inputs as jobs of one builder.
//! `cargo xtask bench --only sandbox` runs this.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot run says so by panicking"
)]

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/builds/firn.rs"]
mod firn;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/builds/nix.rs"]
mod nix;

use std::time::{Duration, Instant};

use firn::Firn;
use firn_core::InputMapping;
use firn_nix::{Derivation, StorePath};
use firn_service::ports::Builder as _;
use futures_util::StreamExt as _;
use nix::Nix;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Inputs, builds, how many at a time, and rounds in which the sides take turns.
const ROWS: [(usize, usize, usize, usize); 4] = [
    (1, 20, 1, 5),
    (100, 20, 1, 5),
    (2_000, 200, 1, 1),
    (2_000, 200, 2, 1),
];
/// Of these Nix builds no more than so many: with thousands of inputs it takes seconds for each.
const FOR_NIX: usize = 20;
/// Builds with a process of Nix each.
const SINGLE: usize = 5;

#[tokio::main]
async fn main() {
    let Some(nix) = Nix::new() else { return };
    let firn = Firn::new();
    println!("Milliseconds for each build, medians of rounds.\n");
    println!(
        "inputs  builds  at once  Nix, one process  Nix, a process each    Firn  Firn / Nix in one  Firn / Nix each"
    );
    for (row, (inputs, builds, at_once, rounds)) in ROWS.into_iter().enumerate() {
        sources(&nix, inputs);
        let (mut together, mut single, mut ours) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            let drvs = instantiate(&nix, &format!("{row}-{round}"), inputs, builds + SINGLE);
            let mapping = firn.import(&nix, &drvs[0].1).await;
            let paths: Vec<StorePath> = drvs.iter().map(|(path, _)| path.clone()).collect();
            let (many, few) = paths.split_at(builds);
            let many = &many[..builds.min(FOR_NIX)];
            let began = Instant::now();
            realise(&nix, many, at_once);
            together.push(millis(began.elapsed(), many.len()));
            let began = Instant::now();
            few.iter()
                .for_each(|path| realise(&nix, std::slice::from_ref(path), 1));
            single.push(millis(began.elapsed(), SINGLE));
            let began = Instant::now();
            run_all(&firn, &drvs[..builds], &mapping, at_once).await;
            ours.push(millis(began.elapsed(), builds));
        }
        let ratio = |theirs: &[f64]| median(ours.iter().zip(theirs).map(|(o, t)| o / t).collect());
        let (in_one, each) = (ratio(&together), ratio(&single));
        println!(
            "{inputs:6}  {builds:6}  {at_once:7}  {:16.1}  {:19.1}  {:6.1}  {in_one:17.2}  {each:15.2}",
            median(together),
            median(single),
            median(ours),
        );
    }
}

/// Directories that are inputs; those of the row before stay.
fn sources(nix: &Nix, inputs: usize) {
    for n in 0..inputs {
        let dir = nix.dir.path().join(format!("inputs/d{n}"));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("file"), n.to_string()).unwrap();
    }
}

fn instantiate(nix: &Nix, salt: &str, inputs: usize, builds: usize) -> Vec<(StorePath, Derivation)> {
    nix.instantiate_all(&format!(
        r#"let inputs = builtins.genList (n: builtins.path {{ path = ./inputs + "/d${{toString n}}"; name = "d${{toString n}}"; }}) {inputs};
        in builtins.genList (n: derivation {{
          name = "trivial-${{toString n}}"; system = "x86_64-linux"; builder = "/bin/sh"; inherit inputs;
          args = [ "-ec" "echo {salt} ${{toString n}} > $out" ];
        }}) {builds}"#
    ))
}

fn realise(nix: &Nix, paths: &[StorePath], at_once: usize) {
    let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
    let jobs = at_once.to_string();
    let mut args = vec!["--realise", "--max-jobs", &jobs, "--quiet"];
    args.extend(paths.iter().map(String::as_str));
    let output = nix.run("nix-store", &args);
    assert!(output.status.success(), "{}", output.stderr.escape_ascii());
}

async fn run_all(firn: &Firn, drvs: &[(StorePath, Derivation)], inputs: &InputMapping, at_once: usize) {
    let run = async |(path, drv): &(StorePath, Derivation)| {
        let (log, mut chunks) = mpsc::channel(4);
        let job = firn.job(path, drv, inputs.clone());
        let silent = async { assert!(chunks.recv().await.is_none(), "a trivial build says nothing") };
        let (outcome, ()) = tokio::join!(firn.builder.run(job, log, CancellationToken::new()), silent);
        outcome.result.unwrap();
    };
    let mut ends = futures_util::stream::iter(drvs.iter().map(run)).buffer_unordered(at_once);
    while ends.next().await.is_some() {}
}

fn millis(time: Duration, builds: usize) -> f64 {
    time.as_secs_f64() * 1e3 / builds as f64
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
