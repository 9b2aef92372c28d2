//! Outputs with an expected hash.

use std::collections::BTreeMap;

use firn_builder::FixedOutputs;
use firn_nix::{Hash, HashAlgo};
use firn_service::ports::RunFailure;

use super::Pair;
use super::web::{Web, ok};

fn flat(algo: HashAlgo, contents: &[u8]) -> String {
    let hash = algo.digest(contents).hex();
    format!(
        "outputHashMode = \"flat\"; outputHashAlgo = \"{}\"; outputHash = \"{hash}\";",
        algo.name()
    )
}

#[tokio::test]
async fn flat_hashes() {
    let Some(pair) = Pair::new() else { return };
    for algo in HashAlgo::ALL {
        let attrs = flat(algo, b"hello\n");
        pair.agree(&format!(r#"sh "fixed" "echo hello > $out" {{ {attrs} }}"#))
            .await;
    }
}

#[tokio::test]
async fn the_environment_of_fixed_outputs() {
    let Some(pair) = Pair::new() else { return };
    let attrs = flat(HashAlgo::Sha256, b"1 unset: set\n");
    pair.agree(&format!(
        r#"sh "fixed" "echo $NIX_OUTPUT_CHECKED \${{absent-unset}}: \${{FIRN_TEST_ABSENT+set}} > $out" {{
            impureEnvVars = [ "FIRN_TEST_ABSENT" ]; NIX_OUTPUT_CHECKED = "mine"; {attrs}
        }}"#
    ))
    .await;
}

