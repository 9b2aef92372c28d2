//! Whose key it is: proofs, and what ends with a key.

use firn_service::ports::{Accounts as _, SshKey};
use firn_service::{Desk, Proposed};

use crate::support::{TestPorts, World};

fn ssh_key(name: &str) -> SshKey {
    SshKey {
        algorithm: "ssh-ed25519".into(),
        blob: name.as_bytes().to_vec(),
        fingerprint: format!("SHA256:{name}"),
        comment: String::new(),
        added: 0,
    }
}

async fn code(desk: &Desk<TestPorts>, key: &str, by: Option<&str>) -> String {
    match desk.propose_ssh_key(ssh_key(key), by).await.unwrap() {
        Proposed::Code { code, .. } => code,
        Proposed::Acts => panic!("{key} acts already"),
    }
}

async fn world() -> World {
    let world = World::new();
    for (account, key) in [("alice", "hers"), ("bob", "his")] {
        world.account(account).await;
        world.add_ssh_key(account, &ssh_key(key)).await;
    }
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_only_named_acts_for_nobody() {
    let world = world().await;
    let desk = world.desk("alice").await;
    // His key and a key that nobody has are told apart by no answer.
    for key in ["his", "nobodys"] {
        let code = code(&desk, key, Some("SHA256:hers")).await;
        assert!(code.starts_with("alice-"), "{code}");
        assert!(world.house.awaits_ssh_key(key.as_bytes()));
    }
    desk.add_ssh_key(&ssh_key("nobodys")).await.unwrap_err();
    let owner = async |key: &str| world.db.account_by_key(key.as_bytes()).await.unwrap();
    assert_eq!(owner("his").await.unwrap().name.as_str(), "bob");
    assert_eq!(owner("nobodys").await, None);
    let acts = desk.propose_ssh_key(ssh_key("hers"), None).await.unwrap();
    assert_eq!(acts, Proposed::Acts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_and_its_key_make_a_login() {
    let world = world().await;
    let desk = world.desk("alice").await;
    let first = code(&desk, "new", Some("SHA256:hers")).await;
    let second = code(&desk, "new", Some("SHA256:hers")).await;
    let other = code(&desk, "other", Some("SHA256:hers")).await;
    for wrong in [first.as_str(), other.as_str(), "", "alice-"] {
        let refused = world.house.confirm_ssh_key(b"new", wrong).await;
        assert!(refused.is_err(), "{wrong}");
    }
    let (account, key) = world.house.confirm_ssh_key(b"new", &second).await.unwrap();
    assert_eq!(
        (account.name.as_str(), key.fingerprint.as_str()),
        ("alice", "SHA256:new")
    );
    assert_eq!(world.db.account_by_key(b"new").await.unwrap(), Some(account));
    world.house.confirm_ssh_key(b"new", &second).await.unwrap_err();
    // Too late.
    world.clock.set(100_000);
    assert!(!world.house.awaits_ssh_key(b"other"));
    world.house.confirm_ssh_key(b"other", &other).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asked_for_a_code_must_still_be_there() {
    for loses in ["key", "account", "shell"] {
        let world = world().await;
        let desk = world.desk("alice").await;
        let code = code(&desk, "backdoor", Some("SHA256:hers")).await;
        match loses {
            "key" => desk.remove_ssh_key("SHA256:hers").await.unwrap(),
            "account" => world.house.remove_account(desk.account()).await.unwrap(),
            _ => desk
                .set(Some("SHA256:hers"), "allow-shell", Some("false"))
                .await
                .unwrap(),
        }
        world.house.confirm_ssh_key(b"backdoor", &code).await.unwrap_err();
        assert_eq!(
            world.db.account_by_key(b"backdoor").await.unwrap(),
            None,
            "{loses}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_are_those_of_the_moment() {
    let world = world().await;
    let (desk, house) = (world.desk("alice").await, &world.house);
    let alice = desk.account();
    let mut presence = house.enter(alice);
    let shell = async |key| {
        house
            .rights(alice, key)
            .await
            .map(|rights| rights.shell)
            .map_err(|e| e.message)
    };
    assert_eq!(shell(Some("SHA256:hers")).await, Ok(true));
    desk.set(Some("SHA256:hers"), "allow-shell", Some("false"))
        .await
        .unwrap();
    presence.changed().await;
    assert_eq!(
        (shell(Some("SHA256:hers")).await, shell(None).await),
        (Ok(false), Ok(true))
    );
    desk.remove_ssh_key("SHA256:hers").await.unwrap();
    presence.changed().await;
    let gone = shell(Some("SHA256:hers")).await.unwrap_err();
    assert!(
        gone.contains("does not act for account 'alice' any more"),
        "{gone}"
    );
    // Another account's key is no key of hers.
    shell(Some("SHA256:his")).await.unwrap_err();
    house.remove_account(alice).await.unwrap();
    presence.changed().await;
    assert_eq!(
        shell(None).await.unwrap_err(),
        "account 'alice' does not exist any more"
    );
}
