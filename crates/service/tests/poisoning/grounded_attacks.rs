//! Attempts on grounded results and realisations.

use firn_core::Rung;
use firn_nix::realisation::{DrvId, DrvOutput, Realisation};
use firn_nix::rewrite::SelfReferences;
use firn_nix::signature::SecretKey;
use firn_nix::{Hash, HashAlgo};
use firn_protocol::{BuildMode, BuildStatus, Store as _};

use super::Stage;
use crate::support::graphs::{Package, Packages, build_all, realise, send, source, told};
use crate::support::{Client, FIXED, World, bytes, is_valid, item, objects_of_fixed, self_referring, upload};

/// Bob knows the hash of what the service once fetched for Alice, and nothing else: neither her derivation nor its inputs.
#[tokio::test(flavor = "multi_thread")]
async fn a_hash_alone_opens_a_fixed_output() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let (mut hers, mut his) = (Packages::default(), Packages::default());
    let fetched = hers.fixed(
        "private.tar",
        &["log:https://alice:token@private.example/private.tar"],
    );
    send(&alice, &[&fetched]).await;
    assert_eq!(build_all(&alice, &[&fetched]).await[0].status, BuildStatus::Built);
    let guess = his.fixed("private.tar", &["fail:I have no idea where it comes from"]);
    assert_eq!(guess.out(), fetched.out());
    assert_ne!(guess.path(), fetched.path());
    send(&bob, &[&guess]).await;
    let status = build_all(&bob, &[&guess]).await[0].status;
    assert!(
        !is_valid(&bob, &guess.out()).await,
        "{status:?} {:?}",
        world.rungs("bob").await
    );
}

/// The same as a remote builder: Alice's fixed output was made of an upload of hers, without any graph.
#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_output_made_of_a_private_upload() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let secret = crate::support::path("secret");
    upload(&alice, &[&item(&secret, "secret", &[])]).await.unwrap();
    let mut drv = crate::support::fixed_without_path("extract");
    drv.drv.input_srcs = [secret].into();
    crate::support::build(&alice, &drv).await.done();
    let mut packages = Packages::default();
    let guess = packages.fixed("extract", &["fail:no"]);
    assert_eq!(guess.out(), drv.out());
    send(&bob, &[&guess]).await;
    build_all(&bob, &[&guess]).await;
    assert!(!is_valid(&bob, &guess.out()).await);
}

/// A fixed output that the service made of one that only Alice has.
#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_output_above_a_private_one() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let mut packages = Packages::default();
    let fetched = packages.fixed("secret.tar", &["fail:401 Unauthorized"]);
    let unpacked = packages.fixed_to(FIXED, "secret", &[], &[&fetched]);
    send(&alice, &[&fetched, &unpacked]).await;
    upload(&alice, &[&objects_of_fixed(&fetched.out())])
        .await
        .unwrap();
    assert_eq!(
        build_all(&alice, &[&unpacked]).await[0].status,
        BuildStatus::Built
    );
    send(&bob, &[&fetched, &unpacked]).await;
    assert_eq!(
        build_all(&bob, &[&unpacked]).await[0].status,
        BuildStatus::DependencyFailed
    );
}

/// Leaves runs of `low` until one suits; that result is not shared. What is built of it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_built_of_a_run_that_suits() {
    let stage = Stage::stopping().await;
    let mut packages = Packages::default();
    let low = packages.add("low", &["log:as it turns out\n", "wait", "random"], &[], &[]);
    let high = packages.add("high", &[], &[&low], &[]);
    send(&stage.mallory, &[&low, &high]).await;
    let (client, target) = (stage.mallory.clone(), low.target());
    let asked = tokio::spawn(async move { realise(&client, &[target], BuildMode::Normal).await });
    stage.world.builder.until(|c| c.waiting == 1).await;
    asked.abort();
    stage.world.builder.until(|c| c.ended == 1).await;
    stage.world.idle().await;
    stage.world.builder.release(1);
    let status = build_all(&stage.mallory, &[&high]).await[0].status;
    assert_eq!(status, BuildStatus::Built);
    assert_eq!(stage.runs(), 3);

    send(&stage.alice, &[&low, &high]).await;
    stage.world.builder.release(1);
    assert!(build_all(&stage.alice, &[&high]).await[0].status.is_success());
    alice_has_her_own(&stage, &high).await;
}

/// And not the bytes that Mallory has.
async fn alice_has_her_own(stage: &Stage, package: &Package) {
    assert_ne!(
        bytes(&stage.alice, &package.out()).await.unwrap(),
        bytes(&stage.mallory, &package.out()).await.unwrap(),
        "{:?}",
        stage.world.rungs("alice").await
    );
}

