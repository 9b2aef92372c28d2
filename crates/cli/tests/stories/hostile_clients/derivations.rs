//! Builds that ask for what is not theirs.

use firn_nix::{CaMethod, ContentAddress, DerivationOutput, Hash, HashAlgo, StorePath};
use firn_protocol::worker::Op;
use firn_protocol::{BuildResult, BuildStatus};

use super::{is_well, says, server};
use crate::raw::{Raw, file, nar, object, path, shell};
use crate::rungs;

fn text(result: &BuildResult) -> String {
    String::from_utf8(result.error_msg.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_outside_the_store_is_refused() {
    let Some(server) = server("", &["mallory"]) else {
        return;
    };
    for (out, why) in [
        ("/etc/passwd", "'/etc/passwd'"),
        ("/nix/store/../../etc/passwd", "'../../etc/passwd'"),
        ("/nix/store/", "''"),
        ("relative", "'relative'"),
        ("/nix/store/x/y", "'x/y'"),
    ] {
        let mut raw = Raw::open(&server, "mallory").await;
        let (drv_path, _) = shell("evil", path("evil"), "");
        raw.send(|e| {
            _ = e
                .u64(Op::BuildDerivation as u64)
                .path(&drv_path)
                .u64(1)
                .text("out")
                .text(out)
        })
        .await
        .unwrap();
        raw.send(|e| _ = e.text("").text("")).await.unwrap();
        says(&raw.refused().await, &["BuildDerivation: output path", why]);
        assert!(!raw.end().await.ok);
    }
    is_well(&server, "mallory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_of_another_account_is_an_input_of_nobody() {
    let Some(server) = server("", &["mallory", "alice"]) else {
        return;
    };
    let (mut mallory, mut alice) = (
        Raw::open(&server, "mallory").await,
        Raw::open(&server, "alice").await,
    );
    let secret = object("secret", file(b"of alice"));
    alice.upload(&secret).await.unwrap();
    let mut texts = Vec::new();
    for input in [&secret.info.path, &path("sesame")] {
        let (drv_path, mut drv) = shell("thief", path("thief"), "cat $input > $out");
        drv.input_srcs.insert(input.clone());
        drv.env.insert(b"input".to_vec(), input.to_string().into_bytes());
        let result = mallory.build(&drv_path, &drv).await.unwrap();
        assert_eq!(result.status, BuildStatus::InputRejected);
        says(
            &text(&result),
            &[&drv_path.to_string(), &input.to_string(), "is not valid"],
        );
        texts.push(text(&result).replace(&input.to_string(), "it"));
        // Naming it without asking for it gives nothing either.
        drv.input_srcs.clear();
        let result = mallory.build(&drv_path, &drv).await.unwrap();
        assert_eq!(result.status, BuildStatus::PermanentFailure);
    }
    assert_eq!(texts[0], texts[1]);
    is_well(&server, "mallory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_build_of_another_accounts_output_changes_only_the_liars_view() {
    let Some(server) = server("", &["mallory", "alice", "bob"]) else {
        return;
    };
    let (mut mallory, mut alice, mut bob) = (
        Raw::open(&server, "mallory").await,
        Raw::open(&server, "alice").await,
        Raw::open(&server, "bob").await,
    );
    let (drv_path, honest) = shell("wanted", path("wanted"), "echo honest > $out");
    let out = path("wanted");
    // Mallory is first, under the very same derivation path and output path.
    let (_, lie) = shell("wanted", out.clone(), "echo evil > $out");
    assert_eq!(
        mallory.build(&drv_path, &lie).await.unwrap().status,
        BuildStatus::Built
    );
    assert!(!alice.is_valid(&out).await);

    // So is she with an input that has other bytes for her.
    let (dep_drv, dep) = shell("dep", path("dep"), "echo dep > $out");
    mallory.upload(&object("dep", file(b"evil"))).await.unwrap();
    let (user_path, mut user) = shell("user", path("user"), "cat $dep > $out");
    user.input_srcs.insert(path("dep"));
    user.env
        .insert(b"dep".to_vec(), path("dep").to_string().into_bytes());
    assert_eq!(
        mallory.build(&user_path, &user).await.unwrap().status,
        BuildStatus::Built
    );

    for raw in [&mut alice, &mut bob] {
        for (drv_path, drv) in [(&drv_path, &honest), (&dep_drv, &dep), (&user_path, &user)] {
            assert_eq!(raw.build(drv_path, drv).await.unwrap().status, BuildStatus::Built);
        }
        assert_eq!(raw.download(&out).await.unwrap(), file(b"honest\n"));
        assert_eq!(raw.download(&path("user")).await.unwrap(), file(b"dep\n"));
    }
    assert_eq!(rungs(&server, "alice"), ["built"; 3]);
    assert_eq!(rungs(&server, "bob"), ["reused"; 3]);
    assert_eq!(mallory.download(&out).await.unwrap(), file(b"evil\n"));
    assert_eq!(mallory.download(&path("user")).await.unwrap(), file(b"evil"));
    // Her own honest request is answered from her own view, and nobody else's changes.
    assert_eq!(
        mallory.build(&drv_path, &honest).await.unwrap().status,
        BuildStatus::AlreadyValid
    );
    assert_eq!(alice.download(&out).await.unwrap(), file(b"honest\n"));
    is_well(&server, "mallory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_calls_itself_a_derivation_is_not_followed() {
    let Some(server) = server("", &["mallory"]) else {
        return;
    };
    let mut raw = Raw::open(&server, "mallory").await;
    let host_file = server.data_dir().join("ssh_host_ed25519_key");
    let mut texts = Vec::new();
    for (n, target) in [host_file.to_str().unwrap(), "/nonexistent"]
        .into_iter()
        .enumerate()
    {
        let tokens: [&[u8]; 7] = [
            b"nix-archive-1",
            b"(",
            b"type",
            b"symlink",
            b"target",
            target.as_bytes(),
            b")",
        ];
        let link = object(&format!("link-{n}.drv"), nar(&tokens));
        raw.upload(&link).await.unwrap();
        let name = format!("reader-{n}");
        let (drv_path, mut drv) = shell(&name, path(&name), "cat graph > $out");
        drv.input_srcs.insert(link.info.path.clone());
        let graph = format!("graph {}", link.info.path);
        drv.env
            .insert(b"exportReferencesGraph".to_vec(), graph.into_bytes());
        let result = raw.build(&drv_path, &drv).await.unwrap();
        assert_eq!(result.status, BuildStatus::InputRejected, "{}", text(&result));
        says(&text(&result), &[&link.info.path.to_string(), "is not a file"]);
        texts.push(
            text(&result)
                .replace(&link.info.path.to_string(), "it")
                .replace(&drv_path.to_string(), "drv"),
        );
    }
    // Not even whether the host has such a file.
    assert_eq!(texts[0], texts[1]);
    is_well(&server, "mallory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_that_cannot_be_are_refused_by_name() {
    let Some(server) = server("", &["mallory"]) else {
        return;
    };
    let mut raw = Raw::open(&server, "mallory").await;
    let ca = ContentAddress {
        method: CaMethod::Flat,
        hash: Hash::sha256(b"fixed"),
    };
    let cases = [
        (
            DerivationOutput::InputAddressed(path("other")),
            "whose name should be 'evil'",
        ),
        (
            DerivationOutput::Fixed {
                path: Some(path("evil")),
                ca,
            },
            "but its hash gives",
        ),
        (
            DerivationOutput::Floating {
                method: CaMethod::Git,
                algo: HashAlgo::Sha1,
            },
            "content addresses of the form 'git:sha1' are not supported",
        ),
        (
            DerivationOutput::Deferred,
            "depend on content-addressed inputs that are not resolved",
        ),
        (
            DerivationOutput::Impure {
                method: CaMethod::Nar,
                algo: HashAlgo::Sha256,
            },
            "it is impure, and every build here runs in the sandbox",
        ),
    ];
    for (output, why) in cases {
        let (drv_path, mut drv) = shell("evil", path("evil"), "echo evil > $out");
        drv.outputs.insert("out".into(), output);
        let result = raw.build(&drv_path, &drv).await.unwrap();
        assert_eq!(
            result.status,
            BuildStatus::InputRejected,
            "{why}: {}",
            text(&result)
        );
        says(&text(&result), &[&drv_path.to_string(), why]);
    }
    // Hash and name are enough to know a fixed output's path: it runs, whatever path is left out.
    let (drv_path, mut drv) = shell("evil", path("evil"), "printf fixed > \"$out\"");
    drv.outputs
        .insert("out".into(), DerivationOutput::Fixed { path: None, ca });
    let fixed = StorePath::make_content_addressed("evil", &ca, &Default::default(), false).unwrap();
    drv.env.insert(b"out".to_vec(), fixed.to_string().into_bytes());
    let result = raw.build(&drv_path, &drv).await.unwrap();
    assert_eq!(result.status, BuildStatus::Built, "{}", text(&result));
    assert!(raw.is_valid(&fixed).await);
    is_well(&server, "mallory").await;
}
