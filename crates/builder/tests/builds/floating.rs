//! Content-addressed outputs: the same paths, bytes and references as from the installed Nix.

use std::collections::BTreeMap;

use firn_core::{Isolation, Object};
use firn_nix::{Derivation, StorePath};
use firn_service::ports::{Job, RunFailure};

use super::Pair;
use super::machines::machines;
use super::nix::{Info, outputs};

/// `ca`: what makes a derivation content-addressed.
fn with_ca(expression: &str) -> String {
    format!(
        "let ca = {{ __contentAddressed = true; outputHashMode = \"recursive\"; outputHashAlgo = \"sha256\"; }}; in {expression}"
    )
}

type Outputs = BTreeMap<String, (StorePath, String, Vec<StorePath>)>;

impl Pair {
    async fn floating(&self, expression: &str) -> (StorePath, Derivation, Job) {
        let (path, drv) = self.nix.instantiate(&with_ca(expression));
        let inputs = self.firn.import(&self.nix, &drv).await;
        // Inputs are input-addressed here: their paths stand in their derivations.
        let known = |input: &StorePath, output: &str| {
            let text = std::fs::read(self.nix.real(input)).unwrap();
            outputs(input, &Derivation::parse(&text).unwrap())
                .get(output)
                .cloned()
        };
        let resolved = drv.resolve(&path, &known).unwrap();
        let basic = Derivation::from_basic(resolved.drv);
        let mut job = self.firn.job(&resolved.drv_path, &basic, inputs);
        job.self_references = self.nix.self_references();
        (path, drv, job)
    }

    /// What Nix makes of a derivation.
    fn nix_outputs(&self, path: &StorePath) -> Outputs {
        let built = self
            .nix
            .run("nix", &["build", "--json", "--no-link", &path.to_string()]);
        assert!(built.status.success(), "{}", built.stderr.escape_ascii());
        let json: serde_json::Value = serde_json::from_slice(&built.stdout).unwrap();
        let outputs = json[0]["outputs"].as_object().unwrap();
        let info = |path: &serde_json::Value| {
            let path = StorePath::parse(path.as_str().unwrap().as_bytes()).unwrap();
            let closure = self.nix.closure(std::slice::from_ref(&path));
            let Info { hash, references, .. } = closure.into_iter().find(|i| i.path == path).unwrap();
            (path, hash, references.into_iter().collect())
        };
        outputs
            .iter()
            .map(|(name, path)| (name.clone(), info(path)))
            .collect()
    }

    fn firn_outputs(&self, built: &BTreeMap<String, Object>) -> Outputs {
        let told = |o: &Object| {
            (
                o.path.clone(),
                o.content.hex(),
                o.references.iter().cloned().collect(),
            )
        };
        built
            .iter()
            .map(|(name, object)| (name.clone(), told(object)))
            .collect()
    }

    async fn agree_on_paths(&self, expression: &str) -> BTreeMap<String, Object> {
        let (path, _, job) = self.floating(expression).await;
        let built = self.firn.run(job).await.unwrap();
        let (ours, theirs) = (self.firn_outputs(&built), self.nix_outputs(&path));
        if ours != theirs {
            for (name, object) in &built {
                super::firn::show_difference(name, &self.nix.real(&theirs[name].0), &self.firn.tree(object));
            }
        }
        assert_eq!(ours, theirs, "{expression}");
        for (name, object) in &built {
            assert!(object.ca.is_some(), "{name}");
        }
        assert!(self.firn.is_tidy());
        built
    }
}

