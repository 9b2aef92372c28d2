//! Builders that Nix has built in, beside Nix.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use firn_builder::FixedOutputs;
use firn_nix::HashAlgo;
use firn_service::ports::RunFailure;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;

use super::Pair;
use super::web::{Web, not_found, ok, own_address};

/// What a command writes.
fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", output.stderr.escape_ascii());
    output.stdout
}

fn run(program: &str, args: &[&str], dir: &Path) -> Vec<u8> {
    output(Command::new(program).args(args).current_dir(dir))
}

fn sha256(bytes: &[u8]) -> String {
    HashAlgo::Sha256.digest(bytes).hex()
}

/// A tree with what a NAR can hold.
fn tree(dir: &Path) {
    std::fs::create_dir_all(dir.join("tree/sub")).unwrap();
    std::fs::write(dir.join("tree/file"), "contents").unwrap();
    std::fs::write(dir.join("tree/sub/run"), "#!/bin/sh\n").unwrap();
    run("chmod", &["+x", "tree/sub/run"], dir);
    std::os::unix::fs::symlink("sub/run", dir.join("tree/link")).unwrap();
}

#[tokio::test]
async fn files_are_fetched() {
    let Some(mut pair) = Pair::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let nar = output(
        Command::new("nix-store")
            .args(["--dump"])
            .arg(dir.path().join("tree")),
    );
    std::fs::write(dir.path().join("nar"), &nar).unwrap();
    let xz = run("xz", &["-c", "nar"], dir.path());
    let (nar_hash, big) = (sha256(&nar), vec![b'x'; 3_000_000]);
    let big_hash = sha256(&big);
    let Some(web) = Web::start(move |path| match path {
        "/file" => ok("a file\n"),
        "/big" => ok(big.clone()),
        "/moved" => ("302 Found", "Location: /file\r\n".into(), Vec::new()),
        "/tree.nar" => ok(nar.clone()),
        "/tree.nar.xz" => ok(xz.clone()),
        _ => not_found(),
    }) else {
        return;
    };
    pair.firn = web.allowed(pair.firn);
    let fetch = |attributes: &str| format!("import <nix/fetchurl.nix> {{ {attributes} }}");
    let hash = sha256(b"a file\n");
    for (path, hash) in [("file", &hash), ("moved", &hash), ("big", &big_hash)] {
        pair.agree(&fetch(&format!(
            "url = \"{}\"; sha256 = \"{hash}\";",
            web.url(path)
        )))
        .await;
    }
    for path in ["tree.nar", "tree.nar.xz"] {
        let url = web.url(path);
        pair.agree(&fetch(&format!(
            "url = \"{url}\"; unpack = true; hash = \"\"; sha256 = \"{nar_hash}\";"
        )))
        .await;
    }
    let url = web.url("file");
    // An executable's hash is that of its NAR, which is not known here; both tell the same.
    let wrong = sha256(b"");
    for attributes in ["executable = true;", "unpack = false;"] {
        let failure = pair
            .refuse_alike(&fetch(&format!(
                "url = \"{url}\"; sha256 = \"{wrong}\"; {attributes}"
            )))
            .await;
        assert!(failure.to_string().contains("hash mismatch"), "{failure}");
    }
    assert_eq!(web.requests(), 2 * 8 - 1 + 1);
}

