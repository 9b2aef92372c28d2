//! Evidence in short.

use std::collections::BTreeSet;

use firn_core::{AccountId, Claim, Evidence, KeyId, Object, ObjectId, Origin, Policy, Trust, Witness};
use firn_nix::{CaMethod, ContentAddress, HashAlgo, NarHash, StorePath};

/// Few paths, so that evidence meets.
pub const PATHS: u8 = 6;

pub const ME: AccountId = AccountId(1);

pub fn path(n: u8) -> StorePath {
    StorePath::new(&[n; 20], "x").unwrap()
}

/// An object; its number says path and content.
pub fn object(of_path: u8, content: u8, references: impl IntoIterator<Item = u8>, ca: bool) -> Object {
    Object {
        path: path(of_path),
        content: NarHash::new([content; 32]),
        nar_size: u64::from(content),
        references: references.into_iter().map(path).collect(),
        ca: ca.then(|| ContentAddress {
            method: CaMethod::Nar,
            hash: HashAlgo::Sha256.digest(&[of_path]),
        }),
        self_references: None,
    }
}

pub fn evidence(id: i64, object: Object, witness: Witness, origin: Origin, seq: i64) -> Evidence {
    let tag = match witness {
        Witness::Own => "own".to_owned(),
        Witness::Account(AccountId(n)) => format!("account{n}"),
        Witness::Key(KeyId(n)) => format!("key{n}"),
    };
    let from_cache = origin == Origin::Substituted;
    Evidence {
        id: ObjectId(id),
        claim: Claim {
            object,
            origin,
            deriver: None,
            signatures: BTreeSet::from([tag]),
            registered: u64::try_from(seq).unwrap(),
            cache: from_cache.then(|| "https://cache".to_owned()),
            shareable: true,
        },
        witness,
        seq,
        kept: witness == Witness::Own,
    }
}

/// Keys 2 before 1, accounts 3 (uploads) before 2 (builds). Key 9 and account 9 are strangers.
pub fn policy() -> Policy {
    Policy {
        account: ME,
        keys: vec![KeyId(2), KeyId(1)],
        accounts: vec![(AccountId(3), Trust::Uploads), (AccountId(2), Trust::Builds)],
        told_by: vec![(AccountId(3), Trust::Uploads), (AccountId(2), Trust::Builds)],
    }
}
