//! Content-addressed outputs that refer to themselves. Versions of Nix give them different paths; each checks its own.

use std::path::Path;

use firn_testkit::{Client, Run, Server};

use crate::Row;
use crate::world::{Attempt, NG, OLD, Trouble, World, derivation, expect, left_to, wrong};

const GROUP: &str = "Content-addressed outputs that refer to themselves";

pub const ROWS: &[Row] = &[
    (GROUP, "built, `builders = ssh-ng://…`", |w| builder(w, NG)),
    (GROUP, "built, `builders = ssh://…`", |w| builder(w, OLD)),
    (GROUP, "built, `--store ssh-ng://… --eval-store auto`", store),
    (GROUP, "copied to `ssh-ng://…` and from there", |w| {
        copied(w, NG)
    }),
    (GROUP, "copied to `ssh://…` and from there", |w| copied(w, OLD)),
    (
        GROUP,
        "`nix-store --export`, then `--import --store ssh-ng://…`",
        imported,
    ),
    (
        GROUP,
        "made by `nix store make-content-addressed`, copied",
        rewritten,
    ),
];

/// Three packages, one on the other, each of which mentions itself; one has two outputs.
fn chain(name: &str) -> String {
    format!(
        r#"let
          make = name: more: script: derivation ({{
            name = "{name}-${{name}}"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-ec" script ];
            __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256";
          }} // more);
          low = make "low" {{ outputs = [ "out" "lib" ]; }} ''
            mkdir $out $lib; echo $lib $lib > $lib/self; echo "low of $lib at $out" > $out/low; ln -s $out $out/link'';
          middle = make "middle" {{ inherit low; inherit (low) lib; }} ''
            mkdir $out; read text < $low/low; echo "$text, $lib, $out" > $out/copy'';
        in make "top" {{ inherit middle; }} ''
            mkdir $out; read text < $middle/copy; echo "$text" > $out/text; echo $middle > $out/needs; echo $out > $out/self''"#
    )
}

/// A machine of the account's with an empty store, on which what follows is allowed.
fn machine(world: &World, name: &str) -> Result<Client, Trouble> {
    Ok(able(world.another(name)?))
}

fn able(mut client: Client) -> Client {
    let features = "experimental-features = nix-command ca-derivations";
    client.nix.set("NIX_CONFIG", features);
    client
}

fn done(client: &Client, words: &[&str]) -> Result<Run, Trouble> {
    let run = client.nix.run(words[0], &words[1..])?;
    match run.ok {
        true => Ok(run),
        false => wrong(format!(
            "{} failed: {}{}",
            words.join(" "),
            run.stdout,
            run.stderr
        )),
    }
}

/// Builds on the client itself; the output's path.
fn locally(client: &Client, expression: &str) -> Result<String, Trouble> {
    let drvs = client.nix.instantiate(&client.nix.expression(expression)?, &[])?;
    let mut words = vec!["nix-store", "--realise", "--builders", "", "--max-jobs", "2"];
    words.extend(["--option", "sandbox-paths", "/bin/sh=/bin/busybox"]);
    words.extend(drvs.iter().map(String::as_str));
    Ok(done(client, &words)?.lines().remove(0))
}

/// The paths of a closure with the hashes of their bytes.
fn closure(client: &Client, path: &str) -> Result<Vec<(String, String)>, Trouble> {
    let paths = done(client, &["nix-store", "--query", "--requisites", path])?.lines();
    let mut hashes = Vec::new();
    for path in paths {
        hashes.push((client.nix.nar_hash(&path)?, path));
    }
    hashes.sort();
    Ok(hashes)
}

/// What Nix of this version makes of it is what the client has now.
fn as_from_nix(world: &World, name: &str, client: &Client, out: &str) -> Attempt {
    let local = machine(world, &format!("{name}-local"))?;
    let built = locally(&local, &chain(name))?;
    expect(built == out, (&built, out))?;
    let both = (closure(&local, out)?, closure(client, out)?);
    expect(both.0.len() == 4 && both.0 == both.1, &both)
}

fn builder(world: &World, uri: &str) -> Attempt {
    let name = format!("built-{}", uri.len());
    let client = machine(world, &name)?;
    let out = remotely(&client, uri, &chain(&name))?;
    as_from_nix(world, &name, &client, &out)
}

/// Builds with Firn as the only builder; the output's path.
fn remotely(client: &Client, uri: &str, expression: &str) -> Result<String, Trouble> {
    let drv = client
        .nix
        .instantiate(&client.nix.expression(expression)?, &[])?
        .remove(0);
    let builders = format!("{uri} x86_64-linux - 32 1 ca-derivations - -");
    let run = done(client, &left_to(&builders, &["nix-store", "--realise", &drv]))?;
    Ok(run.lines().remove(0))
}

fn store(world: &World) -> Attempt {
    let client = machine(world, "in-store")?;
    let run = client.build_in_store(&chain("in-store"), &[])?;
    if !run.ok {
        return wrong(run.stderr);
    }
    let told: serde_json::Value = serde_json::from_str(&run.stdout).unwrap_or_default();
    let out = told[0]["outputs"]["out"].as_str().unwrap_or_default();
    // Without a signature: the client's own check of the content address is all that lets it in.
    done(&client, &["nix", "copy", "--from", NG, out])?;
    as_from_nix(world, "in-store", &client, out)
}

fn copied(world: &World, uri: &str) -> Attempt {
    let name = format!("copied-{}", uri.len());
    let (from, to) = (machine(world, &name)?, machine(world, &format!("{name}-to"))?);
    let out = locally(&from, &chain(&name))?;
    done(&from, &["nix", "copy", "--no-check-sigs", "--to", uri, &out])?;
    done(&to, &["nix", "copy", "--from", uri, &out])?;
    let both = (closure(&from, &out)?, closure(&to, &out)?);
    expect(both.0.len() == 4 && both.0 == both.1, &both)
}

/// An export stream says nothing of content addresses: what comes so is an upload like any other.
fn imported(world: &World) -> Attempt {
    let (from, to) = (machine(world, "exported")?, machine(world, "exported-to")?);
    let out = locally(&from, &chain("exported"))?;
    let paths = done(&from, &["nix-store", "--query", "--requisites", &out])?.lines();
    let file = from.nix.dir().join("export");
    let exported = from
        .nix
        .command("nix-store", true)
        .arg("--export")
        .args(&paths)
        .stdout(std::fs::File::create(&file)?)
        .status()?;
    expect(exported.success(), exported)?;
    let import = from
        .nix
        .command("nix-store", false)
        .args(["--import", "--store", NG])
        .stdin(std::fs::File::open(&file)?)
        .output()?;
    expect(import.status.success(), import.stderr.escape_ascii().to_string())?;
    done(&to, &["nix", "copy", "--no-check-sigs", "--from", NG, &out])?;
    let both = (closure(&from, &out)?, closure(&to, &out)?);
    expect(both.0.len() == 4 && both.0 == both.1, &both)
}

fn rewritten(world: &World) -> Attempt {
    let (from, to) = (machine(world, "rewritten")?, machine(world, "rewritten-to")?);
    let plain = derivation(
        "rewritten",
        "mkdir $out; echo $out > $out/self; ln -s $out $out/link",
    );
    let out = locally(&from, &plain)?;
    let run = done(&from, &["nix", "store", "make-content-addressed", "--json", &out])?;
    let told: serde_json::Value = serde_json::from_str(&run.stdout).unwrap_or_default();
    let made = told["rewrites"][&out].as_str().unwrap_or_default();
    for uri in [NG, OLD] {
        done(&from, &["nix", "copy", "--to", uri, made])?;
        done(&to, &["nix", "copy", "--from", uri, made])?;
    }
    let both = (closure(&from, made)?, closure(&to, made)?);
    expect(both.0.len() == 1 && both.0 == both.1, &both)
}

/// Two machines of one account that compute different content addresses, one after the other and again.
#[test]
fn versions_that_differ_keep_their_own() {
    let root = match (crate::prepared("trixie"), firn_testkit::missing()) {
        (Ok(root), None) => root.unwrap(),
        (Err(reason), _) | (_, Some(reason)) => {
            eprintln!("skipped: {reason}");
            return;
        }
    };
    let server = Server::start(Path::new(env!("CARGO_BIN_EXE_firn"))).unwrap();
    let one = |folder: &str| able(server.another_client("alice", folder).unwrap());
    let other = |folder: &str| {
        let mut client = one(folder);
        client.nix.enter(&root);
        client
    };
    server
        .firn(&["account", "add", "alice"])
        .unwrap()
        .success()
        .unwrap();
    let chain = chain("kept");
    let local = [one("local"), other("other-local")].map(|client| built(locally(&client, &chain)));
    if local[0] == local[1] {
        eprintln!("skipped: the installed Nix computes the same content addresses as Debian's");
        return;
    }
    for uri in [NG, OLD] {
        for round in 0..2 {
            let folder = format!("{round}-{}", uri.len());
            let clients = [one(&folder), other(&format!("other-{folder}"))];
            let outs = [&clients[0], &clients[1]].map(|client| built(remotely(client, uri, &chain)));
            assert_eq!(outs, local, "{uri} {round}");
        }
    }
    // What the other one has comes with a signature, or without checks; never with an address that is found wrong.
    let client = other("copies");
    let copy = ["nix", "copy", "--no-check-sigs", "--from", NG, &local[0]];
    built(done(&client, &copy));
    assert_eq!(built(closure(&client, &local[0])).len(), 4);
}

fn built<T>(tried: Result<T, Trouble>) -> T {
    match tried {
        Ok(done) => done,
        Err(Trouble::Cannot(why) | Trouble::Wrong(why)) => panic!("{why}"),
    }
}
