//! Outputs with a known hash are fetched on the server: by Nix's own fetcher and by scripts, and once for everybody.

use std::net::{IpAddr, UdpSocket};

use firn_testkit::FileServer;

use crate::{Client, Run, Server, build, build_locally, rungs, server};

/// A server whose builds may reach an address of this machine, and the address; none with the reason printed.
fn start(build: &str) -> Option<(Server, IpAddr)> {
    let own = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        // Nothing is sent.
        socket.connect("1.1.1.1:53")?;
        socket.local_addr()
    });
    let Ok(own) = own.map(|address| address.ip()) else {
        eprintln!("skipped: this machine has no address but its loopback device's");
        return None;
    };
    let tun = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    if let Err(error) = tun {
        eprintln!("skipped: /dev/net/tun: {error}");
        return None;
    }
    let mut server = server()?;
    let toml = format!("[build]\nnetwork-allow = [\"{own}/32\"]\n{build}\n");
    server.configure(&toml).unwrap();
    server.kill();
    server.launch().unwrap();
    Some((server, own))
}

fn sha256(client: &Client, text: &str) -> String {
    let file = client.nix.dir().join("hashed");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let run = client
        .nix
        .run("nix-hash", &["--type", "sha256", "--flat", file])
        .unwrap();
    run.success().unwrap().stdout.trim().to_owned()
}

fn fetch(url: &str, hash: &str) -> String {
    format!("import <nix/fetchurl.nix> {{ url = \"{url}\"; sha256 = \"{hash}\"; }}")
}

fn script(name: &str, script: &str, hash: &str) -> String {
    format!(
        "derivation {{ name = \"{name}\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; args = [ \"-ec\" ''{script}'' ]; \
         outputHashMode = \"flat\"; outputHashAlgo = \"sha256\"; outputHash = \"{hash}\"; impureEnvVars = [ \"FIRN_CONFIG\" \"http_proxy\" ]; }}"
    )
}

/// Answered from what an earlier run gave.
fn reused(server: &Server, account: &str) -> usize {
    rungs(server, account)
        .iter()
        .filter(|rung| *rung == "reused")
        .count()
}

fn fails(run: &Run, texts: &[&str]) {
    assert!(!run.ok);
    for text in texts {
        assert!(run.stderr.contains(text), "'{text}' is not in: {}", run.stderr);
    }
}

#[test]
fn what_one_account_has_fetched_nobody_fetches_again() {
    let Some((server, address)) = start("") else {
        return;
    };
    let [alice, bob, local] = ["alice", "bob", "local"].map(|name| server.client(name).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let text = "what everybody wants\n";
    std::fs::write(dir.path().join("file.txt"), text).unwrap();
    let web = FileServer::start_on(address, dir.path()).unwrap();
    let url = format!("{}/file.txt", web.url());
    let hash = sha256(&alice, text);
    let expressions = [
        fetch(&url, &hash),
        // Nothing of the service's own environment is there.
        script(
            "script",
            &format!("test -z \"$FIRN_CONFIG$http_proxy\"; wget -q -O $out {url}"),
            &hash,
        ),
    ];
    // The oracle: Nix itself.
    let expected: Vec<String> = expressions
        .iter()
        .flat_map(|expression| build_locally(&local, expression))
        .collect();
    let mut built = Vec::new();
    for expression in &expressions {
        let run = build(&alice, "ssh-ng", expression).success().unwrap();
        built.extend(run.lines());
    }
    assert_eq!(built, expected);
    assert_eq!(rungs(&server, "alice"), ["built", "built"]);
    for out in &built {
        assert_eq!(alice.nix.nar_hash(out).unwrap(), local.nix.nar_hash(out).unwrap());
    }

    // Nobody is there to ask any more.
    drop(web);
    for (expression, out) in expressions.iter().zip(&built) {
        let run = build(&bob, "ssh-ng", expression).success().unwrap();
        assert_eq!(run.lines(), std::slice::from_ref(out));
    }
    assert_eq!(reused(&server, "bob"), 2, "{:?}", rungs(&server, "bob"));

    // Without a server what has not been fetched cannot be. The failure is nobody else's: the next one tries again.
    let other = fetch(&format!("{url}.other"), &hash);
    fails(
        &build(&alice, "ssh-ng", &other),
        &["unable to download", "Connection refused"],
    );
    let dead = build(&bob, "ssh-ng", &other);
    fails(&dead, &["unable to download"]);
    assert!(!dead.stderr.contains("it failed before"), "{}", dead.stderr);
}

#[test]
fn a_wrong_hash_is_told_in_nixs_words() {
    let Some((server, address)) = start("") else {
        return;
    };
    let alice = server.client("alice").unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file.txt"), "text\n").unwrap();
    let web = FileServer::start_on(address, dir.path()).unwrap();
    let wrong = sha256(&alice, "another text\n");
    let run = build(
        &alice,
        "ssh-ng",
        &fetch(&format!("{}/file.txt", web.url()), &wrong),
    );
    fails(
        &run,
        &[
            "hash mismatch in fixed-output derivation",
            "specified: sha256-",
            "got:    sha256-",
        ],
    );
    let run = build(
        &alice,
        "ssh-ng",
        &fetch(&format!("{}/none.txt", web.url()), &wrong),
    );
    fails(&run, &["HTTP error 404"]);
}

#[test]
fn an_operator_can_forbid_the_network() {
    let Some((server, address)) = start("network = \"none\"") else {
        return;
    };
    let alice = server.client("alice").unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file.txt"), "text\n").unwrap();
    let web = FileServer::start_on(address, dir.path()).unwrap();
    let url = format!("{}/file.txt", web.url());
    let hash = sha256(&alice, "text\n");
    let why = "the operator has switched it off (build.network)";
    let run = build(&alice, "ssh-ng", &fetch(&url, &hash));
    fails(&run, &["it fetches from the network", why]);
    let run = build(
        &alice,
        "ssh-ng",
        &script("fetching", &format!("wget -O $out {url}"), &hash),
    );
    fails(&run, &["note: it had no network", why]);
    // What needs none is built.
    build(&alice, "ssh-ng", &script("writing", "echo text > $out", &hash))
        .success()
        .unwrap();
}

/// Processes that have the device open which builds' networks are made of.
fn relays() -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let with_device = processes.filter(|process| {
        let fds = std::fs::read_dir(process.path().join("fd"));
        let targets = fds.into_iter().flatten().flatten();
        targets.map(|fd| std::fs::read_link(fd.path())).any(|target| {
            target.is_ok_and(|target| target.to_str().is_some_and(|target| target.contains("net/tun")))
        })
    });
    with_device.count()
}

#[test]
fn nothing_of_a_network_survives_the_service() {
    let Some((mut server, _)) = start("") else { return };
    let alice = server.client("alice").unwrap();
    let before = relays();
    let hash = sha256(&alice, "never\n");
    let expression = script("waiting", "sleep 600", &hash);
    let drvs = alice
        .nix
        .instantiate(&alice.nix.expression(&expression).unwrap(), &[])
        .unwrap();
    let waiting = std::thread::spawn(move || alice.realise("ssh-ng", &drvs, &[]).unwrap());
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let since = std::time::Instant::now();
        while !holds() {
            assert!(since.elapsed().as_secs() < 60, "waited too long for {what}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    until("the build's network", &|| relays() > before);
    server.kill();
    assert!(!waiting.join().unwrap().ok);
    until("its end", &|| relays() <= before);
}
