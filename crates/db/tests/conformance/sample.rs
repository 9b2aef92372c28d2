//! Accounts, objects and builds to record.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{AccountId, AccountName, BuildId, BuildKey, Claim, EvidenceKind, Object, Rung};
use firn_nix::{ContentAddress, Hash, NarHash, StorePath};
use firn_service::ports::{Accounts, BuildRecord, OutputRecord, RequestRecord, SshKey};

pub fn name(text: &str) -> AccountName {
    AccountName::parse(text).unwrap()
}

pub async fn account(db: &impl Accounts, text: &str) -> AccountId {
    db.create_account(&name(text), 1_000).await.unwrap().id
}

pub fn path(n: u32) -> StorePath {
    named_path(n, &format!("thing_{n}-1.0"))
}

pub fn named_path(n: u32, name: &str) -> StorePath {
    let mut hash = [0; 20];
    hash.copy_from_slice(&Hash::sha256(&n.to_le_bytes()).bytes()[..20]);
    StorePath::new(&hash, name).unwrap()
}

pub fn content(n: u32) -> NarHash {
    let mut digest = [0; 32];
    digest.copy_from_slice(Hash::sha256(format!("content {n}").as_bytes()).bytes());
    NarHash::new(digest)
}

/// `path(p)` with `content(c)`, referring to itself and the five paths after it.
pub fn object(p: u32, c: u32) -> Object {
    Object {
        path: path(p),
        content: content(c),
        nar_size: 1_000 + u64::from(c),
        references: (p..=p + 5).map(path).collect(),
        ca: None,
    }
}

pub fn claim(p: u32, c: u32) -> Claim {
    Claim {
        object: object(p, c),
        kind: EvidenceKind::Uploaded,
        deriver: Some(named_path(p, "thing.drv")),
        signatures: texts(&[&format!("cache-1:{p}")]),
        registered: 5_000,
    }
}

pub fn texts(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

pub fn ca() -> ContentAddress {
    ContentAddress::parse(&format!("fixed:r:{}", Hash::sha256(b"x"))).unwrap()
}

pub fn key(n: u32) -> BuildKey {
    BuildKey(*content(n).bytes())
}

pub fn build(id: u8, key_number: u32, contents: &[u32]) -> BuildRecord {
    let outputs: BTreeMap<String, OutputRecord> = contents
        .iter()
        .enumerate()
        .map(|(n, c)| {
            let object = object(u32::try_from(n).unwrap(), *c);
            (["out", "dev", "man"][n].to_owned(), OutputRecord { object })
        })
        .collect();
    BuildRecord {
        id: BuildId([id; 16]),
        key: key(key_number),
        drv_path: named_path(key_number, "thing.drv"),
        outputs,
        started: 10,
        stopped: 12,
        wall_ms: 2_000,
        cpu_user_us: 1_500_000 + u64::from(id),
        cpu_system_us: 30,
    }
}

pub fn request(account: AccountId, n: u32, time: u64) -> RequestRecord {
    RequestRecord {
        account,
        drv_path: named_path(n, "thing.drv"),
        rung: Some(Rung::Shared),
        reason: format!("reason {n}"),
        build: Some(BuildId([7; 16])),
        time,
        wall_ms: 12,
    }
}

pub fn ssh_key(n: u8) -> SshKey {
    SshKey {
        algorithm: "ssh-ed25519".to_owned(),
        blob: vec![0, 0, 0, 11, n, 255, 0],
        fingerprint: format!("SHA256:{n}"),
        comment: format!("alice@{n}"),
        added: 100 + u64::from(n),
    }
}
