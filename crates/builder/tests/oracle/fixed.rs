//! Outputs with an expected hash.

use firn_nix::{Hash, HashAlgo};
use firn_service::ports::RunFailure;

use super::Pair;

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
