//! Builds that do nothing: what is measured is everything around them.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use firn_testkit::Nix;

use super::remote::Remote;
use super::usage::Sample;

/// Builds at a time, for both sides.
pub const SLOTS: usize = 8;

/// Only what the shell has built in: its other commands are not in the sandbox.
const EXPRESSION: &str = r#"{ salt, system, count, chained }:
let
  step = number: before: derivation {
    name = "step-${toString number}";
    inherit system;
    builder = "/bin/sh";
    args = [
      "-c"
      (if before == null
       then "echo ${salt} ${toString number} > $out"
       else "read line < ${before}; echo \"$line\" ${toString number} > $out")
    ];
  };
  chain = number: if number == 0 then null else step number (chain (number - 1));
in
if chained then chain count else builtins.genList (number: step number null) count
"#;

/// How builds depend on each other.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Single,
    Wide,
    Wider,
    Chain,
}

impl Shape {
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "1 build",
            Self::Wide => "100 independent builds",
            Self::Wider => "300 independent builds",
            Self::Chain => "a chain of 50 builds",
        }
    }

    fn count(self) -> &'static str {
        match self {
            Self::Single => "1",
            Self::Wide => "100",
            Self::Wider => "300",
            Self::Chain => "50",
        }
    }

    fn chained(self) -> &'static str {
        match self {
            Self::Single | Self::Wide | Self::Wider => "false",
            Self::Chain => "true",
        }
    }
}

/// Builds, and then wants the same in another client's store.
pub fn run(remote: &Remote, scheme: &str, shape: Shape, dir: &Path) -> anyhow::Result<Vec<Sample>> {
    let salt = salt();
    let one = |name: &str| {
        let client = remote.client(&dir.join(name))?;
        let drvs = instantiate(&client, shape, &salt)?;
        remote.measure(&mut realise(&client, scheme, &drvs))
    };
    Ok(vec![one("first")?, one("second")?])
}

/// One build that is not measured: the server opens what it opens once.
pub fn warm_up(remote: &Remote, scheme: &str, dir: &Path) -> anyhow::Result<()> {
    let client = remote.client(dir)?;
    let drvs = instantiate(&client, Shape::Single, &salt())?;
    remote.measure(&mut realise(&client, scheme, &drvs)).map(drop)
}

/// Different each time, so that nothing has been built before.
pub fn salt() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Of this machine, as Nix calls it.
pub fn system() -> String {
    format!("{}-linux", std::env::consts::ARCH)
}

fn instantiate(client: &Nix, shape: Shape, salt: &str) -> anyhow::Result<Vec<String>> {
    let file = client.expression(EXPRESSION)?;
    let system = system();
    let strings = ["--argstr", "salt", salt, "--argstr", "system", &system];
    let values = [
        "--arg",
        "count",
        shape.count(),
        "--arg",
        "chained",
        shape.chained(),
    ];
    let drvs = client.instantiate(&file, &[strings, values].concat());
    drvs.context("cannot instantiate")
}

fn realise(client: &Nix, scheme: &str, drvs: &[String]) -> Command {
    let mut command = client.command("nix-store", true);
    let builders = format!("{} {} - {SLOTS} 1 - - -", Remote::uri(scheme), system());
    command
        .args(["--realise", "--max-jobs", "0", "--builders", &builders])
        .args(drvs);
    command
}