/// The same with a result from the time when he was private.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_built_of_a_private_result() {
    let stage = Stage::new().await;
    let mut packages = Packages::default();
    let low = packages.add("low", &["random"], &[], &[]);
    let high = packages.add("high", &[], &[&low], &[]);
    stage.set("mallory", "private", "true").await;
    send(&stage.mallory, &[&low, &high]).await;
    build_all(&stage.mallory, &[&low]).await;
    stage.set("mallory", "private", "false").await;
    build_all(&stage.mallory, &[&high]).await;
    send(&stage.alice, &[&low, &high]).await;
    build_all(&stage.alice, &[&high]).await;
    alice_has_her_own(&stage, &high).await;
}

/// `high` and the `low` that it was built with belong together: Bob must not get one of Mallory's and one of somebody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_that_nobody_built() {
    let stage = Stage::new().await;
    let mut packages = Packages::default();
    let low = packages.add("low", &["random"], &[], &[]);
    let high = packages.referring("high", &[&low]);
    let all = [&low, &high];
    stage.set("mallory", "private", "true").await;
    send(&stage.mallory, &all).await;
    build_all(&stage.mallory, &[&low]).await;
    stage.set("mallory", "private", "false").await;
    build_all(&stage.mallory, &[&high]).await;
    // Carol's own `low` is the first that is shared.
    let carol = stage.world.account("carol").await;
    send(&carol, &all).await;
    build_all(&carol, &[&low]).await;
    send(&stage.alice, &all).await;
    build_all(&stage.alice, &[&high]).await;
    let same = |a: &[u8], b: &[u8]| a == b;
    let high_is_his = same(
        &bytes(&stage.alice, &high.out()).await.unwrap(),
        &bytes(&stage.mallory, &high.out()).await.unwrap(),
    );
    let low_is_his = same(
        &bytes(&stage.alice, &low.out()).await.unwrap(),
        &bytes(&stage.mallory, &low.out()).await.unwrap(),
    );
    assert_eq!(high_is_his, low_is_his, "{:?}", stage.world.rungs("alice").await);
}

/// Alice has `low` signed by a key that she trusts, with bytes of its own. Without Mallory her `high` is made of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_alice_has_of_a_key_that_she_trusts() {
    async fn high(with_mallory: bool) -> Vec<u8> {
        let stage = Stage::new().await;
        let mut packages = Packages::default();
        let leaf = source("source", "int main");
        let low = packages.add("low", &[], &[], &[&leaf.info.path]);
        let high = packages.referring("high", &[&low]);
        if with_mallory {
            upload(&stage.mallory, &[&leaf]).await.unwrap();
            send(&stage.mallory, &[&low, &high]).await;
            build_all(&stage.mallory, &[&high]).await;
        }
        let key = SecretKey::from_seed("vendor-1", &[9; 32]).unwrap();
        stage
            .set("alice", "trusted-public-keys", &key.public_key().to_string())
            .await;
        let mut signed = item(&low.out(), "the vendor's build", &[]);
        let text = firn_nix::fingerprint(
            &signed.info.path,
            signed.info.nar_hash,
            signed.info.nar_size,
            &signed.info.references,
        );
        signed
            .info
            .signatures
            .insert(key.sign(text.as_bytes()).to_string());
        upload(&stage.alice, &[&leaf, &signed]).await.unwrap();
        send(&stage.alice, &[&low, &high]).await;
        build_all(&stage.alice, &[&high]).await;
        bytes(&stage.alice, &high.out()).await.unwrap()
    }
    assert_eq!(high(true).await, high(false).await);
}

/// Signatures of a realisation are limited per request, and pile up.
#[tokio::test(flavor = "multi_thread")]
async fn signatures_of_a_realisation_pile_up() {
    let stage = Stage::new().await;
    let out = crate::support::path("anything");
    upload(&stage.mallory, &[&item(&out, "anything", &[])])
        .await
        .unwrap();
    let id = DrvOutput {
        drv: DrvId::Modulo(Hash::sha256(b"a popular derivation")),
        output: "out".into(),
    };
    for round in 0..20u8 {
        let mut realisation = Realisation::unsigned(id.clone(), out.clone());
        for n in 0..64u8 {
            let mut seed = [0; 32];
            seed[..2].copy_from_slice(&[round, n]);
            // The name of a key that others trust; the signatures are worth nothing.
            let key = SecretKey::from_seed(&format!("vendor-{}", "x".repeat(200)), &seed).unwrap();
            realisation.signatures.insert(key.sign(b"nothing"));
        }
        stage.mallory.register_realisation(realisation).await.unwrap();
    }
    let found = stage.mallory.query_realisation(id).await.unwrap().unwrap();
    assert!(
        found.signatures.len() <= 64,
        "{} signatures, {} bytes of JSON",
        found.signatures.len(),
        found.to_json().len()
    );
}

