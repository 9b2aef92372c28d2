//! `cargo xtask demo`: accounts that do not trust each other build real software on one Firn.

mod machines;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use firn_testkit::{Client, Run, Server};

use crate::{root, setup, sources, table, target};

pub use machines::in_machines;

/// How one request was answered.
struct Row {
    account: String,
    derivation: String,
    rung: String,
    wall: Duration,
}

/// Prints as it goes; every step has its seconds.
struct Story {
    begun: Instant,
    step: usize,
}

impl Story {
    fn step<T>(&mut self, what: &str, act: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        Ok(self.timed(what, act)?.0)
    }

    fn timed<T>(
        &mut self,
        what: &str,
        act: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<(T, Duration)> {
        self.step += 1;
        println!("{:2}  {what}", self.step);
        let begun = Instant::now();
        let done = act().with_context(|| format!("step {}: {what}", self.step))?;
        let took = begun.elapsed();
        println!("    {:.1} s", took.as_secs_f64());
        Ok((done, took))
    }
}

/// Runs the story; with `keep` the server goes on until it is interrupted.
pub fn demo(keep: bool) -> anyhow::Result<()> {
    println!(
        "Firn: what has been built once is never built again, for anybody, and nobody trusts anybody.\n"
    );
    let mut story = Story {
        begun: Instant::now(),
        step: 0,
    };
    let sources_dir = target().join("demo-sources");
    story.step(
        "install what is missing (Nix, ssh, busybox), fetch the sources and check their hashes",
        || {
            setup::programs()?;
            sources::fetch(&root().join("demo/sources.json"), &sources_dir)?;
            sources::seed(&sources_dir)?;
            Ok(())
        },
    )?;
    let firn = story.step("compile firn", || setup::firn(false))?;
    let server = story.step("start `firn serve` with no configuration", || {
        Server::start(&firn)
    })?;
    println!(
        "    ssh on 127.0.0.1:{}, data in {}",
        server.port(),
        server.data_dir().display()
    );

    let [alice, bob, carol, dave] = story.step(
        "make the accounts alice, bob, carol and dave, each with a key and an empty Nix store",
        || {
            Ok([
                server.client("alice")?,
                server.client("bob")?,
                server.client("carol")?,
                server.client("dave")?,
            ])
        },
    )?;

    let (everything, alices) =
        story.timed("alice builds everything, with Firn as her remote builder", || {
            let drvs = instantiate(&alice, &sources_dir, "all")?;
            build(&alice, &drvs)?;
            Ok(drvs)
        })?;
    expect(&server, "alice", "built", everything.len())?;

    let (lines, bobs) = story.timed("bob, with a store of his own, asks for the same", || {
        build(&bob, &instantiate(&bob, &sources_dir, "all")?)
    })?;
    expect(&server, "bob", "reused", everything.len())?;
    quote(&lines, "firn: reused jq");

    let (library, program) = ("libbz2", "bzip2");
    let carols = story.step(
        &format!("carol has changed her {library}: other bytes, the same store path; she builds {program}"),
        || {
            let drvs = instantiate(&carol, &sources_dir, program)?;
            let library_path = output(&alice, &instantiate(&alice, &sources_dir, library)?)?;
            plant_changed(&alice, &carol, &library_path)?;
            build(&carol, &drvs)
        },
    )?;
    quote(&carols, &format!("firn: built {program}"));
    ensure!(
        rung_of(&server, "carol", program)? == "built",
        "carol must not get a result of other inputs"
    );

    let random = root().join("demo/random.nix");
    story.step("bob and dave ask for one new build at the same moment", || {
        let [bobs, daves] = [&bob, &dave].map(|c| c.nix.instantiate(&random, &[]));
        let (bobs, daves) = (bobs?, daves?);
        let (first, second) = std::thread::scope(|scope| {
            let first = scope.spawn(|| build(&bob, &bobs));
            let second = scope.spawn(|| build(&dave, &daves));
            (first.join(), second.join())
        });
        for run in [first, second] {
            run.map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        let out = output(&bob, &bobs)?;
        ensure!(
            bob.nix.nar_hash(&out)? == dave.nix.nar_hash(&out)?,
            "one run must give one answer"
        );
        Ok(())
    })?;
    let rungs: BTreeSet<String> = [
        rung_of(&server, "bob", "random")?,
        rung_of(&server, "dave", "random")?,
    ]
    .into();
    ensure!(
        rungs.contains("built") && rungs.len() == 2,
        "one run was expected, got {rungs:?}"
    );

    story.step(
        "compare every output of alice and bob, and run a program that bob never built",
        || {
            for drv in &everything {
                for out in alice.nix.outputs(drv)? {
                    ensure!(
                        alice.nix.nar_hash(&out)? == bob.nix.nar_hash(&out)?,
                        "{out} differs"
                    );
                }
            }
            let jq = output(&bob, &instantiate(&bob, &sources_dir, "jq")?)?;
            run_jq(&bob.nix.on_disk(&jq).join("bin/jq"))
        },
    )?;

    summary(&server, (alices, bobs), story.begun)?;
    if keep {
        println!(
            "\nFirn goes on (--keep). A client: ssh -F {} firn",
            alice.ssh_config.display()
        );
        println!("Stop it with Ctrl-C.");
        loop {
            std::thread::park();
        }
    }
    Ok(())
}

fn instantiate(client: &Client, sources: &Path, attribute: &str) -> anyhow::Result<Vec<String>> {
    let sources = sources.to_str().context("folder of the sources")?;
    client.nix.instantiate(
        &root().join("demo/default.nix"),
        &["--arg", "sources", sources, "-A", attribute],
    )
}

fn build(client: &Client, drvs: &[String]) -> anyhow::Result<Run> {
    client.realise("ssh-ng", drvs, &[])?.success()
}

fn output(client: &Client, drvs: &[String]) -> anyhow::Result<String> {
    let drv = drvs.first().context("no derivation")?;
    client.nix.outputs(drv)?.into_iter().next().context("no output")
}

/// Puts a changed copy of a path into another client's store, as if that client had built it so.
fn plant_changed(from: &Client, to: &Client, path: &str) -> anyhow::Result<()> {
    let references = from
        .nix
        .run("nix-store", &["--query", "--references", path])?
        .success()?
        .lines();
    ensure!(
        references.iter().all(|r| r == path),
        "the library should refer to nothing else, but to {references:?}"
    );
    let copy = to.nix.on_disk(path);
    if let Some(parent) = copy.parent() {
        std::fs::create_dir_all(parent)?;
    }
    ensure!(
        Command::new("cp")
            .arg("-a")
            .arg(from.nix.on_disk(path))
            .arg(&copy)
            .status()?
            .success(),
        "cp"
    );
    std::fs::write(copy.join("note"), "carol was here\n")?;
    to.nix.register(path, &references)
}

fn requests(server: &Server, account: &str) -> anyhow::Result<Vec<Row>> {
    let run = server
        .firn(&["builds", "--account", account, "--json", "--limit", "1000"])?
        .success()?;
    let rows: serde_json::Value = serde_json::from_str(&run.stdout)?;
    let rows = rows.as_array().context("a list")?;
    Ok(rows
        .iter()
        .rev()
        .map(|row| {
            let text = |key: &str| {
                row.get(key)
                    .and_then(|v| v.as_str())
                    .unwrap_or("failed")
                    .to_owned()
            };
            let path = text("derivation");
            Row {
                account: account.to_owned(),
                derivation: drv_name(&path).to_owned(),
                rung: text("rung"),
                wall: Duration::from_millis(
                    row.get("wall_ms")
                        .and_then(serde_json::Value::as_u64)
                        .unwrap_or(0),
                ),
            }
        })
        .collect())
}

/// `hello-2.10` of `/nix/store/…-hello-2.10.drv`.
fn drv_name(path: &str) -> &str {
    let base = path.rsplit('/').next().unwrap_or(path);
    base.get(33..).unwrap_or(path).trim_end_matches(".drv")
}

fn rung_of(server: &Server, account: &str, name: &str) -> anyhow::Result<String> {
    let rows = requests(server, account)?;
    let row = rows.into_iter().find(|row| row.derivation.starts_with(name));
    Ok(row
        .with_context(|| format!("{account} never asked for {name}"))?
        .rung)
}

fn expect(server: &Server, account: &str, rung: &str, count: usize) -> anyhow::Result<()> {
    let rows = requests(server, account)?;
    let matching = rows.iter().filter(|row| row.rung == rung).count();
    println!("    {matching} of {count} {rung}");
    ensure!(
        matching == count && rows.len() == count,
        "{count} {rung} were expected of {account}"
    );
    Ok(())
}

/// Shows what the client's own log said.
fn quote(run: &Run, start: &str) {
    if let Some(line) = run.stderr.lines().find(|line| line.contains(start)) {
        println!("    the client's log: {line}");
    }
}

fn run_jq(jq: &Path) -> anyhow::Result<()> {
    let output = Command::new(jq)
        .args(["-n", "-c", "[1, 2, 3] | map(. * 14)"])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    println!("    jq -n '[1, 2, 3] | map(. * 14)'  →  {}", text.trim());
    ensure!(text.trim() == "[14,28,42]", "jq is wrong");
    Ok(())
}

fn summary(server: &Server, times: (Duration, Duration), begun: Instant) -> anyhow::Result<()> {
    let mut by_derivation: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut order = Vec::new();
    let accounts = ["alice", "bob", "carol", "dave"];
    for account in accounts {
        for row in requests(server, account)? {
            if !order.contains(&row.derivation) {
                order.push(row.derivation.clone());
            }
            let seconds = row.wall.as_secs_f64();
            by_derivation
                .entry(row.derivation)
                .or_default()
                .insert(row.account, format!("{} {seconds:.1}", row.rung));
        }
    }
    let rows: Vec<Vec<String>> = order
        .iter()
        .map(|name| {
            let answers = by_derivation.get(name);
            let cell = |account: &&str| answers.and_then(|a| a.get(*account)).cloned().unwrap_or_default();
            std::iter::once(name.clone())
                .chain(accounts.iter().map(cell))
                .collect()
        })
        .collect();
    println!(
        "\nHow each request was answered, and the seconds until it was (waiting for a free processor included):\n"
    );
    print!(
        "{}",
        table::text(&["derivation", "alice", "bob", "carol", "dave"], &rows)
    );
    println!(
        "\nThe same set took alice {:.0} s and bob {:.0} s, copying included. All in all {:.0} s.",
        times.0.as_secs_f64(),
        times.1.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    if rows.is_empty() {
        bail!("nothing was built");
    }
    Ok(())
}
