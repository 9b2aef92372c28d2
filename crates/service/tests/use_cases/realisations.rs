//! Outputs whose paths follow from their contents, and who believes which path an output got.

use std::collections::BTreeSet;

use firn_core::{Rung, Trust};
use firn_nix::realisation::{DrvId, DrvOutput, Realisation};
use firn_nix::rewrite::SelfReferences;
use firn_nix::{CaMethod, Derivation, DerivationOutput, HashAlgo, StorePath};
use firn_protocol::{BuildStatus, Store as _};
use firn_service::ports::Policies as _;

use crate::support::{Client, Drv, World, build, check, is_valid, item, key, path, text_item, upload};

/// With floating outputs, whose contents are what the variable says.
fn floating(name: &str, outputs: &[&str], content: &str, inputs: &[&StorePath]) -> Drv {
    let mut drv = Drv::new(name, &[], inputs);
    let output = DerivationOutput::Floating {
        method: CaMethod::Nar,
        algo: HashAlgo::Sha256,
    };
    drv.drv.outputs = outputs
        .iter()
        .map(|name| ((*name).to_owned(), output.clone()))
        .collect();
    drv.drv.env.insert(b"content".to_vec(), content.into());
    drv.drv
        .env
        .insert(b"out".to_vec(), firn_nix::rewrite::placeholder("out").into());
    drv
}

fn by_hash(drv: &Drv, output: &str) -> DrvOutput {
    let hashes = drv
        .drv
        .output_hashes(drv.path.derivation_name().unwrap())
        .unwrap();
    DrvOutput {
        drv: DrvId::Modulo(*hashes.get(output).unwrap()),
        output: output.to_owned(),
    }
}

fn by_path(drv: &Drv, output: &str) -> DrvOutput {
    let name = drv.path.derivation_name().unwrap();
    let path = Derivation::from_basic(drv.drv.clone()).store_path(name).unwrap();
    DrvOutput::of_path(path, output.to_owned()).unwrap()
}

async fn realised(client: &Client, id: DrvOutput) -> Option<StorePath> {
    let told = client.query_realisation(id.clone()).await.unwrap();
    let path = client.realised(&id).await.unwrap();
    assert_eq!(told.map(|r| r.out_path), path);
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn built_once_and_known_afterwards() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let drv = floating("thing", &["out", "dev"], "1", &[]);
    assert_eq!(realised(&alice, by_hash(&drv, "out")).await, None);
    let built = build(&alice, &drv).await.done();
    assert_eq!(built.status, BuildStatus::Built);
    let outputs: Vec<&str> = built.built_outputs.keys().map(String::as_str).collect();
    assert_eq!(outputs, ["dev", "out"]);
    let out = built.built_outputs["out"].clone();
    assert_eq!(out.out_path.name(), "thing");
    assert_eq!(built.built_outputs["dev"].out_path.name(), "thing-dev");
    let DrvId::Modulo(hash) = by_hash(&drv, "out").drv else {
        panic!()
    };
    assert_eq!(out.drv_hash, hash.hex());
    assert_eq!(
        (out.signatures.len(), out.path_signatures.len()),
        (1, 1),
        "by the account's key"
    );
    for id in [by_hash(&drv, "out"), by_path(&drv, "out")] {
        assert_eq!(realised(&alice, id.clone()).await, Some(out.out_path.clone()));
        assert_eq!(realised(&bob, id).await, None, "what was built for alice is hers");
    }
    let info = alice
        .query_path_infos(vec![out.out_path.clone()])
        .await
        .unwrap()
        .remove(0);
    assert!(info.ca.is_some());

    let again = build(&alice, &drv).await.done();
    assert_eq!(again.status, BuildStatus::AlreadyValid);
    assert_eq!(again.built_outputs, built.built_outputs);
    let shared = build(&bob, &drv).await.done();
    assert_eq!(shared.built_outputs["out"].out_path, out.out_path);
    assert_eq!(
        realised(&bob, by_path(&drv, "out")).await,
        Some(out.out_path.clone())
    );
    assert!(is_valid(&bob, &out.out_path).await);
    assert_eq!(world.builder.counts().started, 1);
    assert_eq!(
        world.rungs("alice").await,
        [Some(Rung::Built), Some(Rung::AlreadyValid)]
    );
    assert_eq!(world.rungs("bob").await, [Some(Rung::Shared)]);
}

