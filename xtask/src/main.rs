//! The repository's own commands: `cargo xtask demo | test | clients | bench | corpus`.

mod bench;
mod clients;
mod corpus;
mod demo;
mod sandbox;
mod setup;
mod sources;
mod table;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  demo [--keep]          two accounts build real software on one Firn; shows what was reused and why
  test                   everything that must pass: format, lints, tests, stories with real Nix
  clients                tries every command with each Nix that can be had here, and renews the table in docs/clients.md
  bench [--rounds N] [--only WORD]
                         plain Nix and Firn side by side; writes bench/results/<date>.md
  demo --sandbox vm [--only NAME,…]
                         builds the demo's packages with plain Nix, in Firn's namespaces and in its virtual machines, and
                         compares every output
  corpus DIR [--only NAME,…] [--reference ROOT] [--sandbox namespaces|vm]
                         builds the packages of a corpus folder (a copy of it is made in target/corpus) with plain Nix and
                         on Firn, and compares every output; ROOT is a store in which plain Nix has built them already;
                         in virtual machines a choice of them
  corpus DIR --remote-store [--only NAME,…] [--reference ROOT]
                         builds them on Firn in one command with `--store`, compares, and then times the same command of other
                         accounts beside plain Nix that copies what came of it
  sources [DIR]          fetches the demo's sources only";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["demo"] => demo::demo(false),
        ["demo", "--keep"] => demo::demo(true),
        ["demo", "--sandbox", "vm"] => demo::in_machines("all"),
        ["demo", "--sandbox", "vm", "--only", names] => demo::in_machines(names),
        ["test"] => test::test(),
        ["clients"] => clients::renew(),
        ["bench", options @ ..] => bench::bench(options),
        ["corpus", dir, options @ ..] => corpus::corpus(Path::new(dir), options),
        ["sources", rest @ ..] => {
            let into = rest
                .first()
                .map_or_else(|| target().join("demo-sources"), PathBuf::from);
            sources::fetch(&root().join("demo/sources.json"), &into)
                .and_then(|_| sources::seed(&into))
                .map(drop)
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's folder.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Where cargo builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
