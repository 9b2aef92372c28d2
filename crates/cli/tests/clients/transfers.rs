//! Paths and closures, both ways.

use crate::Row;
use crate::world::{Attempt, NG, OLD, World, builders, derivation, expect, left_to};

const GROUP: &str = "Copying";

pub const ROWS: &[Row] = &[
    (GROUP, "`nix copy --to ssh-ng://…`", |w| copy_to(w, NG)),
    (GROUP, "`nix copy --to ssh://…`", |w| copy_to(w, OLD)),
    (GROUP, "`nix copy --from ssh-ng://…`", |w| copy_from(w, NG)),
    (GROUP, "`nix copy --from ssh://…`", |w| copy_from(w, OLD)),
    (GROUP, "`nix copy --from`, believing Firn's signature", signed),
    (GROUP, "`nix copy --derivation --to ssh-ng://…`", derivations),
    (GROUP, "`nix-copy-closure --to`", closure_to),
    (GROUP, "`nix-copy-closure --from`", closure_from),
    (GROUP, "`nix-store --export --store ssh-ng://…`", export),
    (GROUP, "`nix-store --import --store ssh-ng://…`", import),
    (GROUP, "`nix-store --add`, `nix store add-path`, `add-file`", add),
    (GROUP, "`nix store copy-sigs`", copy_sigs),
    (
        GROUP,
        "Firn as a substituter: `substituters = ssh-ng://…`",
        substituter,
    ),
];

/// A fresh pair on the desktop.
fn fresh(world: &World, name: &str) -> anyhow::Result<(String, String)> {
    let low = derivation(&format!("{name}-low"), "echo low > $out");
    let top = derivation(
        &format!("{name}-top"),
        "mkdir $out; echo ${low} > $out/needs; ln -s needs $out/link",
    );
    let nix = &world.desktop.nix;
    let file = nix.expression(&format!("let low = {low}; in [ low ({top}) ]"))?;
    let built = world.build_here(&nix.instantiate(&file, &[])?)?;
    Ok((built[0].clone(), built[1].clone()))
}

fn copy_to(world: &World, uri: &str) -> Attempt {
    let (low, top) = fresh(world, &format!("copied-{}", uri.len()))?;
    world.run(&["nix", "copy", "--no-check-sigs", "--to", uri, &top])?;
    world
        .run(&["nix", "path-info", "--store", NG, &low, &top])
        .map(drop)
}

fn copy_from(world: &World, uri: &str) -> Attempt {
    let (_, top) = fresh(world, &format!("fetched-{}", uri.len()))?;
    world.run(&["nix", "copy", "--no-check-sigs", "--to", NG, &top])?;
    world.on_laptop(&["nix", "copy", "--no-check-sigs", "--from", uri, &top])?;
    same_on_laptop(world, &top)
}

fn same_on_laptop(world: &World, path: &str) -> Attempt {
    let hashes = (
        world.desktop.nix.nar_hash(path)?,
        world.laptop.nix.nar_hash(path)?,
    );
    expect(hashes.0 == hashes.1, hashes)
}

fn signed(world: &World) -> Attempt {
    let file = world.file(&derivation("signed", "echo signed by Firn > $out"))?;
    let run = world.run(&left_to(&builders(NG), &["nix-build", "--no-out-link", &file]))?;
    let out = run.lines().remove(0);
    world.on_laptop(&[
        "nix",
        "copy",
        "--from",
        NG,
        &out,
        "--option",
        "trusted-public-keys",
        &world.key,
    ])?;
    same_on_laptop(world, &out)
}

fn derivations(world: &World) -> Attempt {
    let arguments = ["nix", "copy", "--derivation", "--to", NG, &world.app_drv];
    world.run(&arguments)?;
    world
        .run(&["nix-store", "--store", NG, "--check-validity", &world.app_drv])
        .map(drop)
}

fn closure_to(world: &World) -> Attempt {
    let (low, top) = fresh(world, "closure-to")?;
    world.run(&["nix-copy-closure", "--to", "firn", &top])?;
    world
        .run(&["nix", "path-info", "--store", NG, &low, &top])
        .map(drop)
}

