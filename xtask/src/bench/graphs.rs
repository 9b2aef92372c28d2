//! A graph of builds that do nothing, in one command with the server as a remote store.

use std::path::Path;
use std::process::Command;

use firn_testkit::Nix;

use super::builds::{SLOTS, salt, system};
use super::remote::Remote;
use super::usage::Sample;

/// Builds of a graph, without the one that needs them all.
const COUNT: &str = "300";

/// In layers, each is built from three of the layer below. Only what the shell has built in: its other commands are not in the sandbox.
const EXPRESSION: &str = r#"{ salt, system, count, layers }:
let
  step = name: below: derivation {
    inherit name system below salt;
    builder = "/bin/sh";
    args = [ "-c" "for from in $below; do read line < $from; echo \"$line\"; done > $out; echo $name >> $out" ];
  };
  width = count / layers;
  layer = number:
    let
      below = layer (number - 1);
      from = place: map (k: builtins.elemAt below (let at = place + k; in at - at / width * width)) [ 0 1 7 ];
    in
    if number == 0 then builtins.genList (_: null) width
    else builtins.genList (place: step "step-${toString number}-${toString place}" (if number == 1 then [ ] else from place)) width;
in
step "top" (layer layers)
"#;

/// How the builds of a graph depend on each other.
#[derive(Clone, Copy, Debug)]
pub enum Graph {
    /// On nothing.
    Wide,
    /// Each on three of the layer below.
    Layers,
}

impl Graph {
    pub fn name(self) -> &'static str {
        match self {
            Self::Wide => "remote store, 300 builds and one that needs all",
            Self::Layers => "remote store, 300 builds in 10 layers",
        }
    }

    fn layers(self) -> &'static str {
        match self {
            Self::Wide => "1",
            Self::Layers => "10",
        }
    }
}

/// Builds, wants the same from another machine, and wants the same as another account, which to plain Nix is one more machine.
pub fn run(remote: &Remote, graph: Graph, dir: &Path) -> anyhow::Result<Vec<Sample>> {
    let salt = salt();
    let one = |client: Nix| {
        // Each has evaluated before; `nix build` does so again, but has nothing to write.
        let arguments = arguments(graph, &salt);
        let file = client.expression(EXPRESSION)?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        client.instantiate(&file, &arguments)?;
        remote.measure(&mut build(&client, &file, &arguments))
    };
    Ok(vec![
        one(remote.client(&dir.join("first"))?)?,
        one(remote.client(&dir.join("second"))?)?,
        one(remote.stranger(&dir.join("third"), "third")?)?,
    ])
}

fn arguments(graph: Graph, salt: &str) -> Vec<String> {
    let system = system();
    let words = ["--argstr", "salt", salt, "--argstr", "system", &system];
    let values = ["--arg", "count", COUNT, "--arg", "layers", graph.layers()];
    words.iter().chain(&values).map(|&word| word.to_owned()).collect()
}

fn build(client: &Nix, file: &Path, arguments: &[&str]) -> Command {
    let mut command = client.command("nix", false);
    command
        .args(["build", "--no-link", "--max-jobs", &SLOTS.to_string()])
        .args([
            "--store",
            &Remote::uri("ssh-ng"),
            "--eval-store",
            &client.store_uri(),
            "-f",
        ])
        .arg(file)
        .args(arguments);
    command
}
