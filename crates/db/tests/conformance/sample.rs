//! Accounts, objects and builds to record.

use std::collections::{BTreeMap, BTreeSet};

use std::future::Future;

use firn_core::{
    AccountId, AccountName, BuildId, BuildKey, Claim, Effective, Evidence, KeyId, Object, ObjectId, Origin,
    Policy, Rung, SettingChange, Trust, Witness,
};
use firn_nix::signature::{PublicKey, SecretKey};
use firn_nix::{ContentAddress, Hash, NarHash, StorePath};
use firn_service::ports::{
    AccountChange, Accounts, BuildRecord, Database, DatabaseError, DerivationDigest, FailureRecord, Gives,
    KeyFor, Login, OutputRecord, PastRun, Proof, RequestRecord, RunFailure, RunRecord, SshKey,
};

pub fn name(text: &str) -> AccountName {
    AccountName::parse(text).unwrap()
}

pub async fn account(db: &impl Accounts, text: &str) -> AccountId {
    db.create_account(&name(text), "secret", GIVES, 1_000)
        .await
        .unwrap()
        .id
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
        self_references: None,
    }
}

pub fn claim(p: u32, c: u32) -> Claim {
    Claim {
        object: object(p, c),
        origin: Origin::Uploaded,
        deriver: Some(named_path(p, "thing.drv")),
        signatures: texts(&[&format!("cache-1:{p}")]),
        registered: 5_000,
        cache: None,
        shareable: true,
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

pub fn drv(n: u32) -> DerivationDigest {
    DerivationDigest(*content(1_000_000 + n).bytes())
}

/// A run of `key(n)`, made of some objects; the later, the larger the number.
pub fn run(id: u8, n: u32) -> RunRecord {
    RunRecord {
        id: BuildId([id; 16]),
        key: key(n),
        drv_path: named_path(n, "thing.drv"),
        drv: drv(n),
        system: "x86_64-linux".to_owned(),
        inputs: (1..=i64::from(n) + 2).map(|o| ObjectId(o * o * 50)).collect(),
        started: 10 + u64::from(id),
        stopped: 12 + u64::from(id),
        wall_ms: 2_000,
        cpu_user_us: 1_500_000 + u64::from(id),
        cpu_system_us: 30,
        memory_peak: id.is_multiple_of(2).then_some(1 << 30),
        disk_bytes: 5 << 20,
    }
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
        run: run(id, key_number),
        outputs,
    }
}

pub fn failed(id: u8, key_number: u32) -> FailureRecord {
    FailureRecord {
        run: run(id, key_number),
        failure: RunFailure::Builder(format!("builder failed with exit code {id}")),
    }
}

/// What is known of some runs, without the numbers of the outputs.
pub fn told(runs: Vec<PastRun>) -> Vec<(BuildRecord, bool)> {
    let without = |(name, (id, object)): (String, (ObjectId, Object))| {
        assert!(id.0 > 0);
        (name, OutputRecord { object })
    };
    runs.into_iter()
        .map(|past| {
            let outputs = past.outputs.into_iter().map(without).collect();
            (
                BuildRecord {
                    run: past.run,
                    outputs,
                },
                past.own,
            )
        })
        .collect()
}

/// First bytes of the numbers of some runs, in their order.
pub fn numbers(runs: &[PastRun]) -> Vec<u8> {
    runs.iter().map(|past| past.run.id.0[0]).collect()
}

pub fn request(account: AccountId, n: u32, time: u64) -> RequestRecord {
    RequestRecord {
        account,
        drv_path: named_path(n, "thing.drv"),
        rung: Some(Rung::Shared),
        reason: format!("reason {n}").into(),
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

/// A policy that trusts these.
pub fn policy(account: AccountId, keys: &[KeyId], accounts: &[(AccountId, Trust)]) -> Policy {
    Policy {
        account,
        keys: keys.to_vec(),
        accounts: accounts.to_vec(),
        told_by: accounts.to_vec(),
    }
}

pub fn alone(account: AccountId) -> Policy {
    Policy::alone(account)
}

pub fn public_key(name: &str, seed: u8) -> PublicKey {
    SecretKey::from_seed(name, &[seed; 32]).unwrap().public_key()
}

/// `claim(p, c)` with just this signature.
pub fn signed_claim(p: u32, c: u32, signature: &str) -> Claim {
    let mut claim = claim(p, c);
    claim.signatures = texts(&[signature]);
    claim
}

/// That the key made the first signature of the claim of that index.
pub fn proof(index: usize, claim: &Claim, key: Option<KeyId>) -> Proof {
    let signature = claim.signatures.first().unwrap().clone();
    Proof {
        claim: index,
        key_name: signature.split_once(':').unwrap().0.to_owned(),
        signature,
        key,
    }
}

/// What others see of a claim whose signature they trust.
pub fn fact(claim: &Claim) -> Claim {
    Claim {
        deriver: None,
        origin: Origin::Uploaded,
        cache: None,
        shareable: false,
        ..claim.clone()
    }
}

pub const GIVES: Gives = Gives::ALL;
pub const KEEPS: Gives = Gives {
    evidence: false,
    results: false,
};

/// Short ways to ask for what most cases need.
pub trait Short: Database {
    /// The account's own claims, oldest first.
    fn claims(
        &self,
        account: AccountId,
        paths: &[StorePath],
    ) -> impl Future<Output = Result<Vec<Claim>, DatabaseError>> + Send {
        async move {
            let evidence = self.evidence(&alone(account), paths).await?;
            assert!(evidence.iter().all(|e| e.witness == Witness::Own));
            assert!(evidence.is_sorted_by_key(|e| e.seq));
            Ok(evidence.into_iter().map(|e| e.claim).collect())
        }
    }

    /// Witnesses and claims for one path.
    fn seen(&self, policy: &Policy, path: &StorePath) -> impl Future<Output = Vec<(Witness, Claim)>> + Send {
        async move {
            let evidence = self.evidence(policy, std::slice::from_ref(path)).await.unwrap();
            evidence
                .into_iter()
                .map(|Evidence { witness, claim, .. }| (witness, claim))
                .collect()
        }
    }

    /// Records claims without proofs.
    fn record(
        &self,
        account: AccountId,
        claims: &[Claim],
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send {
        self.record_claims(account, claims, &[], KeyId(0))
    }

    /// Records a claim and that the key has signed it.
    fn record_signed(
        &self,
        account: AccountId,
        claim: &Claim,
        key: KeyId,
    ) -> impl Future<Output = ()> + Send {
        async move {
            let proofs = [proof(0, claim, Some(key))];
            self.record_claims(account, std::slice::from_ref(claim), &proofs, KeyId(i64::MAX))
                .await
                .unwrap();
        }
    }

    /// Makes a key known.
    fn key(&self, name: &str, seed: u8) -> impl Future<Output = KeyId> + Send {
        async move {
            self.register_key(KeyFor::Operator, &public_key(name, seed))
                .await
                .unwrap()
                .0
        }
    }

    /// Sets (or unsets) a setting of the account, where the operator's defaults make it give so much.
    fn set_account(
        &self,
        account: AccountId,
        name: &'static str,
        value: Option<&str>,
        gives: Gives,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send {
        let value = value.map(str::to_owned);
        let change = AccountChange {
            defaults: Effective {
                private: !gives.evidence,
                share_builds: gives.results,
                ..Effective::default()
            },
            change: SettingChange::Set { name, value },
        };
        async move { self.change_account(account, &change).await }
    }

    /// Sets whether the account is private.
    fn private(&self, account: AccountId, private: bool) -> impl Future<Output = ()> + Send {
        let gives = if private { KEEPS } else { GIVES };
        let value = private.to_string();
        async move {
            self.set_account(account, "private", Some(&value), gives)
                .await
                .unwrap();
        }
    }
}

impl<D: Database> Short for D {}

pub fn login() -> Login {
    Login {
        user: "alice".to_owned(),
        password: "\"p' $1 \u{1F328}".to_owned(),
    }
}
