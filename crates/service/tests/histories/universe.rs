//! The few things that histories are about.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use firn_nix::signature::{SecretKey, Signature};
use firn_nix::{NarHash, StorePath};

use crate::support::{Drv, Item, fixed_without_path, item, key, path, text_item};

pub const ACCOUNTS: usize = 5;
pub const NAMES: [&str; ACCOUNTS] = ["ann", "bea", "cem", "dov", "eli"];

pub const SOURCES: usize = 5;
pub const TEXTS: usize = 2;
pub const DERIVATIONS: usize = 6;
/// Sources, texts, one path per derivation, and the `.drv` of the first.
pub const PATHS: usize = SOURCES + TEXTS + DERIVATIONS + 1;
/// Outputs of the derivations that add something by chance.
pub const CHANCE: [usize; 2] = [SOURCES + TEXTS + 1, SOURCES + TEXTS + 3];
/// Contents that may be brought for a path.
pub const VARIANTS: usize = 3;
pub const KEYS: usize = 3;

pub const CACHES: [&str; 3] = [
    "https://open.example",
    "https://other.example",
    "https://closed.example",
];
/// What the last of them wants to see.
pub const LOGIN: (&str, &str, &str) = ("closed.example", "user", "password");
/// The one that wants it.
pub const CLOSED: usize = 2;

pub struct Universe {
    pub paths: Vec<StorePath>,
    /// By path and variant.
    pub items: Vec<Vec<Item>>,
    pub derivations: Vec<Drv>,
    pub keys: Vec<SecretKey>,
    /// What signs for the accounts.
    pub signing: Vec<SecretKey>,
    /// By path, content and references: who has signed what can be uploaded.
    signatures: BTreeMap<String, String>,
}

pub fn universe() -> &'static Universe {
    static UNIVERSE: OnceLock<Universe> = OnceLock::new();
    UNIVERSE.get_or_init(Universe::make)
}

impl Universe {
    fn make() -> Self {
        let sources: Vec<StorePath> = (0..SOURCES).map(|n| path(&format!("source-{n}"))).collect();
        let drv = |name: &str, steps: &[&str], inputs: &[&StorePath], to: &[&StorePath]| {
            Drv::new(name, steps, inputs).referring(to)
        };
        let mut derivations = vec![drv("plain", &[], &[&sources[0]], &[&sources[0]])];
        derivations.push(drv("chance", &["random"], &[&sources[1]], &[]));
        let plain = derivations[0].out();
        derivations.push(drv("second", &[], &[&plain, &sources[2]], &[&plain]));
        let chance = derivations[1].out();
        derivations.push(drv("twice", &["random"], &[&chance], &[&chance]));
        derivations.push(drv("failing", &["fail:as always"], &[&sources[0]], &[]));
        derivations.push(fixed_without_path("fixed"));

        let mut items: Vec<Vec<Item>> = Vec::new();
        for n in 0..SOURCES {
            let below: Vec<&StorePath> = sources[..n].last().into_iter().collect();
            let itself = [&sources[n]];
            // Forward and around: only batches can bring a cycle.
            let around = [&sources[(n + 1) % SOURCES]];
            let of = |variant: usize, to: &[&StorePath]| item(&sources[n], &format!("v{variant}"), to);
            items.push(vec![of(0, &below), of(1, &itself), of(2, &around)]);
        }
        for n in 0..TEXTS {
            let to: Vec<&StorePath> = sources[..n].iter().collect();
            let truth = text_item("text", &format!("text {n}"), &to);
            let mut lie = truth.clone();
            let other = text_item("text", "other", &to);
            (lie.info.nar_hash, lie.info.nar_size, lie.nar) =
                (other.info.nar_hash, other.info.nar_size, other.nar);
            let unverified = item(&truth.info.path, "v1", &to);
            items.push(vec![truth, unverified, lie]);
        }
        for drv in &derivations {
            let out = drv.out();
            let of = |variant: usize, to: &[&StorePath]| item(&out, &format!("fake {variant}"), to);
            let mut fakes = vec![of(0, &[]), of(1, &[&sources[0]]), of(2, &[&out])];
            for fake in &mut fakes {
                fake.info.deriver = Some(drv.path.clone());
            }
            items.push(fakes);
        }
        let drv_path = &derivations[0].path;
        items.push(
            (0..VARIANTS)
                .map(|v| item(drv_path, &format!("drv {v}"), &[]))
                .collect(),
        );

        let mut universe = Self {
            paths: items.iter().map(|of_path| of_path[0].info.path.clone()).collect(),
            items,
            derivations,
            // Two of one name.
            keys: vec![key("key-a", 1), key("key-b", 2), key("key-b", 3)],
            signing: NAMES.map(|name| key(&format!("signs-for-{name}"), 9)).to_vec(),
            signatures: BTreeMap::new(),
        };
        for item in universe.items.iter().flatten() {
            for (n, key) in universe.keys.iter().enumerate() {
                universe
                    .signatures
                    .insert(format!("{n} {}", item.fingerprint()), item.signature(key));
            }
        }
        universe
    }

    /// The signature of a key over an object.
    pub fn sign(&self, key: usize, fingerprint: &str) -> String {
        match self.signatures.get(&format!("{key} {fingerprint}")) {
            Some(known) => known.clone(),
            None => self.keys[key].sign(fingerprint.as_bytes()).to_string(),
        }
    }

    /// Which key made a signature over an object.
    pub fn signed_by(&self, signature: &str, fingerprint: &str) -> Option<usize> {
        let known = (0..KEYS).find(|n| {
            self.signatures
                .get(&format!("{n} {fingerprint}"))
                .is_some_and(|s| s == signature)
        });
        known.or_else(|| {
            let parsed: Signature = signature.parse().ok()?;
            let verifies = |key: &&SecretKey| key.public_key().verify(fingerprint.as_bytes(), &parsed);
            self.keys.iter().position(|key| verifies(&key))
        })
    }

    pub fn index_of(&self, path: &StorePath) -> usize {
        self.paths.iter().position(|p| p == path).unwrap()
    }

    /// Whether the object's path commits to it, bytes and all.
    pub fn is_true(&self, item: &Item) -> bool {
        item.info.ca.is_some() && self.truth(&item.info.path) == Some(item.info.nar_hash)
    }

    /// The content that a path commits to.
    fn truth(&self, path: &StorePath) -> Option<NarHash> {
        let place = self.index_of(path);
        let first = &self.items[place][0].info;
        (first.ca.is_some()).then_some(first.nar_hash)
    }
}
