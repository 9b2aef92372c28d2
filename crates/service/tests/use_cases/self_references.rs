//! Content addresses of what refers to itself, in both forms that clients compute.

use firn_core::Rung;
use firn_nix::rewrite::SelfReferences::{self, Placed, Unplaced};
use firn_nix::{CaMethod, Derivation, DerivationOutput, HashAlgo, StorePath};
use firn_protocol::{Addressing, BuildStatus, Store as _, Upload as _};

use crate::support::{
    Client, Drv, ITSELF, Item, World, build, bytes, entry, is_valid, item, key, path, self_referring, upload,
};

const TEXT: &str = "see @itself@ and @itself@";

fn thing(form: SelfReferences) -> Item {
    self_referring("thing", TEXT, form)
}

/// The same path and content address; one self-reference is NULs.
fn zeroed(original: &Item) -> Item {
    let path = &original.info.path;
    let hidden = format!("/nix/store/{}-thing", "\0".repeat(32));
    let mut other = item(path, &format!("see {path} and {hidden}"), &[path]);
    other.info.ca = original.info.ca;
    other
}

/// One more session of an account, with a client that computes that form.
async fn session(world: &World, account: &str, form: SelfReferences, certain: bool) -> Client {
    let session = world.house.store(world.named(account).await);
    session.meet(Addressing { form, certain });
    session
}

/// A derivation with a floating output that says what `content` does.
fn floating(content: &str, inputs: &[&StorePath]) -> Drv {
    let mut drv = Drv::new("thing", &[], inputs);
    let output = DerivationOutput::Floating {
        method: CaMethod::Nar,
        algo: HashAlgo::Sha256,
    };
    drv.drv.outputs = [("out".to_owned(), output)].into();
    drv.drv.env.insert(b"content".to_vec(), content.into());
    let placeholder = firn_nix::rewrite::placeholder("out");
    drv.drv.env.insert(b"out".to_vec(), placeholder.into());
    drv
}

async fn built(client: &Client, drv: &Drv) -> StorePath {
    let result = build(client, drv).await.done();
    assert!(result.status.is_success(), "{:?}", result.status);
    result.built_outputs["out"].out_path.clone()
}

async fn told_address(client: &Client, path: &StorePath) -> bool {
    let infos = client.query_path_infos(vec![path.clone()]).await.unwrap();
    infos[0].ca.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_forms_are_taken() {
    let world = World::new();
    let alice = world.account("alice").await;
    for form in SelfReferences::ALL {
        let item = thing(form);
        upload(&alice, &[&item]).await.unwrap();
        assert!(told_address(&alice, &item.info.path).await);
    }
    // The places are in the one, not in the other.
    let refused = upload(&alice, &[&zeroed(&thing(Placed))]).await.unwrap_err();
    assert!(refused.message.contains("its bytes hash to"), "{refused}");
    // A hash that neither of them has.
    let mut wrong = thing(Unplaced);
    wrong.nar = self_referring("thing", "see @itself@ or @itself@!", Unplaced).nar;
    let options = wrong.nar.len() as u64;
    wrong.info.nar_size = options;
    wrong.info.nar_hash =
        firn_nix::NarHash::new(HashAlgo::Sha256.digest(&wrong.nar).bytes().try_into().unwrap());
    upload(&alice, &[&wrong]).await.unwrap_err();
}

/// Two contents have one path and one address. Whom an account believes decides, not the address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_without_places_is_no_proof() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    let (true_one, key) = (thing(Unplaced), key("known", 1));
    let other = zeroed(&true_one);
    let path = &true_one.info.path;
    upload(&bob, &[&other]).await.unwrap();
    upload(&alice, &[&other]).await.unwrap();
    assert_eq!(bytes(&alice, path).await.unwrap(), other.nar);
    // What a trusted key says comes before what was merely uploaded, though that came first.
    let desk = world.desk("alice").await;
    desk.add_trusted_key(&key.public_key().to_string()).await.unwrap();
    upload(&bob, &[&true_one.clone().signed(&key)]).await.unwrap();
    assert_eq!(bytes(&alice, path).await.unwrap(), true_one.nar);
    assert_eq!(
        bytes(&bob, path).await.unwrap(),
        other.nar,
        "the oldest of equals"
    );

    // A client that is not believed proves the bytes by places, or by a signature.
    let carol = world.account("carol").await;
    let desk = world.desk("carol").await;
    desk.set(None, "trusted", Some("false")).await.unwrap();
    let refused = upload(&carol, &[&true_one]).await.unwrap_err().message;
    assert!(
        refused.contains("lacks a signature by a trusted key"),
        "{refused}"
    );
    upload(&carol, &[&thing(Placed)]).await.unwrap();
    desk.add_trusted_key(&key.public_key().to_string()).await.unwrap();
    upload(&carol, &[&true_one.clone().signed(&key)]).await.unwrap();
    assert!(is_valid(&carol, path).await);
}

