//! The client matrix: what people do with Nix, done with each version of it that can be had here, against a real Firn.
//!
//! One test per version; each checks its column of `docs/clients.md`. `FIRN_RENEW=1` writes the column instead.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test shows by panicking what is wrong"
)]

mod as_builder;
mod as_store;
mod queries;
mod self_references;
mod table;
mod transfers;
mod whole_graphs;
mod world;

use std::path::Path;

use firn_testkit::{Root, Server, missing};
use table::Cell;
use world::{Attempt, World};

/// What is done, and how it went with one version.
type Row = (&'static str, &'static str, fn(&World) -> Attempt);

fn rows() -> Vec<Row> {
    [
        as_builder::ROWS,
        whole_graphs::ROWS,
        transfers::ROWS,
        as_store::ROWS,
        queries::ROWS,
        self_references::ROWS,
    ]
    .concat()
}

#[test]
fn installed() {
    column(Ok(None));
}

#[test]
fn debian_trixie() {
    column(prepared("trixie"));
}

#[test]
fn debian_sid() {
    column(prepared("sid"));
}

/// The root of a Debian release that `cargo xtask test` has prepared.
fn prepared(release: &str) -> Result<Option<Root>, String> {
    let target = Path::new(env!("CARGO_BIN_EXE_firn")).ancestors().nth(2).unwrap();
    let found = Root::open(&target.join("clients").join(release));
    found
        .map(Some)
        .map_err(|why| format!("{why} (`cargo xtask clients` prepares it)"))
}

fn column(root: Result<Option<Root>, String>) {
    let root = match (root, missing()) {
        (Ok(root), None) => root,
        (Err(reason), _) | (_, Some(reason)) => {
            eprintln!("skipped: {reason}");
            return;
        }
    };
    let server = Server::start(Path::new(env!("CARGO_BIN_EXE_firn"))).unwrap();
    let world = World::new(server, root.as_ref()).unwrap();
    let only = std::env::var("FIRN_ROWS").unwrap_or_default();
    let mut column = Vec::new();
    for (group, name, row) in rows() {
        if !name.contains(&only) {
            continue;
        }
        let begun = std::time::Instant::now();
        let cell = match row(&world) {
            Ok(()) => Cell::Works,
            Err(trouble) => trouble.into(),
        };
        eprintln!(
            "{} {:5.1} s  {name}: {cell}",
            world.version,
            begun.elapsed().as_secs_f64()
        );
        column.push((group, name, cell));
    }
    let failed: Vec<String> = column
        .iter()
        .filter(|(_, _, cell)| matches!(cell, Cell::Fails(_)))
        .map(|(_, name, cell)| format!("{name}: {cell}"))
        .collect();
    assert!(failed.is_empty(), "Nix {}:\n{}", world.version, failed.join("\n"));
    if only.is_empty() {
        table::check(&world.version, &column);
    }
}