/// What is built from equal outputs is the same derivation, whatever made them: nothing above is built again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_outputs_cut_a_rebuild_off() {
    let world = World::new();
    let alice = world.account("alice").await;
    let (one, mut two) = (
        floating("low", &["out"], "same", &[]),
        floating("low", &["out"], "same", &[]),
    );
    two.drv.args = vec![b"log:a comment".to_vec()];
    let first = build(&alice, &one).await.done().built_outputs["out"]
        .out_path
        .clone();
    let top = |low: &StorePath| floating("top", &["out"], "top", &[low]);
    build(&alice, &top(&first)).await.done();
    let second = build(&alice, &two).await.done().built_outputs["out"]
        .out_path
        .clone();
    assert_eq!(first, second);
    assert_eq!(
        build(&alice, &top(&second)).await.done().status,
        BuildStatus::AlreadyValid
    );
    assert_eq!(world.builder.counts().started, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_registers_reaches_those_who_trust_it() {
    let world = World::new();
    let (alice, bob, carol) = (
        world.account("alice").await,
        world.account("bob").await,
        world.account("carol").await,
    );
    let drv = floating("thing", &["out"], "1", &[]);
    let poison = item(&path("thing"), "poison", &[]);
    let lie = |id: DrvOutput| Realisation::unsigned(id, poison.info.path.clone());
    let refused = bob.register_realisation(lie(by_hash(&drv, "out"))).await;
    assert!(refused.unwrap_err().message.contains("is not valid"));
    upload(&bob, &[&poison]).await.unwrap();
    for id in [by_hash(&drv, "out"), by_path(&drv, "out")] {
        bob.register_realisation(lie(id.clone())).await.unwrap();
        assert_eq!(realised(&bob, id.clone()).await, Some(poison.info.path.clone()));
        // Even to one who has the very path.
        upload(&alice, &[&poison]).await.unwrap();
        assert_eq!(realised(&alice, id).await, None);
    }
    let mine = build(&alice, &drv).await.done().built_outputs["out"]
        .out_path
        .clone();
    assert_ne!(mine, poison.info.path);
    // Firn's own build comes before what the client says.
    assert_eq!(build(&bob, &drv).await.done().status, BuildStatus::AlreadyValid);
    let (bobs, carols) = (world.named("bob").await, world.named("carol").await);
    world
        .db
        .let_read(bobs.id, carols.id, Some(Trust::Uploads))
        .await
        .unwrap();
    world
        .db
        .trust(carols.id, bobs.id, Some(Trust::Builds))
        .await
        .unwrap();
    assert_eq!(realised(&carol, by_hash(&drv, "out")).await, None);
    world
        .db
        .trust(carols.id, bobs.id, Some(Trust::Uploads))
        .await
        .unwrap();
    assert_eq!(
        realised(&carol, by_hash(&drv, "out")).await,
        Some(poison.info.path.clone())
    );
    let own = build(&alice, &drv).await.done();
    assert_eq!(own.built_outputs["out"].out_path, mine);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_key_speaks_whoever_brings_it() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let secret = key("cache-1", 1);
    let drv = floating("thing", &["out"], "1", &[]);
    let output = text_item("thing", "from elsewhere", &[]);
    for client in [&alice, &bob] {
        upload(client, &[&output]).await.unwrap();
    }
    let sign = |id: DrvOutput| {
        let mut realisation = Realisation::unsigned(id, output.info.path.clone());
        let signature = secret.sign(realisation.fingerprint().as_bytes());
        realisation.signatures.insert(signature);
        realisation
    };
    for id in [by_hash(&drv, "out"), by_path(&drv, "out")] {
        bob.register_realisation(sign(id)).await.unwrap();
    }
    assert_eq!(realised(&alice, by_path(&drv, "out")).await, None);
    let keys = secret.public_key().to_string();
    world
        .desk("alice")
        .await
        .set(None, "trusted-public-keys", Some(&keys))
        .await
        .unwrap();
    assert_eq!(
        realised(&alice, by_path(&drv, "out")).await,
        Some(output.info.path.clone())
    );
    let built = build(&alice, &drv).await.done();
    assert_eq!(built.status, BuildStatus::AlreadyValid);
    assert_eq!(built.built_outputs["out"].out_path, output.info.path);
    assert_eq!(built.built_outputs["out"].signatures.len(), 1);
    assert_eq!(world.builder.counts().started, 0);
    let mut wrong = sign(by_hash(&drv, "out"));
    wrong.id.output = "other".to_owned();
    let refused = alice.register_realisation(wrong).await.unwrap_err();
    assert!(
        refused
            .message
            .contains("'cache-1', which you trust, is not over it"),
        "{refused}"
    );
    // Of one whose account went private, nothing is seen, but for what one was told.
    world
        .desk("bob")
        .await
        .set(None, "private", Some("true"))
        .await
        .unwrap();
    assert_eq!(
        realised(&alice, by_path(&drv, "out")).await,
        Some(output.info.path.clone())
    );
    let carol = world.account("carol").await;
    world
        .desk("carol")
        .await
        .set(None, "trusted-public-keys", Some(&keys))
        .await
        .unwrap();
    upload(&carol, &[&output]).await.unwrap();
    assert_eq!(realised(&carol, by_path(&drv, "out")).await, None);
}

/// The hash of a derivation leaves out the variables that are named like its outputs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_derivation_with_the_same_hash_is_another() {
    let world = World::new();
    let alice = world.account("alice").await;
    let honest = floating("thing", &["out"], "1", &[]);
    let mut odd = floating("thing", &["out"], "1", &[]);
    odd.drv.env.insert(b"out".to_vec(), b"anything".to_vec());
    odd.drv.env.remove(b"content".as_slice());
    let mut honest = honest;
    honest.drv.env.remove(b"content".as_slice());
    assert_eq!(by_hash(&honest, "out"), by_hash(&odd, "out"));
    let evil = build(&alice, &odd).await.done().built_outputs["out"]
        .out_path
        .clone();
    assert_eq!(realised(&alice, by_hash(&honest, "out")).await, None);
    let good = build(&alice, &honest).await.done().built_outputs["out"]
        .out_path
        .clone();
    assert_ne!(good, evil);
    assert_eq!(realised(&alice, by_hash(&honest, "out")).await, Some(good));
    let again = build(&alice, &odd).await.done();
    assert_eq!(again.built_outputs["out"].out_path, evil);
}