#[tokio::test]
async fn recursive_hashes() {
    let Some(pair) = Pair::new() else { return };
    let script = "mkdir $out; echo hello > $out/file; chmod +x $out/file";
    for algo in HashAlgo::ALL {
        let attrs = |hash: &str| {
            format!(
                "outputHashMode = \"recursive\"; outputHashAlgo = \"{}\"; outputHash = \"{hash}\";",
                algo.name()
            )
        };
        let wrong = attrs(&"0".repeat(algo.len() * 2));
        let failure = pair
            .refuse_alike(&format!(r#"sh "fixed" "{script}" {{ {wrong} }}"#))
            .await;
        let RunFailure::OutputRejected(text) = failure else {
            panic!("{failure:?}")
        };
        let got = text.rsplit_once("got:    ").unwrap().1;
        let right = attrs(&Hash::parse(got, None).unwrap().hex());
        pair.agree(&format!(r#"sh "fixed" "{script}" {{ {right} }}"#))
            .await;
    }
}

#[tokio::test]
async fn mismatches() {
    let Some(pair) = Pair::new() else { return };
    let attrs = flat(HashAlgo::Sha256, b"hello\n");
    for script in [
        "echo other > $out",
        "mkdir $out",
        "ln -s x $out",
        "echo hello > $out; chmod +x $out",
    ] {
        let (said, failure) = pair
            .refuse(&format!(r#"sh "fixed" "{script}" {{ {attrs} }}"#))
            .await;
        let RunFailure::OutputRejected(text) = failure else {
            panic!("{failure:?}")
        };
        let (ours, theirs) = (text.replace("'/nix/store", ""), said.replace("'/nix/store", ""));
        assert!(
            theirs.contains("should be a non-executable regular file")
                == ours.contains("should be a non-executable regular file"),
            "{ours} / {theirs}"
        );
    }
}

#[tokio::test]
async fn references_of_fixed_outputs() {
    let Some(pair) = Pair::new() else { return };
    let (path, drv) = pair.nix.instantiate(&format!(
        r#"sh "fixed" "echo ${{bb}} > $out" {{ {} }}"#,
        // Depends on the path of `bb`, so the hash is not known here; the reference must be what is reported.
        flat(HashAlgo::Sha256, b"")
    ));
    let inputs = pair.firn.import(&pair.nix, &drv).await;
    let bb = inputs.objects().next().unwrap().path.to_string();
    let attrs = flat(HashAlgo::Sha256, format!("{bb}\n").as_bytes());
    let _ = path;
    let (path, drv) = pair
        .nix
        .instantiate(&format!(r#"sh "fixed" "echo ${{bb}} > $out" {{ {attrs} }}"#));
    let failure = pair.firn.build(&path, &drv, inputs).await.unwrap_err();
    let RunFailure::OutputRejected(text) = failure else {
        panic!("{failure:?}")
    };
    assert!(
        text.contains("must not reference store paths") && text.contains(&bb),
        "{text}"
    );
}

/// A script that writes the last line of a page, and its hash.
fn fetching(web: &Web, page: &str) -> String {
    let url = web.url(page);
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let (address, port) = host.rsplit_once(':').unwrap();
    format!("printf 'GET /{path} HTTP/1.0\\r\\n\\r\\n' | nc {address} {port} | tail -n 1 > $out")
}

#[tokio::test]
async fn fixed_outputs_have_a_network_and_others_have_none() {
    let Some(mut pair) = Pair::new() else { return };
    let Some(web) = Web::start(|_| ok("the page\n")) else {
        return;
    };
    let script = fetching(&web, "page");
    let attrs = flat(HashAlgo::Sha256, b"the page\n");

    // Not where the address is forbidden.
    let forbidden = pair.firn.changed(|config| {
        config.fixed = FixedOutputs {
            network: Ok(Vec::new()),
            ..FixedOutputs::without_network("")
        };
    });
    pair.firn = forbidden;
    let expression = format!(r#"sh "fixed" "{script}" {{ {attrs} }}"#);
    let (path, drv) = pair.nix.instantiate(&expression);
    let inputs = pair.firn.import(&pair.nix, &drv).await;
    let failure = pair.firn.build(&path, &drv, inputs).await.unwrap_err();
    assert!(matches!(failure, RunFailure::OutputRejected(_)), "{failure}");
    assert_eq!(web.requests(), 0);

    pair.firn = web.allowed(pair.firn);
    pair.agree(&expression).await;
    assert_eq!(web.requests(), 2);
    // What is no fixed output has none, here as there.
    pair.agree(&format!(
        r#"sh "not-fixed" "{script} || true; test ! -s $out; echo > $out" {{ }}"#
    ))
    .await;
    assert_eq!(web.requests(), 2);
}

#[tokio::test]
async fn a_failure_for_want_of_a_network_says_so() {
    let Some(pair) = Pair::new() else { return };
    let attrs = flat(HashAlgo::Sha256, b"hello\n");
    for (script, attrs, noted) in [("exit 3", attrs.as_str(), true), ("exit 3", "", false)] {
        let (_, failure) = pair
            .refuse(&format!(r#"sh "fixed" "{script}" {{ {attrs} }}"#))
            .await;
        let text = failure.to_string();
        assert_eq!(
            text.contains("note: it had no network: the test has none"),
            noted,
            "{text}"
        );
    }
}

/// Everything that a build with a network is told of the world outside of its sandbox.
#[tokio::test]
async fn what_fixed_outputs_are_told() {
    let Some(pair) = Pair::new() else { return };
    if let Err(why) = firn_sandbox::probe::can_relay() {
        println!("skipped: {why}");
        return;
    }
    let bundle = pair.nix.dir.path().join("ca.pem");
    std::fs::write(&bundle, "certificates").unwrap();
    let firn = pair.firn.changed(|config| {
        config.fixed = FixedOutputs {
            network: Ok(Vec::new()),
            variables: BTreeMap::from([
                ("http_proxy".into(), "http://proxy".into()),
                ("unasked".into(), "x".into()),
            ]),
            ca_file: Some(bundle.clone()),
        };
    });
    let (path, drv) = pair.nix.instantiate(&format!(
        r#"sh "fixed" "(ls -1 /etc /etc/ssl/certs; cat /etc/resolv.conf /etc/nsswitch.conf /etc/ssl/certs/*; echo; \
            env | cut -d= -f1 | sort; env | grep -E '^(http_proxy|HOME|FIRN_TEST|CARGO_MANIFEST_DIR)=' | sort) | tr '\n' '|'; exit 1" {{
            impureEnvVars = [ "http_proxy" "HOME" "FIRN_TEST" "CARGO_MANIFEST_DIR" ]; {}
        }}"#,
        flat(HashAlgo::Sha256, b"")
    ));
    let inputs = firn.import(&pair.nix, &drv).await;
    let text = firn.build(&path, &drv, inputs).await.unwrap_err().to_string();
    let services = if std::path::Path::new("/etc/services").exists() {
        "services|"
    } else {
        ""
    };
    let expected = format!(
        "> /etc:|group|hosts|nsswitch.conf|passwd|resolv.conf|{services}ssl||/etc/ssl/certs:|ca-certificates.crt|\
         nameserver 198.18.0.53|hosts: files dns|services: files|certificates|\
         CARGO_MANIFEST_DIR|FIRN_TEST|HOME|NIX_BUILD_CORES|NIX_BUILD_TOP|NIX_LOG_FD|NIX_OUTPUT_CHECKED|NIX_STORE|PATH|PWD|SHLVL|\
         TEMP|TEMPDIR|TERM|TMP|TMPDIR|builder|http_proxy|impureEnvVars|name|out|outputHash|outputHashAlgo|outputHashMode|system|\
         CARGO_MANIFEST_DIR=|FIRN_TEST=|HOME=|http_proxy=http://proxy|"
    );
    assert!(
        std::env::var_os("CARGO_MANIFEST_DIR").is_some(),
        "this process has one"
    );
    assert!(text.contains(&expected), "{expected}\nis not in\n{text}");
}
