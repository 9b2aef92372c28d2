//! `nix-store --query` and its kin, on Firn.

use crate::Row;
use crate::world::{Attempt, NG, OLD, Trouble, World, derivation, expect};

const GROUP: &str = "`nix-store`";

pub const ROWS: &[Row] = &[
    (GROUP, "`-q --references`", |w| {
        names(w, "--references", &w.app, &[&w.lib])
    }),
    (GROUP, "`-q --referrers`", |w| {
        names(w, "--referrers", &w.lib, &[&w.app])
    }),
    (GROUP, "`-q --referrers-closure`", |w| {
        names(w, "--referrers-closure", &w.lib, &[&w.lib, &w.app])
    }),
    (GROUP, "`-q --requisites`, `ssh-ng://`", |w| {
        names(w, "--requisites", &w.app, &[&w.lib, &w.app])
    }),
    (GROUP, "`-q --requisites`, `ssh://`", requisites_over_ssh),
    (GROUP, "`-q --deriver`", |w| {
        names(w, "--deriver", &w.app, &[&w.app_drv])
    }),
    (GROUP, "`-q --outputs`", outputs),
    (GROUP, "`-q --hash`, `--size`", hash_and_size),
    (GROUP, "`-q --tree`, `--graph`", drawings),
    (GROUP, "`-r PATH`", realise_path),
    (GROUP, "`--check-validity`", check_validity),
    (GROUP, "`--verify`, `--verify-path`", verify),
    (GROUP, "`--gc --print-roots`", |w| {
        w.run(&["nix-store", "--store", NG, "--gc", "--print-roots"])
            .map(drop)
    }),
];

fn query(world: &World, uri: &str, words: &[&str]) -> Result<String, Trouble> {
    world.app_is_there()?;
    Ok(world
        .run(&[&["nix-store", "--store", uri, "-q"], words].concat())?
        .stdout)
}

fn names(world: &World, what: &str, path: &str, wanted: &[&str]) -> Attempt {
    let answer = query(world, NG, &[what, path])?;
    expect(wanted.iter().all(|path| answer.contains(path)), &answer)
}

fn requisites_over_ssh(world: &World) -> Attempt {
    let answer = query(world, OLD, &["--requisites", &world.app])?;
    expect(answer.contains(&world.lib), &answer)
}

fn outputs(world: &World) -> Attempt {
    world.run(&["nix-copy-closure", "--to", "firn", &world.app_drv])?;
    names(world, "--outputs", &world.app_drv, &[&world.app])
}

fn hash_and_size(world: &World) -> Attempt {
    for what in ["--hash", "--size"] {
        let here = world.run(&["nix-store", "-q", what, &world.app])?.stdout;
        let there = query(world, NG, &[what, &world.app])?;
        expect(here == there, (here, there))?;
    }
    Ok(())
}

fn drawings(world: &World) -> Attempt {
    for what in ["--tree", "--graph"] {
        let answer = query(world, NG, &[what, &world.app])?;
        expect(answer.contains("-lib"), &answer)?;
    }
    Ok(())
}

fn realise_path(world: &World) -> Attempt {
    world.app_is_there()?;
    world
        .run(&["nix-store", "--store", NG, "-r", &world.app])
        .map(drop)
}

fn check_validity(world: &World) -> Attempt {
    world.app_is_there()?;
    world.run(&["nix-store", "--store", NG, "--check-validity", &world.app])?;
    let nix = &world.desktop.nix;
    let file = nix.expression(&derivation("never-built", ": > $out"))?;
    let drv = nix.instantiate(&file, &[])?.remove(0);
    let said = world.fails(&["nix-store", "--store", NG, "--check-validity", &drv])?;
    expect(said.contains("not valid"), said)
}

fn verify(world: &World) -> Attempt {
    world.app_is_there()?;
    world.run(&["nix-store", "--store", NG, "--verify", "--check-contents"])?;
    world
        .run(&["nix-store", "--store", NG, "--verify-path", &world.app])
        .map(drop)
}
