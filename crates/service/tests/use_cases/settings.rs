//! Settings of every level, and when they hold.

use firn_core::{Effective, Isolation, Level};
use firn_protocol::{BuildOptions, BuildResult, BuildStatus};
use firn_service::ports::{Accounts as _, SshKey};

use crate::support::{Asked, Client, Drv, World, build, is_valid, item, key, path, upload};

fn ssh_key(name: &str) -> SshKey {
    SshKey {
        algorithm: "ssh-ed25519".into(),
        blob: name.as_bytes().to_vec(),
        fingerprint: format!("SHA256:{name}"),
        comment: String::new(),
        added: 0,
    }
}

fn text_of(result: &BuildResult) -> String {
    String::from_utf8(result.error_msg.clone()).unwrap()
}

async fn session(world: &World, key: Option<&str>, variables: &[(&str, &str)]) -> Result<Client, String> {
    let account = world.named("alice").await;
    let variables = variables
        .iter()
        .map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()));
    let session = world
        .house
        .session(account, key.map(str::to_owned), variables.collect());
    session.await.map_err(|e| e.message)
}

async fn effective(world: &World, key: Option<&str>, variables: &[(&str, &str)]) -> Effective {
    session(world, key, variables)
        .await
        .ok()
        .unwrap()
        .settings()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nearer_level_holds() {
    let world = World::with(|s| s.defaults.timeout = Some(1));
    world.account("alice").await;
    let desk = world.desk("alice").await;
    world.add_ssh_key("alice", &ssh_key("a")).await;
    let timeouts = async || {
        let environment = [("FIRN_TIMEOUT", "4"), ("LANG", "C"), ("FIRN_DATA_DIR", "/x")];
        [
            effective(&world, None, &[]).await.timeout,
            effective(&world, Some("SHA256:a"), &[]).await.timeout,
            effective(&world, Some("SHA256:a"), &environment).await.timeout,
        ]
    };
    assert_eq!(timeouts().await, [1, 1, 4].map(Some));
    desk.set(None, "timeout", Some("2")).await.unwrap();
    assert_eq!(timeouts().await, [2, 2, 4].map(Some));
    desk.set(Some("SHA256:a"), "timeout", Some("3")).await.unwrap();
    assert_eq!(timeouts().await, [2, 3, 4].map(Some));
    let row = async |key| {
        let rows = desk.settings(key).await.unwrap();
        let row = rows.into_iter().find(|r| r.name == "timeout").unwrap();
        (row.value, row.level)
    };
    assert_eq!(row(None).await, ("2".into(), Level::Account));
    assert_eq!(row(Some("SHA256:a")).await, ("3".into(), Level::Key));
    desk.set(None, "timeout", None).await.unwrap();
    assert_eq!(timeouts().await, [1, 3, 4].map(Some));
    assert_eq!(row(None).await, ("1".into(), Level::System));

    for (name, value, says) in [
        ("timout", "1", "did you mean 'timeout'"),
        ("timeout", "soon", "not a whole number"),
        ("private", "maybe", "not true or false"),
        ("substituters", "ftp://x", "use https://"),
        ("trusted-public-keys", "k:AAAA", "32 bytes"),
    ] {
        let text = desk.set(None, name, Some(value)).await.unwrap_err().message;
        assert!(text.contains(says), "{text}");
    }
    let text = desk
        .set(Some("SHA256:a"), "private", Some("1"))
        .await
        .unwrap_err()
        .message;
    assert!(text.contains("cannot be set by the ssh-key"), "{text}");
    desk.set(Some("SHA256:b"), "timeout", Some("1"))
        .await
        .unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_counts_unless_it_is_turned_off() {
    let world = World::new();
    world.account("alice").await;
    let desk = world.desk("alice").await;
    for (variable, says) in [
        (
            "FIRN_TIMOUT",
            "in the SSH environment: there is no setting 'timout'",
        ),
        ("FIRN_PRIVATE", "cannot be set by the ssh-environment"),
        ("FIRN_ALLOW_SHELL", "cannot be set by the ssh-environment"),
    ] {
        let text = session(&world, None, &[(variable, "1")]).await.err().unwrap();
        assert!(text.contains(says), "{text}");
    }
    desk.set(None, "settings-from-ssh-env", Some("false"))
        .await
        .unwrap();
    let settings = effective(&world, None, &[("FIRN_TIMOUT", "1"), ("FIRN_TIMEOUT", "1")]).await;
    assert_eq!(settings.timeout, None);
}

/// A key that one session trusts makes a path usable in that session, and in no other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sessions_keys_are_that_sessions() {
    let world = World::new();
    let bob = world.account("bob").await;
    let k = key("k", 1);
    let signed = item(&path("one"), "1", &[]).signed(&k);
    upload(&bob, &[&signed]).await.unwrap();
    let alice = world.account("alice").await;
    let public = k.public_key().to_string();
    let with = session(&world, None, &[("FIRN_TRUSTED_PUBLIC_KEYS", &public)])
        .await
        .ok()
        .unwrap();
    assert!(is_valid(&with, &signed.info.path).await);
    assert!(!is_valid(&alice, &signed.info.path).await);
    assert!(is_valid(&with, &signed.info.path).await);
}

/// Every build of an account that wants what is not there would fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_that_is_not_on_offer_is_refused_with_what_is() {
    let world = World::new();
    world.account("alice").await;
    let desk = world.desk("alice").await;
    let refused = desk.set(None, "sandbox", Some("vm")).await.unwrap_err();
    assert_eq!(
        refused.message,
        "'sandbox' cannot be 'vm': this service offers namespaces"
    );
    desk.set(None, "sandbox", Some("namespaces")).await.unwrap();
    desk.set(None, "sandbox", None).await.unwrap();
    // What is offered and cannot be had now may come.
    let world = World::with(|s| {
        s.sandboxes
            .push((Isolation::Vm, Err("it is not prepared".into())))
    });
    world.account("alice").await;
    let desk = world.desk("alice").await;
    desk.set(None, "sandbox", Some("vm")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_holds_for_sessions_that_are_open() {
    let world = World::new();
    world.account("alice").await;
    let open = session(&world, None, &[]).await.ok().unwrap();
    let desk = world.desk("alice").await;
    for timeout in [5, 6] {
        desk.set(None, "timeout", Some(&timeout.to_string()))
            .await
            .unwrap();
        assert_eq!(open.settings().await.unwrap().timeout, Some(timeout));
    }
    world.add_ssh_key("alice", &ssh_key("a")).await;
    let keyed = session(&world, Some("SHA256:a"), &[]).await.ok().unwrap();
    desk.set(Some("SHA256:a"), "timeout", Some("7")).await.unwrap();
    assert_eq!(keyed.settings().await.unwrap().timeout, Some(7));
    desk.remove_ssh_key("SHA256:a").await.unwrap();
    let account = world.named("alice").await;
    assert_eq!(world.db.keys(account.id).await.unwrap(), []);
    // What restricted the key does not end with it.
    let gone = "the SSH key SHA256:a does not act for account 'alice' any more";
    assert_eq!(keyed.settings().await.unwrap_err().message, gone);
    assert_eq!(session(&world, Some("SHA256:a"), &[]).await.err().unwrap(), gone);
}

fn with_attributes(name: &str, attributes: &[(&str, &str)]) -> Drv {
    let mut drv = Drv::new(name, &["wait"], &[]);
    for (name, value) in attributes {
        drv.drv
            .env
            .insert(name.as_bytes().to_vec(), value.as_bytes().to_vec());
    }
    drv
}

#[tokio::test(start_paused = true)]
async fn attributes_of_a_derivation_count_when_that_is_turned_on() {
    let world = World::new();
    let alice = world.account("alice").await;
    let desk = world.desk("alice").await;
    let on = async |on: &str| desk.set(None, "settings-from-drv-env", Some(on)).await.unwrap();
    let timeout = [("FIRN_TIMEOUT", "10")];
    // Off: it is an attribute like any other.
    let waits = Asked::plain(&alice, &with_attributes("off", &timeout));
    world.builder.until(|c| c.waiting == 1).await;
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    world.builder.release(1);
    assert_eq!(waits.answer().await.done().status, BuildStatus::Built);
    on("true").await;
    let result = build(&alice, &with_attributes("on", &timeout)).await.done();
    assert_eq!(result.status, BuildStatus::TimedOut);
    assert!(text_of(&result).contains("after 10 seconds"));
    // The client's own limit goes first, zero is none.
    for (limit, status) in [(5, "after 5 seconds"), (0, "after 10 seconds")] {
        let options = BuildOptions {
            timeout: Some(limit),
            ..BuildOptions::default()
        };
        let drv = with_attributes(&format!("limit-{limit}"), &timeout);
        let result = Asked::start(&alice, &drv, Default::default(), options)
            .answer()
            .await
            .done();
        let text = text_of(&result);
        assert!(text.contains(status), "{text}");
    }
    let started = world.builder.counts().started;
    for (attribute, says) in [
        ("FIRN_TIMOUT", "did you mean 'timeout'"),
        ("FIRN_PRIVATE", "cannot be set by the derivation"),
        ("FIRN_SHARE_BUILDS", "cannot be set by the derivation"),
        ("FIRN_TRUSTED_PUBLIC_KEYS", "cannot be set by the derivation"),
    ] {
        let result = build(&alice, &with_attributes("bad", &[(attribute, "1")]))
            .await
            .done();
        assert_eq!(result.status, BuildStatus::InputRejected);
        let text = text_of(&result);
        assert!(text.contains(says), "{text}");
    }
    assert_eq!(world.builder.counts().started, started);
}

/// Out of the limits of others: the account's timeout ends its waiting, not the run.
#[tokio::test(start_paused = true)]
async fn a_timeout_that_is_set_ends_only_ones_own_waiting() {
    let world = World::new();
    let (alice, bob) = (world.account("alice").await, world.account("bob").await);
    world
        .desk("bob")
        .await
        .set(None, "timeout", Some("10"))
        .await
        .unwrap();
    let drv = Drv::new("thing", &["wait"], &[]);
    let patient = Asked::plain(&alice, &drv);
    world.builder.until(|c| c.waiting == 1).await;
    assert_eq!(build(&bob, &drv).await.done().status, BuildStatus::TimedOut);
    world.builder.release(1);
    assert_eq!(patient.answer().await.done().status, BuildStatus::Built);
}
