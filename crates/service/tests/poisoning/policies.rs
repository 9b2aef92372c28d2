//! What Mallory's policy looks like: his keys, their order, what he says of them in a session.

use firn_protocol::Store as _;

use super::Stage;
use crate::support::{item, key, path, upload};

/// Orders of eleven keys, Alice's and Mallory's, that a hash of 64 bits without a secret (SipHash-1-3, the one of `DefaultHasher`) does
/// not tell apart in the second epoch: found in minutes. The choices of one are not those of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_with_the_hash_of_hers() {
    let (hers, his) = (ALICE, MALLORY);
    let stage = Stage::new().await;
    let text = |n: &usize| key(&format!("key-{n}"), 1).public_key().to_string();
    let texts = |order: &[usize]| order.iter().map(text).collect::<Vec<_>>().join(" ");
    let all: Vec<usize> = (1..=64).collect();
    stage.set("mallory", "trusted-public-keys", &texts(&all)).await;
    stage.set("alice", "trusted-public-keys", &texts(&hers)).await;

    let keys = texts(&his);
    let session = stage.mallory_with(&[("FIRN_TRUSTED_PUBLIC_KEYS", &keys)]).await;
    let thing = path("thing");
    upload(&session, &[&item(&thing, "evil", &[])]).await.unwrap();
    let asked = || vec![thing.clone()];
    assert_eq!(session.query_path_infos(asked()).await.unwrap().len(), 1);
    assert_eq!(stage.alice.query_path_infos(asked()).await.unwrap(), []);
}