/// What is told to be there is there, also of a derivation with many outputs.
#[tokio::test(flavor = "multi_thread")]
async fn more_outputs_than_bits() {
    let world = World::new();
    let alice = world.account("alice").await;
    let names: Vec<String> = (0..66).map(|n| format!("o{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut packages = Packages::default();
    let many = packages.with_outputs("many", &names, &[], &[], &[]);
    send(&alice, &[&many]).await;
    for name in &names[..64] {
        upload(&alice, &[&item(&many.output(name), "x", &[])])
            .await
            .unwrap();
    }
    let results = build_all(&alice, &[&many]).await;
    assert_eq!(results[0].status, BuildStatus::InputRejected);
    assert!(
        told(&results[0]).contains("has 66 outputs"),
        "{}",
        told(&results[0])
    );
    assert!(!is_valid(&alice, &many.output("o64")).await);
}

/// While `high` waits, another text takes the place of its `.drv`, whose graph was found good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_derivation_that_is_replaced_while_it_waits() {
    let stage = Stage::new().await;
    let mut packages = Packages::default();
    let low = packages.add("low", &["wait"], &[], &[]);
    let high = packages.add("high", &[], &[&low], &[]);
    let mut other = high.drv.clone();
    other.input_drvs.clear();
    other.basic.args = vec![b"random".to_vec()];
    let other = item(&high.path(), str::from_utf8(&other.to_aterm()).unwrap(), &[]);

    send(&stage.mallory, &[&low, &high]).await;
    let (client, target) = (stage.mallory.clone(), high.target());
    let asked = tokio::spawn(async move { realise(&client, &[target], BuildMode::Normal).await });
    stage.world.builder.until(|c| c.waiting == 1).await;
    let desk = stage.world.desk("mallory").await;
    assert_eq!(desk.forget(&[high.path().to_string()]).await.unwrap(), 1);
    upload(&stage.mallory, &[&other]).await.unwrap();
    stage.world.builder.release(1);
    let results = asked.await.unwrap().0.unwrap();
    assert_eq!(results[0].status, BuildStatus::InputRejected);
    assert!(
        told(&results[0]).contains("has a text that belongs to"),
        "{}",
        told(&results[0])
    );
    assert_eq!(stage.runs(), 1);
}

/// A fixed output of nothing but public sources and what Alice has made of one at home.
#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_output_made_of_an_upload() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let mut packages = Packages::default();
    let low = packages.add("low", &[], &[], &[]);
    let fixed = packages.fixed_to(FIXED, "secret", &[], &[&low]);
    send(&alice, &[&low, &fixed]).await;
    upload(&alice, &[&item(&low.out(), "made at home", &[])])
        .await
        .unwrap();
    assert_eq!(build_all(&alice, &[&fixed]).await[0].status, BuildStatus::Built);
    assert_eq!(world.builder.counts().started, 1);
    send(&bob, &[&low, &fixed]).await;
    assert!(build_all(&bob, &[&fixed]).await[0].status.is_success());
    assert_eq!(
        world.builder.counts().started,
        3,
        "{:?}",
        world.rungs("bob").await
    );
}

/// Two archives with the same MD5: Mallory's is another than Bob's.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_whose_hash_is_broken() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let mut packages = Packages::default();
    let source = packages.fixed_by(HashAlgo::Md5, FIXED, "source", &[], &[]);
    let high = packages.add("high", &[], &[&source], &[]);
    for account in [&alice, &bob] {
        send(account, &[&source, &high]).await;
    }
    assert_eq!(build_all(&alice, &[&high]).await[0].status, BuildStatus::Built);
    assert!(build_all(&bob, &[&high]).await[0].status.is_success());
    // By their build keys: there the bytes of the inputs count.
    assert_eq!(world.rungs("bob").await, [Some(Rung::Shared); 2]);
}

