//! Real Nix in the storm.

use std::process::{Child, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use firn_nix::{NarHash, StorePath};

use super::Storm;
use super::random::Random;
use crate::{Client, build_locally, derivation};

const URL: &str = "ssh-ng://firn";

/// One client until the storm is over; its store, to keep it as long as it is wanted.
pub fn run(storm: &Storm, client: Client, account: &str, mut random: Random) -> Client {
    let mut made = 0;
    while !storm.is_over() {
        made += 1;
        let name = format!("{account}-{made}");
        if random.one_in(2) {
            let out =
                build_locally(&client, &derivation(&name, "head -c 200000 /dev/urandom > $out")).remove(0);
            expect(storm, &client, account, &out);
            let copied = start(&client, &["nix", "copy", "--no-check-sigs", "--to", URL, &out]);
            if ended_well(storm, copied, &mut random) {
                storm
                    .memory
                    .acknowledge(account, &StorePath::parse(out.as_bytes()).unwrap());
            }
        } else {
            // What is not deterministic can only have the bytes that the client got.
            let expression = derivation(&name, "sleep 0.2; head -c 1000 /dev/urandom > $out");
            let nix = &client.nix;
            let drv = nix
                .instantiate(&nix.expression(&expression).unwrap(), &[])
                .unwrap()
                .remove(0);
            let builders = format!("{URL} x86_64-linux - 8 1 - - -");
            let words = [
                "nix-store",
                "--realise",
                "--max-jobs",
                "0",
                "--builders",
                &builders,
                &drv,
            ];
            let built = start(&client, &words);
            if ended_well(storm, built, &mut random) {
                let run = nix.run("nix-store", &["--query", "--outputs", &drv]).unwrap();
                let out = run.success().unwrap().lines().remove(0);
                expect(storm, &client, account, &out);
                storm
                    .memory
                    .acknowledge(account, &StorePath::parse(out.as_bytes()).unwrap());
            }
        }
    }
    client
}

fn expect(storm: &Storm, client: &Client, account: &str, out: &str) {
    let hash = client.nix.nar_hash(out).unwrap();
    let path = StorePath::parse(out.as_bytes()).unwrap();
    storm
        .memory
        .expect(account, &path, NarHash::parse(&hash).unwrap());
}

fn start(client: &Client, words: &[&str]) -> Child {
    let mut command = client.nix.command(words[0], true);
    command
        .args(&words[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Waits for the client, or kills it in the middle.
fn ended_well(storm: &Storm, mut child: Child, random: &mut Random) -> bool {
    let patience = if random.one_in(4) {
        random.between(50, 1500)
    } else {
        60_000
    };
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(patience) {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    storm.disconnects.fetch_add(1, Ordering::Relaxed);
    child.kill().unwrap();
    child.wait().unwrap();
    false
}
