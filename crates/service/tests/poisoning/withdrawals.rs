//! Told valid is a promise: every way to take evidence back, and what others stand on meanwhile. Mallory brings, Alice is told, Mallory takes
//! back; what Alice has stays, bytes and all, also when the store is swept.

use std::collections::BTreeSet;

use firn_core::{Origin, RealisationClaim, Trust};
use firn_nix::StorePath;
use firn_nix::realisation::{DrvId, DrvOutput, Realisation};
use firn_protocol::Store as _;
use firn_service::ports::Views as _;

use super::Stage;
use crate::support::{Drv, Item, World, build, bytes, is_valid, item, key, path, upload};

/// How Mallory takes something back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Forget,
    ForgetAll,
    Private,
    NoReader,
    LesserReader,
    NoSharing,
    Removed,
    /// Twice, with something else of the same name brought in between.
    ForgetAndReplace,
}

const WAYS: [Way; 8] = [
    Way::Forget,
    Way::ForgetAll,
    Way::Private,
    Way::NoReader,
    Way::LesserReader,
    Way::NoSharing,
    Way::Removed,
    Way::ForgetAndReplace,
];

/// On what Alice's own things stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    /// What a key has signed that she trusts, whoever Mallory is.
    Signed,
    /// What Mallory uploaded, whose uploads she trusts.
    Uploaded,
}

const GROUNDS: [Ground; 2] = [Ground::Signed, Ground::Uploaded];

/// How Alice came to stand on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// She asked whether it is valid, as before an upload.
    Asked,
    /// She asked for everything about it.
    AskedForInfo,
    /// She asked by its hash.
    AskedByHash,
    /// She asked for what refers to it only.
    AskedAbove,
    /// She asked for nothing, and uploaded what refers to it.
    Uploaded,
    /// She had something built of it.
    Built,
    /// She has the same bytes herself, but not their signature.
    HasIt,
}

const STEPS: [Step; 7] = [
    Step::Asked,
    Step::AskedForInfo,
    Step::AskedByHash,
    Step::AskedAbove,
    Step::Uploaded,
    Step::Built,
    Step::HasIt,
];

/// What Mallory brings: `above` refers to `input`, and that to `deep`.
struct Things {
    deep: Item,
    input: Item,
    above: Item,
    hers: Item,
    drv: Drv,
}

impl Things {
    fn new(ground: Ground) -> Self {
        let (deep, input, above) = (path("deep"), path("input"), path("above"));
        let signed = |item: Item| match ground {
            Ground::Signed => item.signed(&key("trusted", 1)),
            Ground::Uploaded => item,
        };
        Self {
            deep: signed(item(&deep, "deep", &[])),
            input: signed(item(&input, "input", &[&deep])),
            above: signed(item(&above, "above", &[&input])),
            hers: item(&path("hers"), "hers", &[&above]),
            drv: Drv::new("made", &[], &[&input]).referring(&[&deep]),
        }
    }

    fn his(&self) -> [&Item; 3] {
        [&self.deep, &self.input, &self.above]
    }
}

async fn stage(ground: Ground) -> Stage {
    let stage = Stage::new().await;
    match ground {
        Ground::Signed => {
            let trusted = key("trusted", 1).public_key().to_string();
            stage.set("alice", "trusted-public-keys", &trusted).await;
        }
        Ground::Uploaded => {
            let (hers, his) = (stage.world.desk("alice").await, stage.world.desk("mallory").await);
            hers.trust("mallory", Some(Trust::Uploads)).await.unwrap();
            his.let_read("alice", Some(Trust::Uploads)).await.unwrap();
        }
    }
    stage
}

/// What Alice has then.
async fn take(stage: &Stage, things: &Things, step: Step) -> Vec<StorePath> {
    let alice = &stage.alice;
    let (input, above, hers) = (path("input"), path("above"), path("hers"));
    match step {
        Step::Asked => {
            let asked = BTreeSet::from([input.clone()]);
            assert_eq!(alice.query_valid_paths(asked, false).await.unwrap().len(), 1);
            vec![path("deep"), input]
        }
        Step::AskedForInfo => {
            assert_eq!(
                alice.query_path_infos(vec![input.clone()]).await.unwrap().len(),
                1
            );
            vec![path("deep"), input]
        }
        Step::AskedByHash => {
            let found = alice
                .query_path_from_hash_part(input.hash_part().to_owned())
                .await;
            assert_eq!(found.unwrap(), Some(input.clone()));
            vec![path("deep"), input]
        }
        Step::AskedAbove => {
            assert!(is_valid(alice, &above).await);
            vec![path("deep"), input, above]
        }
        Step::Uploaded => {
            upload(alice, &[&things.hers]).await.unwrap();
            vec![path("deep"), input, above, hers]
        }
        Step::Built => {
            assert!(build(alice, &things.drv).await.done().status.is_success());
            vec![path("deep"), input, things.drv.out()]
        }
        Step::HasIt => {
            upload(alice, &[&item(&path("deep"), "deep", &[])]).await.unwrap();
            assert!(is_valid(alice, &path("deep")).await);
            vec![path("deep")]
        }
    }
}