/// A path may say that it refers to itself and do so nowhere: where the original has self-references, this one has NULs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_is_one_with_all_its_self_references_zeroed() {
    let world = World::new();
    let alice = world.account("alice").await;
    let original = thing(Unplaced);
    let path = &original.info.path;
    let hidden = format!("/nix/store/{}-thing", "\0".repeat(32));
    let mut other = item(path, &format!("see {hidden} and {hidden}"), &[path]);
    other.info.ca = original.info.ca;
    upload(&alice, &[&other]).await.unwrap();
    assert_eq!(bytes(&alice, path).await.unwrap(), other.nar);
    let key = key("known", 1);
    let desk = world.desk("alice").await;
    desk.add_trusted_key(&key.public_key().to_string()).await.unwrap();
    upload(&alice, &[&original.clone().signed(&key)]).await.unwrap();
    assert_eq!(bytes(&alice, path).await.unwrap(), original.nar);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_has_to_sign_it() {
    let world = World::new();
    let alice = world.account("alice").await;
    let (cache, key) = ("https://cache.example", key("cache", 1));
    let desk = world.desk("alice").await;
    desk.add_substituter(cache).await.unwrap();
    desk.add_trusted_key(&key.public_key().to_string()).await.unwrap();
    let (placed, unplaced) = (thing(Placed), thing(Unplaced));
    let other = self_referring("signed", TEXT, Unplaced);
    world.caches.script(cache, |script| {
        script.put(&placed, &[]);
        script.put(&unplaced, &[]);
        script.put(&other, &[&key]);
    });
    assert!(entry(&unplaced, &[]).ca.is_some());
    let all = [&placed, &unplaced, &other].map(|item| item.info.path.clone());
    let valid = alice.query_valid_paths(all.into(), true).await.unwrap();
    assert_eq!(valid, [placed.info.path, other.info.path].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_client_gets_the_form_that_it_checks() {
    let world = World::new();
    world.account("alice").await;
    let old = session(&world, "alice", Placed, true).await;
    let new = session(&world, "alice", Unplaced, true).await;
    let drv = floating(&format!("I am {ITSELF}"), &[]);
    let (first, second) = (built(&old, &drv).await, built(&new, &drv).await);
    assert_eq!(first, self_referring("thing", "I am @itself@", Placed).info.path);
    assert_eq!(
        second,
        self_referring("thing", "I am @itself@", Unplaced).info.path
    );
    assert_eq!(world.builder.counts().started, 2);
    // Each is told its own afterwards, whichever came last.
    for (client, path) in [(&old, &first), (&new, &second)] {
        assert_eq!(built(client, &drv).await, *path);
        let of_path = Derivation::from_basic(drv.drv.clone())
            .store_path("thing")
            .unwrap();
        let id = firn_nix::realisation::DrvOutput::of_path(of_path, "out".to_owned()).unwrap();
        assert_eq!(client.realised(&id).await.unwrap().as_ref(), Some(path));
        assert!(told_address(client, path).await);
    }
    assert!(!told_address(&old, &second).await && !told_address(&new, &first).await);
    assert_eq!(world.builder.counts().started, 2);

    // Another account's result is of use to a client of the same form only.
    world.account("bob").await;
    let bob = session(&world, "bob", Unplaced, true).await;
    assert_eq!(built(&bob, &drv).await, second);
    assert_eq!(world.rungs("bob").await, [Some(Rung::Shared)]);
}

/// What does not refer to itself is the same for both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_one_form_is_built_once() {
    let world = World::new();
    for account in ["alice", "bob"] {
        world.account(account).await;
    }
    let alice = session(&world, "alice", Placed, true).await;
    let bob = session(&world, "bob", Unplaced, true).await;
    let drv = floating("nothing of itself", &[]);
    assert_eq!(built(&alice, &drv).await, built(&bob, &drv).await);
    assert_eq!(world.builder.counts().started, 1);
    assert_eq!(world.rungs("bob").await, [Some(Rung::Shared)]);
    let also_alice = session(&world, "alice", Unplaced, true).await;
    let again = build(&also_alice, &drv).await.done();
    assert_eq!(again.status, BuildStatus::AlreadyValid);
}

/// Nix 2.15 and 2.17 speak the same protocol. What a client has computed, or has, shows which it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_brings_shows_its_form() {
    let world = World::new();
    world.account("alice").await;
    let open = session(&world, "alice", Unplaced, false).await;
    let drv = floating(&format!("I am {ITSELF}"), &[]);
    let placed = self_referring("thing", "I am @itself@", Placed).info.path;
    let mut bringing = open.begin_upload().await.unwrap();
    let input = self_referring("input", TEXT, Placed);
    bringing
        .add(input.info.clone(), &mut &input.nar[..])
        .await
        .unwrap();
    bringing.commit().await.unwrap();
    assert_eq!(built(&open, &drv).await, placed);

    let next = session(&world, "alice", Unplaced, false).await;
    let using = floating(&format!("I am {ITSELF}"), &[&input.info.path]);
    assert_eq!(built(&next, &using).await, placed);
    // Who says which form is his own is believed.
    let certain = session(&world, "alice", Unplaced, true).await;
    assert_ne!(built(&certain, &using).await, placed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_realisation_is_for_its_form() {
    let world = World::new();
    world.account("alice").await;
    let old = session(&world, "alice", Placed, true).await;
    let new = session(&world, "alice", Unplaced, true).await;
    let result = item(&path("thing"), "whatever it says", &[]);
    upload(&old, &[&result]).await.unwrap();
    let of_path = Derivation::from_basic(floating("x", &[]).drv)
        .store_path("thing")
        .unwrap();
    let id = firn_nix::realisation::DrvOutput::of_path(of_path, "out".to_owned()).unwrap();
    let told = firn_nix::realisation::Realisation::unsigned(id.clone(), result.info.path.clone());
    old.register_realisation(told).await.unwrap();
    assert_eq!(old.realised(&id).await.unwrap(), Some(result.info.path));
    assert_eq!(new.realised(&id).await.unwrap(), None);
}
