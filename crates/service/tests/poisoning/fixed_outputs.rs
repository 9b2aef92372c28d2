//! Outputs whose path follows from their expected hash.

use firn_nix::{CaMethod, ContentAddress, DerivationOutput, HashAlgo};
use firn_protocol::BuildStatus;

use super::Stage;
use crate::support::{Drv, FIXED, build, bytes, fixed_without_path, is_valid, item, upload};

fn with(name: &str, ca: ContentAddress) -> Drv {
    let mut drv = fixed_without_path(name);
    drv.drv
        .outputs
        .insert("out".into(), DerivationOutput::Fixed { path: None, ca });
    drv
}

fn flat() -> ContentAddress {
    ContentAddress {
        method: CaMethod::Flat,
        hash: HashAlgo::Sha256.digest(FIXED.as_bytes()),
    }
}

/// Mallory builds another fixed output first: it is another path, and Alice's is built for her.
async fn another(drv: Drv) {
    let stage = Stage::new().await;
    let hers = with("source", flat());
    assert_ne!(drv.out(), hers.out());
    build(&stage.mallory, &drv).await.done();
    assert!(!is_valid(&stage.alice, &hers.out()).await);
    stage.unharmed(&[], &hers).await;
    assert_eq!(stage.runs(), 2);
}

/// The same hash under another name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_hash_under_another_name() {
    another(with("sourcf", flat())).await;
}

/// The same digest as that of an archive instead of a file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recursive_instead_of_flat() {
    let mut ca = flat();
    ca.method = CaMethod::Nar;
    another(with("source", ca)).await;
}

/// The same bytes as a text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_instead_of_flat() {
    let mut ca = flat();
    ca.method = CaMethod::Text;
    another(with("source", ca)).await;
}

/// The same bytes by a weaker algorithm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_weaker_algorithm() {
    let mut ca = flat();
    ca.hash = HashAlgo::Md5.digest(FIXED.as_bytes());
    another(with("source", ca)).await;
}

/// Another hash that is said to lead to Alice's path.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_hash_with_alices_path() {
    let stage = Stage::new().await;
    let hers = with("source", flat());
    let mut ca = flat();
    ca.hash = HashAlgo::Sha256.digest(b"evil");
    let mut lie = with("source", ca);
    let path = Some(hers.out());
    lie.drv
        .outputs
        .insert("out".into(), DerivationOutput::Fixed { path, ca });
    let status = build(&stage.mallory, &lie).await.done().status;
    assert_eq!(status, BuildStatus::InputRejected);
    stage.unharmed(&[], &hers).await;
}

/// Alice's path as that of an output without an expected hash, which may be anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alices_path_without_a_hash() {
    let stage = Stage::new().await;
    let hers = with("source", flat());
    let mut lie = Drv::new("source", &["log:evil\n"], &[]);
    let out = DerivationOutput::InputAddressed(hers.out());
    lie.drv.outputs.insert("out".into(), out);
    assert!(build(&stage.mallory, &lie).await.done().status.is_success());
    assert!(!is_valid(&stage.alice, &hers.out()).await);
    stage.unharmed(&[], &hers).await;
    assert_ne!(
        bytes(&stage.alice, &hers.out()).await.unwrap(),
        bytes(&stage.mallory, &hers.out()).await.unwrap()
    );
}

/// Other bytes under Alice's path, with and without the content address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_under_alices_path() {
    let stage = Stage::new().await;
    let hers = with("source", flat());
    let mut lie = item(&hers.out(), "evil", &[]);
    upload(&stage.mallory, &[&lie]).await.unwrap();
    lie.info.ca = Some(flat());
    upload(&stage.mallory, &[&lie]).await.unwrap_err();
    assert!(!is_valid(&stage.alice, &hers.out()).await);
    stage.unharmed(&[], &hers).await;
    // He himself believes from now on what the path commits to.
    build(&stage.mallory, &hers).await.done();
}

/// The right bytes with the executable bit, which the hash of a file does not say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_executable_bit() {
    let stage = Stage::new().await;
    let hers = with("source", flat());
    let mut lie = item(&hers.out(), FIXED, &[]);
    lie.nar = executable(FIXED);
    let hash = firn_nix::Hash::sha256(&lie.nar);
    lie.info.nar_hash = firn_nix::NarHash::new(hash.bytes().try_into().unwrap());
    lie.info.nar_size = lie.nar.len() as u64;
    lie.info.ca = Some(flat());
    let refused = upload(&stage.mallory, &[&lie]).await.unwrap_err().message;
    assert!(refused.contains("without the executable bit"), "{refused}");
    stage.unharmed(&[], &hers).await;
}

fn executable(text: &str) -> Vec<u8> {
    use firn_nix::nar::{NarVisitor as _, NarWriter};
    let mut nar = NarWriter::new(Vec::new());
    nar.regular(true, text.len() as u64).unwrap();
    nar.data(text.as_bytes()).unwrap();
    nar.end_regular().unwrap();
    nar.into_inner()
}

/// Another fetcher for the same hash: another build, because a fetcher may do more than fetch; the path has the same bytes either way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_fetcher_for_the_same_hash() {
    let stage = Stage::new().await;
    let hers = with("source", flat());
    let mut his = hers.clone();
    his.drv.args.push(b"log:evil\n".to_vec());
    build(&stage.mallory, &his).await.done();
    stage.unharmed(&[], &hers).await;
    assert_eq!(stage.runs(), 2);
}
