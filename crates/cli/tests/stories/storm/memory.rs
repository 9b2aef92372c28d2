//! What the clients of a storm brought or got: what the server must have afterwards.

use std::collections::BTreeMap;
use std::sync::Mutex;

use firn_nix::{NarHash, StorePath};

/// What an account may expect of one path.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The only content that it can have for this account.
    pub content: NarHash,
    /// Whether the server said that it is valid.
    pub acknowledged: bool,
}

/// All expectations, by account.
#[derive(Debug, Default)]
pub struct Memory {
    paths: Mutex<BTreeMap<String, BTreeMap<StorePath, Expected>>>,
}

impl Memory {
    /// Something may become valid: to be noted before it is asked for.
    pub fn expect(&self, account: &str, path: &StorePath, content: NarHash) {
        let mut paths = self.paths.lock().unwrap();
        let expected = paths
            .entry(account.to_owned())
            .or_default()
            .entry(path.clone())
            .or_insert(Expected {
                content,
                acknowledged: false,
            });
        assert_eq!(
            expected.content, content,
            "{account} expects two contents of {path}"
        );
    }

    /// The server said that it is valid.
    pub fn acknowledge(&self, account: &str, path: &StorePath) {
        let mut paths = self.paths.lock().unwrap();
        let expected = paths.get_mut(account).and_then(|paths| paths.get_mut(path));
        expected.unwrap().acknowledged = true;
    }

    /// An acknowledged path of an account, the `n`th modulo their number.
    pub fn acknowledged(&self, account: &str, n: u64) -> Option<(StorePath, NarHash)> {
        let paths = self.paths.lock().unwrap();
        let known: Vec<_> = paths
            .get(account)?
            .iter()
            .filter(|(_, e)| e.acknowledged)
            .collect();
        let (path, expected) = known.get(usize::try_from(n).unwrap() % known.len().max(1))?;
        Some(((*path).clone(), expected.content))
    }

    /// All of it.
    pub fn by_account(&self) -> BTreeMap<String, BTreeMap<StorePath, Expected>> {
        self.paths.lock().unwrap().clone()
    }

    /// In one line.
    pub fn summary(&self) -> String {
        let paths = self.by_account();
        let all = || paths.values().flat_map(BTreeMap::values);
        format!(
            "{} accounts, {} paths, {} acknowledged",
            paths.len(),
            all().count(),
            all().filter(|e| e.acknowledged).count()
        )
    }
}
