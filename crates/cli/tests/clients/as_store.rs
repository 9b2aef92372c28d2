//! `nix store …`, `nix path-info` and the like, on Firn.

use crate::Row;
use crate::world::{Attempt, NG, OLD, World, expect, wrong};

const GROUP: &str = "Looking at the store";

pub const ROWS: &[Row] = &[
    (GROUP, "`nix store info`, `nix store ping`", ping),
    (GROUP, "`nix path-info -r`, `ssh-ng://`", |w| path_info(w, NG)),
    (GROUP, "`nix path-info -r`, `ssh://`", |w| path_info(w, OLD)),
    (GROUP, "`nix store ls -lR`", ls),
    (GROUP, "`nix store cat`, `ssh-ng://`", |w| cat(w, NG)),
    (GROUP, "`nix store cat`, `ssh://`", |w| cat(w, OLD)),
    (GROUP, "`nix store dump-path`", dump),
    (GROUP, "`nix store verify`", verify),
    (GROUP, "`nix store sign`", sign),
    (GROUP, "`nix derivation show`", derivation_show),
    (GROUP, "`nix store copy-log --to ssh-ng://…`", copy_log),
    (GROUP, "`nix log --store ssh-ng://…`", |w| {
        log(w, &["nix", "log", "--store", NG, &w.app_drv])
    }),
    (GROUP, "`nix-store --read-log --store ssh-ng://…`", |w| {
        log(w, &["nix-store", "--store", NG, "--read-log", &w.app_drv])
    }),
    (GROUP, "`nix store optimise`", |w| {
        w.run(&["nix", "store", "optimise", "--store", NG]).map(drop)
    }),
    (GROUP, "`nix store delete`, `nix store gc`: refused", delete),
    (
        GROUP,
        "another store directory than `/nix/store`: refused",
        elsewhere,
    ),
];

/// Each operation that carries a path is in `crates/protocol/tests/other_store.rs`.
fn elsewhere(world: &World) -> Attempt {
    let path = format!("/gnu/store/{}-app", "g1w7hy3q".repeat(4));
    for uri in [NG, OLD] {
        let uri = format!("{uri}?store=/gnu/store");
        for words in [
            ["nix", "path-info", "--store", &uri, &path],
            ["nix-store", "--check-validity", "--store", &uri, &path],
        ] {
            let said = world.fails(&words)?;
            expect(said.contains("only /nix/store is served here"), said)?;
        }
    }
    Ok(())
}

fn ping(world: &World) -> Attempt {
    let word = if world.since(2, 19) { "info" } else { "ping" };
    let run = world.run(&["nix", "store", word, "--store", NG])?;
    let said = format!("{}{}", run.stdout, run.stderr);
    expect(
        said.contains("firn ") && (!world.since(2, 15) || said.contains("Trusted: 1")),
        said,
    )
}

fn path_info(world: &World, uri: &str) -> Attempt {
    world.app_is_there()?;
    let run = world.run(&["nix", "path-info", "-r", "-S", "--store", uri, &world.app])?;
    expect(
        run.stdout.contains(&world.lib) && run.stdout.contains(&world.app),
        run.stdout,
    )?;
    let json = world
        .run(&["nix", "path-info", "--json", "--store", uri, &world.app])?
        .stdout;
    expect(json.contains("narSize") && json.contains("-lib"), json)
}

fn ls(world: &World) -> Attempt {
    world.app_is_there()?;
    let run = world.run(&["nix", "store", "ls", "-lR", "--store", NG, &world.app])?;
    expect(
        run.stdout.contains("bin/app") && run.stdout.contains("link -> bin/app"),
        run.stdout,
    )
}

fn cat(world: &World, uri: &str) -> Attempt {
    world.app_is_there()?;
    let file = format!("{}/bin/app", world.app);
    let words = ["nix", "store", "cat", "--store", uri, &file];
    let text = world
        .unless_unable(&words, &["is not supported by store"])?
        .stdout;
    expect(text.trim() == world.lib, text)
}

fn dump(world: &World) -> Attempt {
    world.app_is_there()?;
    let here = world.run(&["nix", "store", "dump-path", &world.app])?.stdout;
    let there = world
        .run(&["nix", "store", "dump-path", "--store", NG, &world.app])?
        .stdout;
    expect(here == there && here.contains("nix-archive-1"), there)
}

fn verify(world: &World) -> Attempt {
    world.app_is_there()?;
    world
        .run(&[
            "nix",
            "store",
            "verify",
            "-r",
            "--no-trust",
            "--store",
            NG,
            &world.app,
        ])
        .map(drop)
}

fn sign(world: &World) -> Attempt {
    world.app_is_there()?;
    let key = world.desktop.nix.dir().join("signing.key");
    let secret = world
        .run(&["nix", "key", "generate-secret", "--key-name", "matrix-1"])?
        .stdout;
    std::fs::write(&key, secret)?;
    let key = key.to_str().unwrap_or_default();
    world.run(&["nix", "store", "sign", "-k", key, "--store", NG, &world.app])?;
    let info = world
        .run(&["nix", "path-info", "--json", "--store", NG, &world.app])?
        .stdout;
    expect(info.contains("matrix-1:"), info)
}

fn derivation_show(world: &World) -> Attempt {
    world.run(&["nix-copy-closure", "--to", "firn", &world.app_drv])?;
    let words: &[&str] = match world.since(2, 15) {
        true => &["nix", "derivation", "show"],
        false => &["nix", "show-derivation"],
    };
    let run = world.run(&[words, &["--store", NG, &world.app_drv]].concat())?;
    expect(run.stdout.contains("a line of the log"), run.stdout)
}

fn copy_log(world: &World) -> Attempt {
    world.run(&["nix", "store", "copy-log", "--to", NG, &world.app_drv])?;
    let kept = world.desktop.ssh(&["shell", "log", &world.app_drv])?.success()?;
    expect(kept.stdout == "a line of the log\n", kept.stdout)
}

/// No version asks an SSH store for logs.
fn log(world: &World, words: &[&str]) -> Attempt {
    world.unless_unable(words, &["is not supported by store"])?;
    wrong("a client asks for logs now: serve them")
}

fn delete(world: &World) -> Attempt {
    world.app_is_there()?;
    for words in [
        &["nix", "store", "gc", "--store", NG][..],
        &["nix", "store", "delete", "--store", NG, &world.app],
    ] {
        let said = world.fails(words)?;
        expect(said.contains("collects its garbage itself"), said)?;
    }
    Ok(())
}
