//! What one account asked, and what its caches did, decides nothing for another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firn_cache::CacheClient;
use firn_core::AccountId;
use firn_service::ports::{AccountCaches as _, Caches as _};
use tokio::sync::Semaphore;

use crate::fixtures::{bytes, object, options, path, unreachable};
use crate::server::{Server, Step, ok, status, with};

#[tokio::test]
async fn a_miss_is_remembered_for_who_asked_and_until_it_asks_anew() {
    let content = bytes(10);
    let text = object(1, &content, "none", &content).to_string();
    let pushed = Arc::new(AtomicBool::new(false));
    let has = pushed.clone();
    let server = Server::start(move |_| match has.load(Ordering::SeqCst) {
        true => ok(text.as_bytes()),
        false => status(404),
    })
    .await;
    let (all, url) = (CacheClient::new(options()).unwrap(), server.url(""));
    let [alice, bob] = [1, 2].map(|n| all.of(AccountId(n), None));
    assert_eq!(alice.narinfo(&url, None, &path(1)).await.unwrap(), None);
    pushed.store(true, Ordering::SeqCst);
    assert_eq!(alice.narinfo(&url, None, &path(1)).await.unwrap(), None);
    assert!(bob.narinfo(&url, None, &path(1)).await.unwrap().is_some());
    // Her client does not want misses to be remembered.
    let anew = all.of(AccountId(1), Some(Duration::ZERO));
    assert!(anew.narinfo(&url, None, &path(1)).await.unwrap().is_some());
    // Or she says so.
    assert_eq!(server.count(), 3);
    pushed.store(false, Ordering::SeqCst);
    alice.refresh();
    assert_eq!(alice.narinfo(&url, None, &path(1)).await.unwrap(), None);
    pushed.store(true, Ordering::SeqCst);
    assert_eq!(alice.narinfo(&url, None, &path(1)).await.unwrap(), None);
    alice.refresh();
    assert!(alice.narinfo(&url, None, &path(1)).await.unwrap().is_some());
    assert_eq!(server.count(), 5);
}

#[tokio::test]
async fn a_cache_that_failed_for_one_is_asked_for_another() {
    let server = Server::start(|seen| match seen.before {
        0..5 => status(503),
        _ => status(404),
    })
    .await;
    let (all, url) = (CacheClient::new(options()).unwrap(), server.url(""));
    let [alice, bob] = [1, 2].map(|n| all.of(AccountId(n), None));
    unreachable(alice.narinfo(&url, None, &path(1)).await);
    unreachable(alice.narinfo(&url, None, &path(2)).await);
    assert_eq!(server.count(), 5);
    assert_eq!(bob.narinfo(&url, None, &path(1)).await.unwrap(), None);
    alice.refresh();
    assert_eq!(alice.narinfo(&url, None, &path(1)).await.unwrap(), None);
}

/// Large answers that never come to their end, more than there are places.
#[tokio::test]
async fn large_answers_of_one_do_not_keep_another_waiting() {
    let content = bytes(10);
    let text = object(1, &content, "none", &content).to_string();
    let large = format!("{text}X-Padding: {}\n", "y".repeat(1 << 20)).into_bytes();
    let gate = Arc::new(Semaphore::new(0));
    let (held, slow) = (gate.clone(), large.clone());
    let stuck = Server::start(move |_| {
        let Some(Step::Send(bytes)) = with("200 OK", "", &slow).pop() else {
            panic!("no answer");
        };
        let (first, rest) = bytes.split_at(600_000);
        vec![
            Step::Send(first.to_vec()),
            Step::Hold(held.clone()),
            Step::Send(rest.to_vec()),
        ]
    })
    .await;
    let good = Server::start(move |_| ok(&large)).await;
    let all = CacheClient::new(options()).unwrap();
    let mut asks = tokio::task::JoinSet::new();
    for n in 1..25 {
        let (alice, url) = (all.of(AccountId(1), None), stuck.url(""));
        asks.spawn(async move { alice.narinfo(&url, None, &path(n)).await });
    }
    while stuck.count() < 24 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let bob = all.of(AccountId(2), None);
    assert!(
        bob.narinfo(&good.url(""), None, &path(1))
            .await
            .unwrap()
            .is_some()
    );
    gate.add_permits(1000);
    while asks.join_next().await.is_some() {}
}
