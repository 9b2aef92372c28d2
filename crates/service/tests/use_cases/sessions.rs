//! What a session says is over with it: every setting, said by everything that comes after the account and its keys, and all that outlives
//! a session.

use std::collections::BTreeSet;

use firn_core::{Definition, Kind, Level, Rung, SETTINGS};
use firn_nix::StorePath;
use firn_nix::realisation::{DrvId, DrvOutput, Realisation};
use firn_nix::signature::SecretKey;
use firn_protocol::Store as _;

use crate::support::graphs::{Package, Packages, build_all, send, source};
use crate::support::{Client, Item, World, entry, is_valid, item, key, path, upload};

const CACHE: &str = "https://his.example";

fn hers() -> SecretKey {
    key("hers", 1)
}

fn his() -> SecretKey {
    key("his", 2)
}

/// Values that may say more than the account does.
fn values(definition: &Definition) -> Vec<String> {
    let words: &[&str] = match definition.kind {
        Kind::Bool => &["true", "false"],
        Kind::Number => &["0", "1"],
        Kind::Weight => &["1000"],
        Kind::Isolation => &["", "namespaces"],
        Kind::Caches => &[CACHE],
        Kind::Keys => {
            let [his, hers] = [his(), hers()].map(|key| key.public_key().to_string());
            return vec![format!("{his} {hers}"), his, hers];
        }
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// What is there when the session is over, of what it tried to leave.
#[derive(Debug, Default, PartialEq, Eq)]
struct Left {
    valid: BTreeSet<StorePath>,
    realised: Option<StorePath>,
    /// The session took a result that another account shares.
    took: bool,
    /// Another account was answered with a result of the session.
    gave: bool,
    /// What the account decided is not what it was.
    decided: bool,
}

/// The things of one try.
struct Attempt {
    input: Item,
    signed: Item,
    unsigned: Item,
    fetched: Item,
    source: Item,
    /// Of an input that his key has signed.
    made: Package,
    common: Package,
    kept: Package,
    realisation: Realisation,
}

impl Attempt {
    /// `variable` stands in the environment of every derivation.
    fn new(variable: Option<(&str, &str)>) -> Self {
        let input = item(&path("input"), "evil", &[]);
        let source = source("source", "int main");
        let mut packages = Packages::default();
        let mut package = |name: &str, of: &StorePath| {
            let variable = variable.map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()));
            packages.with_variable(name, &[of], variable)
        };
        let id = DrvOutput {
            drv: DrvId::Resolved(path("resolved.drv")),
            output: "out".to_owned(),
        };
        let mut realisation = Realisation::unsigned(id, source.info.path.clone());
        let signature = his().sign(realisation.fingerprint().as_bytes());
        realisation.signatures.insert(signature);
        Self {
            made: package("made", &input.info.path),
            common: package("common", &source.info.path),
            kept: package("kept", &source.info.path),
            input: input.signed(&his()),
            signed: item(&path("signed"), "evil", &[]).signed(&his()),
            unsigned: item(&path("unsigned"), "evil", &[]),
            fetched: item(&path("fetched"), "evil", &[]).signed(&his()),
            source,
            realisation,
        }
    }

    /// What a hostile client does with a session. Most of it is refused.
    async fn attack(&self, session: &Client) {
        for item in [&self.signed, &self.unsigned] {
            let _ = upload(session, &[item]).await;
        }
        let _ = session.register_realisation(self.realisation.clone()).await;
        let _ = session.ensure_path(self.fetched.info.path.clone()).await;
        let _ = upload(session, &[&self.made.item]).await;
        for package in [&self.made, &self.common, &self.kept] {
            let target = [package.target()];
            let _ = crate::support::graphs::realise(session, &target, firn_protocol::BuildMode::Normal).await;
        }
    }
}

async fn left(environment: &[(&str, &str)], variable: Option<(&str, &str)>) -> Left {
    let world = World::new();
    let attempt = Attempt::new(variable);
    let graph = [&attempt.common, &attempt.kept];
    for name in ["mallory", "bob", "alice"] {
        let client = world.account(name).await;
        upload(&client, &[&attempt.source]).await.unwrap();
        send(&client, &graph).await;
        if name == "mallory" {
            upload(&client, &[&attempt.input]).await.unwrap();
            build_all(&client, &[&attempt.common]).await;
        }
    }
    world.caches.script(CACHE, |script| {
        let info = entry(&attempt.fetched, &[&his()]);
        script.nars.insert(info.url.clone(), attempt.fetched.nar.clone());
        script.entries.insert(info.path.clone(), info);
    });
    let desk = world.desk("alice").await;
    let trusted = hers().public_key().to_string();
    for (name, value) in [
        ("trusted", "false"),
        ("private", "true"),
        ("share-builds", "false"),
        ("settings-from-drv-env", "true"),
        ("trusted-public-keys", &trusted),
    ] {
        desk.set(None, name, Some(value)).await.unwrap();
    }
    let before = (
        desk.settings(None).await.unwrap(),
        desk.relations().await.unwrap(),
    );

    let variables = environment
        .iter()
        .map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()));
    let account = world.named("alice").await;
    // What is refused leaves nothing.
    if let Ok(session) = world.house.session(account, None, variables.collect()).await {
        attempt.attack(&session).await;
    }
    world.idle().await;

    let alice = world.house.store(world.named("alice").await);
    let mut left = Left {
        took: world.rungs("alice").await.iter().any(|rung| {
            rung.is_some_and(|rung| matches!(rung, Rung::Shared | Rung::Joined | Rung::Grounded))
        }),
        decided: before
            != (
                desk.settings(None).await.unwrap(),
                desk.relations().await.unwrap(),
            ),
        realised: alice.realised(&attempt.realisation.id).await.unwrap(),
        ..Left::default()
    };
    let tried = [
        &attempt.signed,
        &attempt.unsigned,
        &attempt.fetched,
        &attempt.input,
    ];
    let tried = tried.map(|item| item.info.path.clone());
    for path in tried.into_iter().chain([attempt.made.out()]) {
        if is_valid(&alice, &path).await {
            left.valid.insert(path);
        }
    }
    let bob = world.house.store(world.named("bob").await);
    build_all(&bob, &[&attempt.kept]).await;
    left.gave = world.rungs("bob").await != [Some(Rung::Built)];
    left
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_session_says_outlives_it() {
    assert_eq!(left(&[], None).await, Left::default());
    for definition in SETTINGS {
        let variable = format!("FIRN_{}", definition.name.to_ascii_uppercase().replace('-', "_"));
        for value in values(definition) {
            let said = (variable.as_str(), value.as_str());
            for level in [Level::SshEnvironment, Level::Derivation] {
                let left = match level {
                    Level::SshEnvironment => left(&[said], None).await,
                    _ => left(&[], Some(said)).await,
                };
                let level = level.name();
                assert_eq!(left, Left::default(), "{variable}={value} by the {level}");
            }
        }
    }
}

/// Both at once: a session that lets derivations say more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_session_lets_others_say_outlives_it() {
    let keys = his().public_key().to_string();
    let all = [
        ("FIRN_SETTINGS_FROM_DRV_ENV", "true"),
        ("FIRN_TRUSTED_PUBLIC_KEYS", keys.as_str()),
        ("FIRN_SUBSTITUTERS", CACHE),
        ("FIRN_SHARE_BUILDS", "true"),
        ("FIRN_SUBSTITUTE", "true"),
    ];
    let said = Some(("FIRN_KEEP_BUILDS_RUNNING", "true"));
    assert_eq!(left(&all, said).await, Left::default());
}
