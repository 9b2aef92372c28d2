//! What is refused, and in which words.

use firn_service::ports::RunFailure;

use super::Pair;

#[tokio::test]
async fn exit_codes_and_signals() {
    let Some(pair) = Pair::new() else { return };
    let failure = pair
        .refuse_alike(r#"sh "exit" "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i; done; echo no newline; exit 3" {}"#)
        .await;
    assert!(
        matches!(&failure, RunFailure::Builder(text) if text.contains("failed with exit code 3;\nlast 10 log lines:\n> line 4"))
    );
    // A signal that the first process of a namespace sends to itself has no effect.
    pair.refuse_alike(r#"sh "signal" "kill -ABRT $$; kill -9 $$; exit 9" {}"#)
        .await;
    let failure = pair.refuse_alike(r#"sh "silent" "exit 1" {}"#).await;
    assert!(matches!(&failure, RunFailure::Builder(text) if text.ends_with("failed with exit code 1")));
}

#[tokio::test]
async fn a_builder_that_cannot_run() {
    let Some(pair) = Pair::new() else { return };
    for builder in ["${bb}/absent", "${bb}", "/nowhere", "relative"] {
        let (_, failure) = pair
            .refuse(&format!(
                r#"derivation {{ name = "x"; system = "x86_64-linux"; builder = "{builder}"; }}"#
            ))
            .await;
        assert!(matches!(failure, RunFailure::Builder(_)), "{failure:?}");
    }
}

#[tokio::test]
async fn a_missing_output() {
    let Some(pair) = Pair::new() else { return };
    let (said, failure) = pair
        .refuse(r#"sh "none" "mkdir $out; touch $out/x" { outputs = [ "out" "dev" ]; }"#)
        .await;
    let RunFailure::OutputRejected(text) = failure else {
        panic!("{failure:?}")
    };
    let (what, path) = text.rsplit_once(" at '").unwrap();
    assert!(
        said.contains(what) && said.contains(path.trim_end_matches('\'')),
        "{text} / {said}"
    );
}

#[tokio::test]
async fn outputs_that_cannot_be_stored() {
    let Some(pair) = Pair::new() else { return };
    for (script, ours) in [
        ("mkdir $out; mkfifo $out/pipe", "file '/nix/store/"),
        ("mkfifo $out", "file '/nix/store/"),
        (
            "mkdir $out; chmod g+w $out",
            "suspicious ownership or permission on '/nix/store/",
        ),
        (
            "echo > $out; chmod o+w $out",
            "suspicious ownership or permission on '/nix/store/",
        ),
    ] {
        let (said, failure) = pair.refuse(&format!(r#"sh "bad" "{script}" {{}}"#)).await;
        assert!(
            matches!(&failure, RunFailure::OutputRejected(text) if text.starts_with(ours)),
            "{failure:?}\n{said}"
        );
    }
}

#[tokio::test]
async fn every_output_that_is_refused_or_missing_is_told_of() {
    let Some(pair) = Pair::new() else { return };
    let script = r#"mkdir $a; mkfifo $a/pipe; echo well > $b; echo > $c; chmod o+w $c; head -c 900 /dev/zero > $d;
        mkdir -p $e/x; ln -s /dev/null $e/x/y; mkfifo $e/z"#;
    let outputs = r#"{ outputs = [ "a" "b" "c" "d" "e" ]; }"#;
    let expression = format!(r#"sh "bad" "{script}" {outputs}"#);
    let (_, failure) = pair.refuse(&expression).await;
    let RunFailure::OutputRejected(text) = failure else {
        panic!("{failure:?}")
    };
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    for (line, part) in lines
        .iter()
        .zip(["-bad-a/pipe' has", "for output 'c'", "-bad-e/z' has"])
    {
        assert!(line.contains(part), "{text}");
    }
    let (_, failure) = pair
        .refuse(&format!(r#"sh "bad" "echo > $b; mkfifo $d" {outputs}"#))
        .await;
    let RunFailure::OutputRejected(text) = failure else {
        panic!("{failure:?}")
    };
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(
        ["'a'", "'c'", "'e'"].iter().all(|name| text.contains(name)),
        "{text}"
    );
    assert!(pair.firn.is_tidy());
}

#[tokio::test]
async fn setuid_bits() {
    let Some(pair) = Pair::new() else { return };
    pair.refuse_alike(r#"sh "setuid" "echo > $out; chmod 4755 $out" {}"#)
        .await;
    pair.refuse_alike(r#"sh "setgid" "echo > $out; chmod 2755 $out" {}"#)
        .await;
}

#[tokio::test]
async fn circles() {
    let Some(pair) = Pair::new() else { return };
    let failure = pair
        .refuse_alike(r#"sh "circle" "echo $dev > $out; echo $out > $dev" { outputs = [ "out" "dev" ]; }"#)
        .await;
    assert!(matches!(failure, RunFailure::OutputRejected(_)), "{failure:?}");
}

#[tokio::test]
async fn forbidden_references() {
    let Some(pair) = Pair::new() else { return };
    for attrs in [
        "allowedReferences = [];",
        "allowedReferences = [ b ];",
        "allowedRequisites = [ b \"out\" ];",
        "allowedReferences = [ a \"out\" ];",
        "disallowedReferences = [ b ];",
        "disallowedReferences = [ \"out\" ];",
        "disallowedRequisites = [ a ];",
        "disallowedRequisites = [ a b ];",
    ] {
        let failure = pair
            .refuse_alike(&format!(
                r#"let a = sh "a" "echo a > $out" {{}}; b = sh "b" "echo ${{a}} > $out" {{}};
                   in sh "refs" "echo ${{b}} $out > $out" {{ {attrs} }}"#
            ))
            .await;
        assert!(
            matches!(failure, RunFailure::OutputRejected(_)),
            "{attrs}: {failure:?}"
        );
    }
}

#[tokio::test]
async fn structured_checks() {
    let Some(pair) = Pair::new() else { return };
    for checks in [
        "maxSize = 100;",
        "maxClosureSize = 1000;",
        "allowedReferences = [ b ];",
        "allowedRequisites = [ a b ];",
        "disallowedRequisites = [ \"out\" ];",
    ] {
        let failure = pair
            .refuse_alike(&format!(
                r#"let a = sh "a" "head -c 2000 /dev/zero > $out" {{}}; b = sh "b" "echo ${{a}} > $out" {{}};
                   in sh "checked" "export PATH=${{bb}}; o=${{placeholder "out"}}; echo ${{b}} $o > $o" {{
                        __structuredAttrs = true; outputChecks.out = {{ {checks} }};
                   }}"#
            ))
            .await;
        assert!(
            matches!(failure, RunFailure::OutputRejected(_)),
            "{checks}: {failure:?}"
        );
    }
}