async fn take_back(stage: &Stage, things: &Things, way: Way) {
    let desk = stage.world.desk("mallory").await;
    let forget = async |items: &[&Item]| {
        let paths: Vec<String> = items.iter().map(|item| item.info.path.to_string()).collect();
        desk.forget(&paths).await.unwrap()
    };
    match way {
        Way::Forget => assert_eq!(forget(&[&things.input]).await, 1),
        Way::ForgetAll => assert_eq!(forget(&things.his()).await, 3),
        Way::Private => stage.set("mallory", "private", "true").await,
        Way::NoReader => desk.let_read("alice", None).await.unwrap(),
        Way::LesserReader => desk.let_read("alice", Some(Trust::Builds)).await.unwrap(),
        Way::NoSharing => stage.set("mallory", "share-builds", "false").await,
        Way::Removed => {
            let mallory = stage.world.named("mallory").await;
            stage.world.house.remove_account(&mallory).await.unwrap();
        }
        Way::ForgetAndReplace => {
            forget(&things.his()).await;
            let evil = ["deep", "input", "above"].map(|name| item(&path(name), "evil", &[]));
            upload(&stage.mallory, &evil.iter().collect::<Vec<_>>())
                .await
                .unwrap();
            forget(&things.his()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_takes_back_what_another_account_stands_on() {
    for ground in GROUNDS {
        for way in WAYS {
            for step in STEPS {
                let case = format!("{ground:?}, {step:?}, {way:?}");
                let (stage, things) = (stage(ground).await, Things::new(ground));
                upload(&stage.mallory, &things.his()).await.unwrap();
                let has = take(&stage, &things, step).await;
                let before = stage.alice.query_path_infos(has.clone()).await.unwrap();
                take_back(&stage, &things, way).await;
                assert_eq!(
                    stage.alice.query_path_infos(has.clone()).await.unwrap(),
                    before,
                    "{case}"
                );
                stage.world.house.sweep().await.unwrap();
                for path in &has {
                    assert!(bytes(&stage.alice, path).await.is_ok(), "{case}: {path}");
                }
                // And another account that trusts the same was told nothing.
                if way == Way::ForgetAll && ground == Ground::Signed {
                    let carol = stage.world.account("carol").await;
                    let trusted = key("trusted", 1).public_key().to_string();
                    stage.set("carol", "trusted-public-keys", &trusted).await;
                    assert!(!is_valid(&carol, &path("input")).await, "{case}");
                }
            }
        }
    }
}

/// Nobody was told: it goes with whoever takes it back, for everybody, bytes and all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_was_told_goes() {
    for (ground, ways) in [
        (Ground::Signed, &[Way::Forget, Way::ForgetAll, Way::Private][..]),
        (
            Ground::Uploaded,
            &[
                Way::Forget,
                Way::ForgetAll,
                Way::Private,
                Way::NoReader,
                Way::LesserReader,
                Way::Removed,
            ],
        ),
    ] {
        for way in ways {
            let (stage, things) = (stage(ground).await, Things::new(ground));
            upload(&stage.mallory, &things.his()).await.unwrap();
            take_back(&stage, &things, *way).await;
            for name in ["input", "above"] {
                assert!(!is_valid(&stage.alice, &path(name)).await, "{ground:?}, {way:?}");
            }
            stage.world.house.sweep().await.unwrap();
            if *way == Way::ForgetAll {
                assert!(!stage.world.content.contains(&things.input.info.nar_hash));
            }
        }
    }
}

/// Her own decisions take from her at once: to trust no more, and to forget.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn she_takes_back_what_she_was_told() {
    for ground in GROUNDS {
        let (stage, things) = (stage(ground).await, Things::new(ground));
        let hers = stage.world.desk("alice").await;
        let trust = async |so: bool| match (ground, so) {
            (Ground::Signed, true) => {
                let trusted = key("trusted", 1).public_key().to_string();
                hers.add_trusted_key(&trusted).await.map(drop).unwrap();
            }
            (Ground::Signed, false) => hers.remove_trusted_key("trusted").await.unwrap(),
            (Ground::Uploaded, true) => hers.trust("mallory", Some(Trust::Uploads)).await.unwrap(),
            (Ground::Uploaded, false) => hers.trust("mallory", None).await.unwrap(),
        };
        upload(&stage.mallory, &things.his()).await.unwrap();
        take(&stage, &things, Step::Uploaded).await;
        take_back(&stage, &things, Way::ForgetAll).await;
        trust(false).await;
        for name in ["deep", "input", "above", "hers"] {
            assert!(!is_valid(&stage.alice, &path(name)).await, "{ground:?}: {name}");
        }
        trust(true).await;
        assert!(is_valid(&stage.alice, &path("hers")).await, "{ground:?}");
        assert_eq!(hers.forget(&[path("input").to_string()]).await.unwrap(), 1);
        for name in ["input", "above", "hers"] {
            assert!(!is_valid(&stage.alice, &path(name)).await, "{ground:?}: {name}");
        }
        assert!(is_valid(&stage.alice, &path("deep")).await, "{ground:?}");
    }
}

/// A session's own keys tell that session, and nobody after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_session_was_told_is_for_those_who_trust_the_key() {
    let stage = Stage::new().await;
    let things = Things::new(Ground::Signed);
    let trusted = key("trusted", 1).public_key().to_string();
    upload(&stage.mallory, &things.his()).await.unwrap();
    let session = stage
        .session("alice", &[("FIRN_TRUSTED_PUBLIC_KEYS", &trusted)])
        .await;
    assert!(is_valid(&session, &path("input")).await);
    take_back(&stage, &things, Way::Removed).await;
    assert!(is_valid(&session, &path("input")).await);
    assert!(!is_valid(&stage.alice, &path("input")).await);
}

/// When what is told cannot be kept, it is not told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_kept_is_not_told() {
    let (stage, things) = (stage(Ground::Signed).await, Things::new(Ground::Signed));
    upload(&stage.mallory, &things.his()).await.unwrap();
    stage.world.db.break_down(&["tell"]);
    let asked = || BTreeSet::from([path("input")]);
    let error = stage.alice.query_valid_paths(asked(), false).await.unwrap_err();
    assert!(!error.message.contains("secret detail"), "{}", error.message);
    upload(&stage.alice, &[&things.hers]).await.unwrap_err();
    stage.world.db.break_down(&[]);
    assert_eq!(
        stage.alice.query_valid_paths(asked(), false).await.unwrap().len(),
        1
    );
    // Once told, it is not told again.
    stage.world.db.break_down(&["tell"]);
    assert_eq!(
        stage.alice.query_valid_paths(asked(), false).await.unwrap().len(),
        1
    );
    stage.set("mallory", "private", "true").await;
    assert_eq!(
        stage.alice.query_valid_paths(asked(), false).await.unwrap().len(),
        1
    );
}

