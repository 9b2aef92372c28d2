//! Single files of unknown length.

use crate::common::{Scratch, Tree, hash, staged};
use firn_content::{ContentStore, FlatOptions, IngestError};
use firn_nix::{Hash, HashAlgo};

#[tokio::test]
async fn hashes_of_file_and_nar() {
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    for size in [0, 1, 8, 512 * 1024 - 1, 512 * 1024, 512 * 1024 + 1, 3_000_000] {
        let body: Vec<u8> = (0..size).map(|n: usize| (n % 253) as u8).collect();
        for executable in [false, true] {
            let options = FlatOptions {
                executable,
                max_size: size as u64,
                algorithms: vec![HashAlgo::Sha1, HashAlgo::Sha512],
            };
            let (content, hashes) = store.ingest_flat(&mut &body[..], options, None).await.unwrap();
            let nar = Tree::Regular(executable, body.clone()).nar();
            assert_eq!((content.hash(), content.size()), (hash(&nar), nar.len() as u64));
            for algo in [HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha512] {
                assert_eq!(hashes.get(algo), Some(algo.digest(&body)));
            }
            assert_eq!(hashes.get(HashAlgo::Md5), None::<Hash>);
            let tree = store.tree(&content.hash());
            store.publish([content]).await.unwrap();
            assert!(std::fs::read(tree).unwrap() == body);
        }
    }
}

#[tokio::test]
async fn too_large_leaves_nothing() {
    let dir = Scratch::new();
    let store = ContentStore::open(dir.path()).unwrap();
    for limit in [0, 10, 1_000_000] {
        let body = vec![0; limit as usize + 1];
        let options = FlatOptions {
            executable: false,
            max_size: limit,
            algorithms: vec![],
        };
        let error = store
            .ingest_flat(&mut &body[..], options, None)
            .await
            .unwrap_err();
        assert!(matches!(error, IngestError::TooLarge { limit: l } if l == limit));
        assert_eq!(staged(dir.path()), [""; 0]);
    }
}
