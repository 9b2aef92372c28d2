//! The demo's packages by plain Nix, in namespaces and in virtual machines: the same bytes.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use firn_testkit::{Client, Nix, Server};

use super::{Story, build, drv_name, requests};
use crate::sandbox::Sandbox;
use crate::{root, setup, sources, table, target};

/// `names` are attributes of the demo, with commas between them. What they use is built, too.
///
/// # Errors
/// When something cannot be built, or has other bytes.
pub fn in_machines(names: &str) -> anyhow::Result<()> {
    let mut story = Story {
        begun: Instant::now(),
        step: 0,
    };
    let sources_dir = target().join("demo-sources");
    let firn = story.step("install what is missing, fetch the sources, compile firn", || {
        setup::programs()?;
        sources::fetch(&root().join("demo/sources.json"), &sources_dir)?;
        sources::seed(&sources_dir)?;
        setup::firn(false)
    })?;
    let instantiate = |nix: &Nix| -> anyhow::Result<Vec<String>> {
        let folder = sources_dir.to_str().context("folder of the sources")?;
        let mut arguments = vec!["--arg", "sources", folder];
        names.split(',').for_each(|name| arguments.extend(["-A", name]));
        nix.instantiate(&root().join("demo/default.nix"), &arguments)
    };

    let plain = Nix::new(&std::path::absolute(target().join("demo-reference"))?)?;
    let drvs = story.step("plain Nix builds them, in its sandbox", || {
        let drvs = instantiate(&plain)?;
        let mut arguments = vec!["--realise", "--builders", ""];
        arguments.extend(drvs.iter().map(String::as_str));
        plain.run("nix-store", &arguments)?.success()?;
        Ok(drvs)
    })?;
    let mut server = Server::start(&firn)?;
    story.step("start Firn with machines, and prepare them", || {
        Sandbox::restart(&[Sandbox::Namespaces, Sandbox::Machines], &mut server, "")
    })?;
    let accounts = ["namespaces", "vm"];
    let mut clients = Vec::new();
    for account in accounts {
        let client = server.client(account)?;
        story.step(&format!("account {account} builds them in its sandbox"), || {
            ensure!(
                instantiate(&client.nix)? == drvs,
                "they evaluate to other derivations"
            );
            client
                .ssh(&["api", "settings", "set", "sandbox", account])?
                .success()
                .context("the account's settings")?;
            build(&client, &drvs)
        })?;
        clients.push(client);
    }
    compare(&server, &plain, accounts, &clients)
}

fn compare(server: &Server, plain: &Nix, accounts: [&str; 2], clients: &[Client]) -> anyhow::Result<()> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut seconds: BTreeMap<(&str, String), String> = BTreeMap::new();
    for account in accounts {
        for row in requests(server, account)? {
            ensure!(
                row.rung == "built",
                "{} of account {account}: {}",
                row.derivation,
                row.rung
            );
            seconds.insert(
                (account, row.derivation),
                format!("{:.1}", row.wall.as_secs_f64()),
            );
        }
    }
    let mut differing = 0;
    // What stands in the first client's store is what was built, and its sources.
    let first = clients.first().context("no client")?;
    for drv in derivations(first)? {
        let name = drv_name(&drv);
        let Some(took) = seconds.get(&(accounts[0], name.to_owned())) else {
            continue;
        };
        let mut row = vec![name.to_owned(), took.clone()];
        row.extend(seconds.get(&(accounts[1], name.to_owned())).cloned());
        let mut verdict = "equal";
        for out in first.nix.outputs(&drv)? {
            let expected = plain.nar_hash(&out)?;
            for client in clients {
                if client.nix.nar_hash(&out)? != expected {
                    verdict = "DIFFERS";
                }
            }
        }
        differing += usize::from(verdict != "equal");
        row.push(verdict.to_owned());
        rows.push(row);
    }
    println!(
        "\nSeconds from request to answer (waiting for other builds included), and the outputs of both against plain Nix:\n"
    );
    let head = ["derivation", accounts[0], accounts[1], "outputs"];
    print!("{}", table::text(&head, &rows));
    ensure!(differing == 0, "{differing} derivations have other bytes");
    ensure!(rows.len() * 2 == seconds.len(), "not everything was compared");
    Ok(())
}

/// Everything with an output in the store that was made by a derivation.
fn derivations(client: &Client) -> anyhow::Result<Vec<String>> {
    let dir = client.nix.on_disk("/nix/store");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_str().context("a store path")?;
        if name.ends_with(".drv") {
            found.push(format!("/nix/store/{name}"));
        }
    }
    found.sort_by(|a, b| drv_name(a).cmp(drv_name(b)));
    Ok(found)
}
