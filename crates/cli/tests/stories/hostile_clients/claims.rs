//! Uploads that claim what is not so.

use std::collections::BTreeSet;

use firn_nix::{CaMethod, ContentAddress, Hash, StorePath};
use firn_protocol::worker::Request;
use firn_protocol::{BuildMode, DerivedPath, OutputsSpec};

use super::{is_well, says, server};
use crate::raw::{Object, Raw, content, file, object, path};

/// An object with the path that its content address gives.
fn addressed(name: &str, method: CaMethod, contents: &[u8]) -> Object {
    let nar = file(contents);
    let hash = match method {
        CaMethod::Nar => content(&nar).to_hash(),
        _ => Hash::sha256(contents),
    };
    let ca = ContentAddress { method, hash };
    let mut object = object(name, nar);
    object.info.path = StorePath::make_content_addressed(name, &ca, &BTreeSet::new(), false).unwrap();
    object.info.ca = Some(ca);
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_address_is_recomputed() {
    let Some(server) = server("", &["mallory", "alice"]) else {
        return;
    };
    let mut raw = Raw::open(&server, "mallory").await;
    for method in [CaMethod::Nar, CaMethod::Flat, CaMethod::Text] {
        let good = addressed("source", method, b"the source");
        let path = good.info.path.to_string();

        let mut forged = good.clone();
        forged.nar = file(b"another source");
        (forged.info.nar_hash, forged.info.nar_size) = (content(&forged.nar), forged.nar.len() as u64);
        let text = raw.upload(&forged).await.unwrap_err();
        says(&text, &[&path, "its content address says", "its bytes hash to"]);

        let mut misplaced = good.clone();
        misplaced.info.path = crate::raw::path("source");
        let text = raw.upload(&misplaced).await.unwrap_err();
        says(
            &text,
            &[&misplaced.info.path.to_string(), "belongs to path", &path],
        );

        let mut referring = good.clone();
        referring.info.references.insert(crate::raw::path("other"));
        let text = raw.upload(&referring).await.unwrap_err();
        says(&text, &["cannot add", &path]);

        assert!(!raw.is_valid(&good.info.path).await);
        raw.upload(&good).await.unwrap();
        assert_eq!(raw.download(&good.info.path).await.unwrap(), good.nar);
    }
    // Checked content is no more public than any other.
    let mut alice = Raw::open(&server, "alice").await;
    let good = addressed("source", CaMethod::Nar, b"the source");
    assert!(!alice.is_valid(&good.info.path).await);
    is_well(&server, "mallory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn references_must_be_valid_for_the_same_account() {
    let Some(server) = server("", &["mallory", "alice"]) else {
        return;
    };
    let (mut mallory, mut alice) = (
        Raw::open(&server, "mallory").await,
        Raw::open(&server, "alice").await,
    );
    let secret = object("secret", file(b"of alice"));
    alice.upload(&secret).await.unwrap();

    let refused = async |raw: &mut Raw, to: &StorePath| {
        let mut object = object("referrer", file(b"refers"));
        object.info.references.insert(to.clone());
        let text = raw.upload(&object).await.unwrap_err();
        says(&text, &["-referrer'", &to.to_string(), "which is not valid"]);
        assert!(!raw.is_valid(&object.info.path).await);
        text
    };
    // Somebody else's path and nobody's: the same words.
    let theirs = refused(&mut mallory, &secret.info.path).await;
    let nobodys = refused(&mut mallory, &path("sesame")).await;
    assert_eq!(
        theirs.replace(&secret.info.path.to_string(), "it"),
        nobodys.replace(&path("sesame").to_string(), "it")
    );
    let gone = mallory.download(&secret.info.path).await.unwrap_err();
    assert_eq!(
        gone.replace(&secret.info.path.to_string(), "it"),
        mallory
            .download(&path("sesame"))
            .await
            .unwrap_err()
            .replace(&path("sesame").to_string(), "it")
    );
    // Bringing the same bytes under that name gives mallory her own copy, and alice's stays as it is.
    mallory
        .upload(&object("secret", file(b"of mallory")))
        .await
        .unwrap();
    assert_eq!(alice.download(&secret.info.path).await.unwrap(), secret.nar);
    assert_eq!(
        mallory.download(&secret.info.path).await.unwrap(),
        file(b"of mallory")
    );
    is_well(&server, "mallory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_upload_one_path_at_once() {
    let Some(server) = server("", &["alice", "bob"]) else {
        return;
    };
    let contents: Vec<Object> = (0..2)
        .map(|n| object("twice", file(&vec![b'0' + n; 500_000])))
        .collect();
    // Two of the same account with the same bytes, one of it with other bytes, and another account.
    let plan = [("alice", 0), ("alice", 0), ("bob", 1), ("bob", 0)];
    let mut raws = Vec::new();
    for (account, which) in plan {
        let mut raw = Raw::open(&server, account).await;
        let object = &contents[which];
        raw.request(&Request::AddToStoreNar(object.info.clone()))
            .await
            .unwrap();
        raws.push((raw, object));
    }
    // Frame by frame in turns, so that all are open until the end.
    let pieces = contents[0].nar.len().div_ceil(50_000);
    for n in 0..pieces {
        for (raw, object) in &mut raws {
            let piece = object.nar.chunks(50_000).nth(n).unwrap();
            raw.send(|e| _ = e.len(piece.len()).raw(piece)).await.unwrap();
        }
    }
    for (raw, _) in &mut raws {
        raw.send(|e| _ = e.u64(0)).await.unwrap();
    }
    for (raw, _) in &mut raws {
        raw.answer().await.unwrap().unwrap();
    }
    let path = &contents[0].info.path;
    for (account, expected) in [("alice", vec![0]), ("bob", vec![0, 1])] {
        let mut raw = Raw::open(&server, account).await;
        let nar = raw.download(path).await.unwrap();
        assert!(
            expected.iter().any(|&n| contents[n as usize].nar == nar),
            "{account}"
        );
        assert_eq!(
            raw.download(path).await.unwrap(),
            nar,
            "{account}: the same again"
        );
    }
    is_well(&server, "bob").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_derivation_file_that_is_none_is_named() {
    let Some(server) = server("", &["mallory"]) else {
        return;
    };
    let mut raw = Raw::open(&server, "mallory").await;
    let deep = [&b"Derive("[..], &b"(".repeat(100_000)].concat();
    for (name, contents) in [
        ("garbage.drv", &b"Derive([oops"[..]),
        ("empty.drv", b""),
        ("deep.drv", &deep),
    ] {
        let object = object(name, file(contents));
        raw.upload(&object).await.unwrap();
        let drv_path = object.info.path.clone();
        let built = DerivedPath::Built {
            drv_path: drv_path.clone(),
            outputs: OutputsSpec::All,
        };
        for request in [
            Request::QueryDerivationOutputs(drv_path.clone()),
            Request::QueryDerivationOutputNames(drv_path.clone()),
            Request::QueryDerivationOutputMap(drv_path.clone()),
            Request::QueryMissing(vec![built.clone()]),
            Request::BuildPaths(vec![built], BuildMode::Normal),
        ] {
            let text = raw.ask(&request).await.expect_err(name);
            says(&text, &["cannot read derivation", &drv_path.to_string()]);
        }
        assert!(raw.is_valid(&drv_path).await);
    }
    is_well(&server, "mallory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_derivation_under_the_path_of_another_is_refused() {
    let Some(server) = server("", &["mallory"]) else {
        return;
    };
    let mut raw = Raw::open(&server, "mallory").await;
    let out = path("plain");
    let text =
        format!(r#"Derive([("out","{out}","","")],[],[],"x86_64-linux","/bin/sh",[],[("out","{out}")])"#);
    let drv = object("plain.drv", file(text.as_bytes()));
    raw.upload(&drv).await.unwrap();
    raw.upload(&object("plain", file(b"plain"))).await.unwrap();
    let target = vec![DerivedPath::Built {
        drv_path: drv.info.path.clone(),
        outputs: OutputsSpec::All,
    }];
    for request in [
        Request::BuildPaths(target.clone(), BuildMode::Normal),
        Request::QueryMissing(target),
    ] {
        let text = raw.ask(&request).await.unwrap_err();
        says(&text, &[&drv.info.path.to_string(), "has a text that belongs to"]);
    }
    is_well(&server, "mallory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_few_and_short() {
    let Some(server) = server("", &["mallory"]) else {
        return;
    };
    let mut raw = Raw::open(&server, "mallory").await;
    let plain = object("signed", file(b"signed"));
    raw.upload(&plain).await.unwrap();
    let sign = |signatures: BTreeSet<String>| Request::AddSignatures(plain.info.path.clone(), signatures);
    let long = BTreeSet::from(["k:".to_owned() + &"A".repeat(2000)]);
    let text = raw.ask(&sign(long.clone())).await.unwrap_err();
    says(
        &text,
        &[&plain.info.path.to_string(), "a signature of 2002 bytes"],
    );
    let many = |from: u32| {
        let bytes = format!("{}==", "A".repeat(86));
        let signatures = (from..from + 50).map(|n| format!("key-{n}:{bytes}")).collect();
        sign(signatures)
    };
    raw.ask(&many(0)).await.unwrap();
    raw.decoder().u64("done").await.unwrap();
    // Again the same ones: no more than before.
    raw.ask(&many(0)).await.unwrap();
    raw.decoder().u64("done").await.unwrap();
    let text = raw.ask(&many(100)).await.unwrap_err();
    says(&text, &[&plain.info.path.to_string(), "100 signatures"]);
    let mut uploaded = object("signed-too", file(b"signed"));
    uploaded.info.signatures = long;
    says(
        &raw.upload(&uploaded).await.unwrap_err(),
        &["-signed-too'", "a signature of 2002 bytes"],
    );
    is_well(&server, "mallory").await;
}