/// He is the first to build what is not reproducible, shares it, and takes it back in some way: what is built above it is grounded for
/// everybody all the same, those that have it already and those that come later.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_one_leaves() {
    for way in ["private", "share-builds", "removed", "private and removed"] {
        let stage = Stage::new().await;
        let mut packages = Packages::default();
        let origin = source("source", "int main");
        let low = packages.add("low", &["random"], &[], &[&origin.info.path]);
        let middle = packages.referring("middle", &[&low]);
        let high = packages.referring("high", &[&middle]);
        let begin = async |client: &Client| {
            upload(client, &[&origin]).await.unwrap();
            send(client, &[&low, &middle, &high]).await;
        };
        for client in [&stage.mallory, &stage.alice] {
            begin(client).await;
        }
        build_all(&stage.mallory, &[&low]).await;
        // Alice stands on it.
        build_all(&stage.alice, &[&middle]).await;
        match way {
            "private" => stage.set("mallory", "private", "true").await,
            "share-builds" => stage.set("mallory", "share-builds", "false").await,
            _ => {
                if way != "removed" {
                    stage.set("mallory", "private", "true").await;
                }
                let mallory = stage.world.named("mallory").await;
                stage.world.house.remove_account(&mallory).await.unwrap();
            }
        }
        build_all(&stage.alice, &[&high]).await;
        let bob = stage.world.account("bob").await;
        begin(&bob).await;
        build_all(&bob, &[&high]).await;
        assert_eq!(stage.world.rungs("bob").await, [Some(Rung::Grounded)], "{way}");
        assert_eq!(stage.runs(), 3, "{way}");
        for out in [low.out(), high.out()] {
            let [hers, his] = [&stage.alice, &bob].map(|client| bytes(client, &out));
            assert_eq!(hers.await.unwrap(), his.await.unwrap(), "{way}");
        }
    }
}

/// He has a fixed output built first, from a derivation of his own. That Alice's was built from hers stands beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_output_that_he_had_built_first() {
    let stage = Stage::new().await;
    let (mut his, mut hers) = (Packages::default(), Packages::default());
    let mirror = his.fixed("source.tar", &["log:https://mirror.example/source.tar"]);
    send(&stage.mallory, &[&mirror]).await;
    build_all(&stage.mallory, &[&mirror]).await;

    let fetched = hers.fixed("source.tar", &["log:https://example.org/source.tar"]);
    assert_eq!(fetched.out(), mirror.out());
    let built = hers.add("built", &["random"], &[&fetched], &[]);
    let bob = stage.world.account("bob").await;
    for client in [&stage.alice, &bob] {
        send(client, &[&fetched, &built]).await;
        assert!(build_all(client, &[&built]).await[0].status.is_success());
    }
    assert_eq!(stage.world.rungs("bob").await, [Some(Rung::Grounded)]);
    assert_eq!(stage.runs(), 3);
}

/// As a remote builder he calls a derivation of his what Alice's is called. No graph says that it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_output_under_the_name_of_her_derivation() {
    let stage = Stage::new().await;
    let (mut his, mut hers) = (Packages::default(), Packages::default());
    let mirror = his.fixed("source.tar", &["log:https://mirror.example/source.tar"]);
    let fetched = hers.fixed("source.tar", &["log:https://example.org/source.tar"]);
    let named = crate::support::Drv {
        path: fetched.path(),
        drv: mirror.drv.basic.clone(),
    };
    crate::support::build(&stage.mallory, &named).await.done();
    // His own graph makes the same run grounded, for his derivation only.
    send(&stage.mallory, &[&mirror]).await;
    let mallory = stage.world.desk("mallory").await;
    mallory.forget(&[mirror.out().to_string()]).await.unwrap();
    build_all(&stage.mallory, &[&mirror]).await;
    send(&stage.alice, &[&fetched]).await;
    build_all(&stage.alice, &[&fetched]).await;
    assert_ne!(stage.world.rungs("alice").await, [Some(Rung::Grounded)]);
    assert_eq!(stage.runs(), 2);
}

/// Two contents have one path: self-references of the one are NULs in the other, and the hash does not say where they stood.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_whose_self_references_have_no_place() {
    let world = World::new();
    let (mallory, alice) = (world.account("mallory").await, world.account("alice").await);
    let source = self_referring("source", "run @itself@", SelfReferences::Unplaced);
    let path = &source.info.path;
    let mut other = item(
        path,
        &format!("run /nix/store/{}-source", "\0".repeat(32)),
        &[path],
    );
    other.info.ca = source.info.ca;
    let mut packages = Packages::default();
    let high = packages.add("high", &[], &[], &[path]);
    for (account, leaf) in [(&mallory, &other), (&alice, &source)] {
        upload(account, &[leaf]).await.unwrap();
        send(account, &[&high]).await;
        assert_eq!(build_all(account, &[&high]).await[0].status, BuildStatus::Built);
    }
    assert_eq!(world.rungs("alice").await, [Some(Rung::Built)]);
}