#[tokio::test]
async fn what_cannot_be_fetched_is_told() {
    let Some(mut pair) = Pair::new() else { return };
    let Some(web) = Web::start(|path| match path {
        "/nar" => ok("no archive"),
        "/loop" => ("302 Found", "Location: /loop\r\n".into(), Vec::new()),
        _ => not_found(),
    }) else {
        return;
    };
    pair.firn = web.allowed(pair.firn);
    let cases = [
        (web.url("none"), "", &["HTTP error 404", "no such page"][..]),
        (web.url("nar"), "unpack = true;", &["cannot unpack"]),
        (web.url("loop"), "", &["unable to download"]),
        ("ftp://localhost/x".into(), "", &["'ftp' is not supported"]),
        ("https://localhost/x".into(), "", &["no certificates to trust"]),
        ("file:///etc/shadow".into(), "", &["/etc/shadow"]),
    ];
    for (url, more, expected) in cases {
        let (path, drv) = pair.nix.instantiate(&format!(
            "import <nix/fetchurl.nix> {{ url = \"{url}\"; sha256 = \"{}\"; {more} }}",
            sha256(b"")
        ));
        let inputs = pair.firn.import(&pair.nix, &drv).await;
        let failure = pair.firn.build(&path, &drv, inputs).await.unwrap_err();
        let RunFailure::Builder(text) = &failure else {
            panic!("{failure:?}")
        };
        for expected in expected {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
        assert!(pair.firn.is_tidy());
    }
}

/// A server's certificate and key, and the PEM file of who signed it.
fn certificate(address: std::net::IpAddr, pem: &Path) -> Arc<ServerConfig> {
    let name = address.to_string();
    let signed = rcgen::generate_simple_self_signed([name]).unwrap();
    std::fs::write(pem, signed.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(signed.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key);
    Arc::new(config.unwrap())
}

#[tokio::test]
async fn servers_show_certificates_that_the_operator_trusts() {
    let Some(pair) = Pair::new() else { return };
    let Some(address) = own_address() else { return };
    let dir = tempfile::tempdir().unwrap();
    let [trusted, other] = ["trusted.pem", "other.pem"].map(|name| dir.path().join(name));
    certificate(address, &other);
    let tls = certificate(address, &trusted);
    let Some(web) = Web::start_with(Some(tls), |_| ok("a file\n")) else {
        return;
    };
    let url = format!("https://{}/file", web.address());
    let (path, drv) = pair.nix.instantiate(&format!(
        "import <nix/fetchurl.nix> {{ url = \"{url}\"; sha256 = \"{}\"; }}",
        sha256(b"a file\n")
    ));
    let mut firn = pair.firn;
    for (file, why) in [
        (Some(other), "certificate"),
        (None, "no certificates to trust"),
        (Some(trusted), ""),
    ] {
        firn = firn.changed(|config| {
            config.fixed = FixedOutputs {
                network: Ok(vec![format!("{address}/32").parse().unwrap()]),
                ca_file: file,
                ..FixedOutputs::without_network("")
            };
        });
        let inputs = firn.import(&pair.nix, &drv).await;
        match firn.build(&path, &drv, inputs).await {
            Ok(_) => assert_eq!(why, ""),
            Err(failure) => assert!(!why.is_empty() && failure.to_string().contains(why), "{failure}"),
        }
    }
}

#[tokio::test]
async fn the_operators_proxy_is_asked() {
    let Some(pair) = Pair::new() else { return };
    let Some(web) = Web::start(|path| match path {
        "http://no.such.host.invalid/file" => ok("by proxy\n"),
        _ => not_found(),
    }) else {
        return;
    };
    let firn = web.allowed(pair.firn).changed(|config| {
        config.fixed = FixedOutputs {
            network: Ok(vec![format!("{}/32", web.address().ip()).parse().unwrap()]),
            variables: [("http_proxy".to_owned(), web.url(""))].into(),
            ca_file: None,
        };
    });
    let (path, drv) = pair.nix.instantiate(&format!(
        "import <nix/fetchurl.nix> {{ url = \"http://no.such.host.invalid/file\"; sha256 = \"{}\"; }}",
        sha256(b"by proxy\n")
    ));
    let inputs = firn.import(&pair.nix, &drv).await;
    firn.build(&path, &drv, inputs).await.unwrap();
}

#[tokio::test]
async fn nothing_is_fetched_without_a_network() {
    let Some(pair) = Pair::new() else { return };
    let (path, drv) = pair.nix.instantiate(&format!(
        "import <nix/fetchurl.nix> {{ url = \"http://localhost/\"; sha256 = \"{}\"; }}",
        sha256(b"")
    ));
    let inputs = pair.firn.import(&pair.nix, &drv).await;
    let failure = pair.firn.build(&path, &drv, inputs).await.unwrap_err();
    let RunFailure::InputRejected(text) = &failure else {
        panic!("{failure:?}")
    };
    assert!(text.contains("the test has none"), "{text}");
}

#[tokio::test]
async fn channels_are_unpacked() {
    let Some(pair) = Pair::new() else { return };
    let dir = pair.nix.dir.path();
    tree(dir);
    std::fs::hard_link(dir.join("tree/file"), dir.join("tree/hard")).unwrap();
    std::fs::write(dir.join(format!("tree/{}", "long".repeat(50))), "").unwrap();
    for option in ["-c", "-cz", "-cj", "-cJ", "--zstd -c"] {
        let mut args: Vec<&str> = option.split(' ').collect();
        args.extend(["-f", "archive", "tree"]);
        run("tar", &args, dir);
        pair.agree(
            "derivation { name = \"channel\"; system = \"builtin\"; builder = \"builtin:unpack-channel\"; \
             channelName = \"nixpkgs\"; src = ./archive; }",
        )
        .await;
    }
    std::fs::write(dir.join("second"), "").unwrap();
    run("tar", &["-cf", "archive", "tree", "second"], dir);
    let failure = pair
        .refuse(
            "derivation { name = \"channel\"; system = \"builtin\"; builder = \"builtin:unpack-channel\"; \
             channelName = \"nixpkgs\"; src = ./archive; }",
        )
        .await
        .1;
    assert!(failure.to_string().contains("more than one file"), "{failure}");
}

/// A package with these files, as Nix's own buildenv.nix takes it.
fn package(dir: &Path, name: &str, files: &[&str], attributes: &str) -> String {
    for file in files {
        let file = dir.join(name).join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, format!("{name} {}", file.display())).unwrap();
    }
    format!(
        "{{ outputs = [ \"out\" ]; out = builtins.path {{ path = ./{name}; name = \"{name}\"; }}; meta = {{ {attributes} }}; }}"
    )
}

/// As Nix's own buildenv.nix has it.
fn environment(packages: &[String]) -> String {
    format!(
        "derivation {{ name = \"user-environment\"; system = \"builtin\"; builder = \"builtin:buildenv\"; \
         manifest = builtins.toFile \"manifest\" \"[]\"; \
         derivations = map (d: [ (d.meta.active or \"true\") (d.meta.priority or 5) (builtins.length d.outputs) ] \
         ++ map (output: builtins.getAttr output d) d.outputs) [ {} ]; }}",
        packages.join(" ")
    )
}

#[tokio::test]
async fn profiles_are_built() {
    let Some(pair) = Pair::new() else { return };
    let dir = pair.nix.dir.path();
    let first = package(
        dir,
        "first",
        &[
            "bin/a",
            "bin/both",
            "share/deep/er/one",
            "share/info/dir",
            "lib/log",
            ".hidden",
            "manifest.nix",
        ],
        "",
    );
    let second = package(
        dir,
        "second",
        &["bin/b", "bin/both", "share/deep/er/two", "etc/x"],
        "priority = 7;",
    );
    let inactive = package(dir, "inactive", &["bin/never"], "active = \"false\";");
    std::os::unix::fs::symlink("nowhere", dir.join("second/bin/dangling")).unwrap();
    std::os::unix::fs::symlink("share", dir.join("second/linked")).unwrap();
    let carrier = "(let d = sh \"carrier\" \"mkdir -p $out/bin $out/nix-support; echo > $out/bin/carrier; \
         echo ${carried} > $out/nix-support/propagated-user-env-packages\" {}; \
         carried = sh \"carried\" \"mkdir -p $out/bin; echo > $out/bin/carried; echo > $out/bin/a\" {}; in d // { outputs = [ \"out\" ]; })"
        .to_owned();
    pair.agree(&environment(&[])).await;
    pair.agree(&environment(&[first.clone(), second.clone(), inactive, carrier]))
        .await;
    pair.agree(&environment(&[second.clone(), first.clone()])).await;

    let same = package(dir, "same", &["bin/a"], "");
    let failure = pair.refuse_alike(&environment(&[first.clone(), same])).await;
    assert!(
        failure.to_string().contains("failed with exit code 1"),
        "{failure}"
    );
    let odd = package(dir, "odd", &["bin"], "priority = 3;");
    pair.refuse_alike(&environment(&[first, odd])).await;
}