fn realisation(out: &StorePath) -> Realisation {
    let id = DrvOutput {
        drv: DrvId::Resolved(path("resolved.drv")),
        output: "out".to_owned(),
    };
    Realisation::unsigned(id, out.clone())
}

async fn built(world: &World, account: &str, realisation: &Realisation) {
    let account = world.named(account).await.id;
    let claim = RealisationClaim {
        realisation: realisation.clone(),
        origin: Origin::Built,
        registered: 0,
        form: None,
    };
    world.db.record_realisations(account, &[claim]).await.unwrap();
}

/// The same of realisations: one that a key has signed, and one that was built for an account that she trusts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn realisations_stay_told() {
    for ground in GROUNDS {
        for way in WAYS.into_iter().filter(|way| *way != Way::NoSharing) {
            let (stage, things) = (stage(ground).await, Things::new(ground));
            upload(&stage.mallory, &things.his()).await.unwrap();
            let mut told = realisation(&path("input"));
            match ground {
                Ground::Signed => {
                    let signature = key("trusted", 1).sign(told.fingerprint().as_bytes());
                    told.signatures.insert(signature);
                    stage.mallory.register_realisation(told.clone()).await.unwrap();
                }
                Ground::Uploaded => built(&stage.world, "mallory", &told).await,
            }
            let asked = async || stage.alice.realised(&told.id).await.unwrap();
            assert_eq!(asked().await, Some(path("input")));
            take_back(&stage, &things, way).await;
            assert_eq!(asked().await, Some(path("input")), "{ground:?}, {way:?}");
            // It goes with her own path.
            let hers = stage.world.desk("alice").await;
            hers.forget(&[path("input").to_string()]).await.unwrap();
            if way != Way::NoReader && way != Way::LesserReader {
                continue;
            }
            let expected = (ground == Ground::Signed).then(|| path("input"));
            assert_eq!(asked().await, expected, "{ground:?}, {way:?}");
        }
    }
}