/// An account whose clients are not believed takes signed realisations only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_are_not_believed_bring_signatures() {
    let world = World::new();
    let alice = world.account("alice").await;
    let secret = key("cache-1", 1);
    let desk = world.desk("alice").await;
    desk.set(None, "trusted", Some("false")).await.unwrap();
    desk.set(
        None,
        "trusted-public-keys",
        Some(&secret.public_key().to_string()),
    )
    .await
    .unwrap();
    let drv = floating("thing", &["out"], "1", &[]);
    let output = text_item("thing", "from elsewhere", &[]);
    upload(&alice, &[&output]).await.unwrap();
    let mut realisation = Realisation::unsigned(by_path(&drv, "out"), output.info.path.clone());
    let refused = alice.register_realisation(realisation.clone()).await.unwrap_err();
    assert!(refused.message.contains("'trusted' is false"), "{refused}");
    let signature = secret.sign(realisation.fingerprint().as_bytes());
    realisation.signatures.insert(signature);
    alice.register_realisation(realisation).await.unwrap();
    assert_eq!(
        realised(&alice, by_path(&drv, "out")).await,
        Some(output.info.path)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_compare_paths() {
    let world = World::new();
    let alice = world.account("alice").await;
    let drv = floating("thing", &["out"], "1", &[]);
    build(&alice, &drv).await.done();
    assert_eq!(check(&alice, &drv).await.done().status, BuildStatus::Built);
    let mut random = floating("random", &["out"], "", &[]);
    random.drv.env.remove(b"content".as_slice());
    random.drv.args = vec![b"random".to_vec()];
    build(&alice, &random).await.done();
    let differs = check(&alice, &random).await.done();
    assert_eq!(differs.status, BuildStatus::NotDeterministic);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_resolved_is_refused() {
    let world = World::new();
    let alice = world.account("alice").await;
    let mut drv = floating("thing", &["out"], "1", &[]);
    drv.drv
        .env
        .insert(b"requiredSystemFeatures".to_vec(), b"ca-derivations".to_vec());
    assert_eq!(build(&alice, &drv).await.done().status, BuildStatus::Built);
    drv.drv.outputs = [("out".to_owned(), DerivationOutput::Deferred)].into();
    let refused = build(&alice, &drv).await.done();
    assert_eq!(refused.status, BuildStatus::InputRejected);
    let text = String::from_utf8(refused.error_msg).unwrap();
    assert!(text.contains("not resolved"), "{text}");
    let impure = DerivationOutput::Impure {
        method: CaMethod::Nar,
        algo: HashAlgo::Sha256,
    };
    drv.drv.outputs = [("out".to_owned(), impure)].into();
    let refused = build(&alice, &drv).await.done();
    assert!(String::from_utf8(refused.error_msg).unwrap().contains("impure"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_refer_to_themselves_are_checked() {
    let world = World::new();
    let alice = world.account("alice").await;
    let scratch = path("self");
    let text = |p: &StorePath| format!("see {p} and {p}");
    let nar = |p: &StorePath| item(p, &text(p), &[p]);
    let mut hash = firn_nix::rewrite::HashModuloSelf::new(HashAlgo::Sha256, &scratch);
    hash.push(&nar(&scratch).nar);
    let ca = firn_nix::ContentAddress {
        method: CaMethod::Nar,
        hash: hash.finish().unwrap().of(SelfReferences::Placed),
    };
    let out = StorePath::make_content_addressed("self", &ca, &BTreeSet::new(), true).unwrap();
    let mut good = nar(&out);
    good.info.ca = Some(ca);
    upload(&alice, &[&good]).await.unwrap();
    let mut bad = item(&out, &format!("see {out} or {out}"), &[&out]);
    bad.info.ca = Some(ca);
    let refused = upload(&alice, &[&bad]).await.unwrap_err();
    assert!(refused.message.contains("its bytes hash to"), "{refused}");
}