#[tokio::test]
async fn what_mentions_nothing() {
    let Some(pair) = Pair::new() else { return };
    pair.agree_on_paths(r#"sh "plain" "mkdir $out; echo hello > $out/file; chmod +x $out/file" ca"#)
        .await;
    pair.agree_on_paths(r#"sh "input" "ln -s ${bb}/sh $out" ca"#)
        .await;
    let mut flat = String::new();
    for (mode, algo) in [
        ("flat", "sha256"),
        ("flat", "md5"),
        ("recursive", "sha1"),
        ("recursive", "sha512"),
    ] {
        flat.push_str(mode);
        let how = format!(r#"ca // {{ outputHashMode = "{mode}"; outputHashAlgo = "{algo}"; }}"#);
        pair.agree_on_paths(&format!(r#"sh "how-{algo}" "echo {flat} > $out" ({how})"#))
            .await;
    }
}

#[tokio::test]
async fn what_mentions_itself() {
    let Some(pair) = Pair::new() else { return };
    let built = pair
        .agree_on_paths(
            r#"sh "self" ''
                mkdir -p $out/dir; cd $out
                echo "see $out, $out" > a; echo ''${out#/nix/store/} > dir/b; ln -s $out/a link
                ln -s ''${out#/nix/store/} dir/link
                : > $(echo ''${out#/nix/store/}); : > 0; : > h; : > z
                awk 'BEGIN { for (i = 0; i < 20000; i++) printf "%s%s", ENVIRON["out"], i }' > many
                mkdir dir/''${out#/nix/store/}; echo $out/a > dir/''${out#/nix/store/}/deep
                chmod +x dir/b
            '' ca"#,
        )
        .await;
    let out = &built["out"];
    assert!(out.references.contains(&out.path));
    let text = std::fs::read(pair.firn.tree(out).join("a")).unwrap();
    assert_eq!(text, format!("see {0}, {0}\n", out.path).into_bytes());
}

/// What a build makes of its scratch paths, other than their text, is not rewritten. It is the same because they are.
#[tokio::test]
async fn scratch_paths_are_those_of_nix() {
    let Some(pair) = Pair::new() else { return };
    pair.agree_on_paths(
        r#"sh "scratch" ''
            echo ''${out#/nix/store/?} ''${dev#/nix/store/?} | tr a-z b-za > $out; echo $out > $dev
            echo ${placeholder "dev"} | cut -c 14- >> $out
        '' (ca // { outputs = [ "out" "dev" ]; })"#,
    )
    .await;
}

#[tokio::test]
async fn outputs_that_mention_each_other() {
    let Some(pair) = Pair::new() else { return };
    let expression = r#"sh "multi" ''
            mkdir $out $dev $doc; echo $lib > $lib
            echo $lib ${bb} > $doc/lib; echo $doc $out > $out/doc; echo $out $dev $lib > $dev/$(echo ''${lib#/nix/store/})
            : > $dev/0; : > $dev/z; ln -s $lib $out/lib
            cat $textPath > $dev/text
        '' (ca // { outputs = [ "dev" "out" "doc" "lib" ]; text = placeholder "lib"; passAsFile = [ "text" ]; })"#;
    let built = pair.agree_on_paths(expression).await;
    let lib = &built["lib"];
    assert_eq!(lib.references, [lib.path.clone()].into());
    assert!(built["doc"].references.contains(&lib.path));
    // In a circle no path can be the first.
    let (path, _, job) = pair
        .floating(
            r#"sh "circle" "echo $dev > $out; echo $out > $dev" (ca // { outputs = [ "out" "dev" ]; })"#,
        )
        .await;
    let failure = pair.firn.run(job).await.unwrap_err();
    let said = pair
        .nix
        .run("nix-store", &["--realise", &path.to_string()])
        .stderr;
    let said = said.escape_ascii().to_string();
    let RunFailure::OutputRejected(text) = failure else {
        panic!("{failure:?}")
    };
    assert!(
        text.contains("cycle detected") && said.contains("cycle detected"),
        "{text} {said}"
    );
}

#[tokio::test]
async fn checks_are_of_final_paths() {
    let Some(pair) = Pair::new() else { return };
    pair.agree_on_paths(
        r#"sh "ok" "echo $out ${bb} > $out; echo $out > $dev" (ca // {
            outputs = [ "out" "dev" ]; allowedReferences = [ "out" bb ]; disallowedRequisites = [ "dev" ];
        })"#,
    )
    .await;
    for (attributes, text) in [
        (r#"allowedReferences = [ ];"#, "is not allowed to refer to"),
        (
            r#"disallowedReferences = [ "out" ];"#,
            "is not allowed to refer to",
        ),
        (r#"outputHashMode = "flat";"#, "must not refer to itself"),
        (r#"outputHashAlgo = "sha1";"#, "must not refer to itself"),
    ] {
        let (_, _, job) = pair
            .floating(&format!(
                r#"sh "bad" "echo $out > $out" (ca // {{ {attributes} }})"#
            ))
            .await;
        let failure = pair.firn.run(job).await.unwrap_err();
        assert!(
            matches!(&failure, RunFailure::OutputRejected(t) if t.contains(text)),
            "{failure:?}"
        );
    }
    let (_, _, job) = pair
        .floating(r#"sh "dir" "mkdir $out" (ca // { outputHashMode = "flat"; })"#)
        .await;
    let failure = pair.firn.run(job).await.unwrap_err();
    assert!(
        failure
            .to_string()
            .contains("should be a non-executable regular file"),
        "{failure}"
    );
    assert!(pair.firn.is_tidy());
}

#[tokio::test]
async fn structured_attributes() {
    let Some(pair) = Pair::new() else { return };
    pair.agree_on_paths(
        r#"derivation (ca // {
            name = "structured"; system = "x86_64-linux"; builder = "${bb}/sh"; __structuredAttrs = true;
            outputs = [ "out" "dev" ]; self = placeholder "dev";
            args = [ "-c" "${bb}/cat /build/.attrs.json /build/.attrs.sh > ${placeholder "out"}; echo $out > ${placeholder "dev"}" ];
        })"#,
    )
    .await;
}

#[tokio::test]
async fn references_can_be_discarded() {
    let Some(pair) = Pair::new() else { return };
    // Nix 2.8 does not know the attribute.
    let (_, _, job) = pair
        .floating(
            r#"derivation (ca // {
                name = "discarded"; system = "x86_64-linux"; builder = "${bb}/sh"; __structuredAttrs = true;
                unsafeDiscardReferences = { out = true; };
                args = [ "-c" "echo ${placeholder "out"} ${bb} > ${placeholder "out"}" ];
            })"#,
        )
        .await;
    let built = pair.firn.run(job).await.unwrap();
    let out = &built["out"];
    assert!(out.references.is_empty());
    let text = std::fs::read(pair.firn.tree(out)).unwrap();
    assert!(
        text.starts_with(out.path.to_string().as_bytes()),
        "rewritten all the same"
    );
}

#[tokio::test]
async fn in_a_machine() {
    let Some(mut pair) = Pair::new() else { return };
    let Some(machines) = machines(&pair.firn) else {
        return;
    };
    pair.firn = pair.firn.with(Some(machines));
    let (path, _, mut job) = pair
        .floating(
            r#"sh "machine" ''
                mkdir $out; echo $lib $out > $out/file; echo $lib ${bb} > $lib
            '' (ca // { outputs = [ "out" "lib" ]; })"#,
        )
        .await;
    job.isolation = Isolation::Vm;
    let built = pair.firn.run(job).await.unwrap();
    assert_eq!(pair.firn_outputs(&built), pair.nix_outputs(&path));
    assert!(pair.firn.is_tidy());
}