fn closure_from(world: &World) -> Attempt {
    let (_, top) = fresh(world, "closure-from")?;
    world.run(&["nix-copy-closure", "--to", "firn", &top])?;
    world.on_laptop(&["nix-copy-closure", "--from", "firn", &top])?;
    same_on_laptop(world, &top)
}

fn export(world: &World) -> Attempt {
    let (low, top) = fresh(world, "exported")?;
    world.run(&["nix", "copy", "--no-check-sigs", "--to", NG, &top])?;
    let file = world.laptop.nix.dir().join("export");
    let mut command = world.laptop.nix.command("nix-store", false);
    let status = command
        .args(["--store", NG, "--export", &low, &top])
        .stdout(std::fs::File::create(&file)?)
        .status()?;
    expect(status.success(), status)?;
    let mut command = world.laptop.nix.command("nix-store", true);
    let done = command
        .arg("--import")
        .stdin(std::fs::File::open(&file)?)
        .output()?;
    expect(done.status.success(), done.stderr.escape_ascii().to_string())?;
    same_on_laptop(world, &top)
}

fn import(world: &World) -> Attempt {
    let (low, top) = fresh(world, "imported")?;
    let file = world.desktop.nix.dir().join("export");
    let mut command = world.desktop.nix.command("nix-store", true);
    let status = command
        .args(["--export", &low, &top])
        .stdout(std::fs::File::create(&file)?)
        .status()?;
    expect(status.success(), status)?;
    let mut command = world.desktop.nix.command("nix-store", false);
    let done = command
        .args(["--store", NG, "--import"])
        .stdin(std::fs::File::open(&file)?)
        .output()?;
    expect(done.status.success(), done.stderr.escape_ascii().to_string())?;
    world
        .run(&["nix", "path-info", "--store", NG, &low, &top])
        .map(drop)
}

fn add(world: &World) -> Attempt {
    let file = world.desktop.nix.dir().join("added.txt");
    std::fs::write(&file, "some text\n")?;
    let file = file.to_str().unwrap_or_default();
    let here = world.run(&["nix-store", "--add", file])?.stdout;
    let there = world.run(&["nix-store", "--store", NG, "--add", file])?.stdout;
    expect(here == there, (&here, &there))?;
    let path = world
        .run(&["nix", "store", "add-path", "--store", NG, file])?
        .stdout;
    expect(path == there, (&path, &there))?;
    let here = world.run(&["nix", "store", "add-file", file])?.stdout;
    let there = world
        .run(&["nix", "store", "add-file", "--store", NG, file])?
        .stdout;
    expect(here == there && here != path, (&here, &there))
}

fn copy_sigs(world: &World) -> Attempt {
    let (_, top) = fresh(world, "twice-signed")?;
    world.run(&["nix", "copy", "--no-check-sigs", "--to", NG, &top])?;
    let key = world.desktop.nix.dir().join("copied.key");
    let secret = world
        .run(&["nix", "key", "generate-secret", "--key-name", "copied-1"])?
        .stdout;
    std::fs::write(&key, secret)?;
    world.run(&[
        "nix",
        "store",
        "sign",
        "-k",
        key.to_str().unwrap_or_default(),
        &top,
    ])?;
    let from = world.desktop.nix.store_uri();
    world.run(&["nix", "store", "copy-sigs", "--store", NG, "-s", &from, &top])?;
    let info = world
        .run(&["nix", "path-info", "--json", "--store", NG, &top])?
        .stdout;
    expect(info.contains("copied-1:"), info)
}

fn substituter(world: &World) -> Attempt {
    let (_, top) = fresh(world, "substituted")?;
    world.run(&["nix", "copy", "--no-check-sigs", "--to", NG, &top])?;
    let options = [
        "--option",
        "substituters",
        NG,
        "--option",
        "require-sigs",
        "false",
    ];
    world.on_laptop(&[&["nix-store", "-r", &top][..], &options].concat())?;
    same_on_laptop(world, &top)
}
