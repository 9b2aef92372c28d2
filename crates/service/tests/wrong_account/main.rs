//! Every method of a store, of an upload and of a desk, tried by an account that knows every name of another one's: it is told what it
//! would be told if the other one had nothing.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod ask;
mod methods;
mod setting;
#[expect(dead_code, unused_imports, reason = "other tests use the rest")]
#[path = "../support/mod.rs"]
mod support;

use methods::{DESK, STORE, UPLOAD, methods_of_desk, methods_of_trait};
use setting::{Standing, setting};

#[test]
fn every_method_is_listed() {
    assert_eq!(
        methods_of_trait("Store"),
        STORE,
        "list it, and say in `ask` how it is tried"
    );
    assert_eq!(
        methods_of_trait("Upload"),
        UPLOAD,
        "list it, and say in `ask` how it is tried"
    );
    assert_eq!(
        methods_of_desk(),
        DESK,
        "list it, and say in `ask` how it is tried"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_yours_is_not_there() {
    for standing in [
        Standing::Strangers,
        Standing::LetsRead,
        Standing::Trusted,
        Standing::Private,
    ] {
        for method in STORE.iter().chain(&UPLOAD).chain(&DESK) {
            let with = setting(standing, true).await;
            let without = setting(standing, false).await;
            let [told, expected] = [ask::ask(method, &with).await, ask::ask(method, &without).await];
            for secret in &with.secrets {
                assert!(
                    !told.contains(secret),
                    "{method} ({standing:?}) tells {secret}: {told}"
                );
            }
            assert_eq!(told, expected, "{method} ({standing:?})");
        }
    }
}

/// The same questions as the one whose things they are: otherwise nothing was tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_it_is_gets_it() {
    let mut same = Vec::new();
    for method in STORE.iter().chain(&UPLOAD).chain(&DESK) {
        let (owner, stranger) = (
            setting(Standing::Strangers, true).await.of_the_owner().await,
            setting(Standing::Strangers, true).await,
        );
        if ask::ask(method, &owner).await == ask::ask(method, &stranger).await {
            same.push(*method);
        }
    }
    // What depends on no account's things, or answers only whether it was done.
    let expected = [
        "begin_upload",
        "add_to_store",
        "add_build_log",
        "add_trusted_key",
        "add_ssh_key",
        "add_substituter",
        "set_login",
        "trust",
    ];
    for method in &same {
        assert!(
            expected.contains(method),
            "{method} does not tell the owner more: {same:?}"
        );
    }
}
