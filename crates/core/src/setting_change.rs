//! Changes of an account's settings, as what is to be done: of two changes of one list at once, both are in the list.

use firn_nix::signature::PublicKey;

use crate::settings::MAX_LIST;
use crate::{CacheUrl, Effective};

/// What is to be done to one setting of an account. What it comes to depends on what holds when it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingChange {
    /// This value, which was checked, whatever holds; `None`: what the operator has set.
    Set {
        /// Which.
        name: &'static str,
        /// In text form.
        value: Option<String>,
    },
    /// Trusts a key, behind those that are trusted.
    TrustKey(PublicKey),
    /// Trusts a key no more: its name, or its whole text.
    DistrustKey(String),
    /// Asks a cache, after the others; in place of one that has its address.
    AddSubstituter(CacheUrl),
    /// Asks a cache no more.
    RemoveSubstituter(CacheUrl),
}

/// Why a change is refused, given what holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A signature names its key, so there cannot be two.
    #[error("another key named '{0}' is trusted already; remove it first with: trusted-keys remove {0}")]
    NameTaken(String),
    /// Nothing to remove.
    #[error("no key named '{0}' is trusted")]
    NotTrusted(String),
    /// Nothing to remove.
    #[error("'{0}' is none of the substituters")]
    NoSubstituter(String),
    /// The list is full.
    #[error("setting '{0}': it has more than {MAX_LIST} entries")]
    Full(&'static str),
}

impl SettingChange {
    /// The setting that it changes.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Set { name, .. } => name,
            Self::TrustKey(_) | Self::DistrustKey(_) => "trusted-public-keys",
            Self::AddSubstituter(_) | Self::RemoveSubstituter(_) => "substituters",
        }
    }

    /// The account's value after the change, where `now` holds for it before; `None` when it has none of its own then.
    ///
    /// # Errors
    /// [`ChangeError`]: nothing is changed.
    pub fn value(&self, now: &Effective) -> Result<Option<String>, ChangeError> {
        match self {
            Self::Set { value, .. } => Ok(value.clone()),
            Self::TrustKey(key) => {
                let mut keys = now.trusted_public_keys.clone();
                match keys.iter().find(|k| k.name() == key.name()) {
                    Some(same) if same == key => {}
                    Some(other) => return Err(ChangeError::NameTaken(other.name().to_owned())),
                    None => keys.push(key.clone()),
                }
                self.list(&keys)
            }
            Self::DistrustKey(which) => {
                let mut keys = now.trusted_public_keys.clone();
                keys.retain(|k| k.name() != which && k.to_string() != *which);
                if keys.len() == now.trusted_public_keys.len() {
                    return Err(ChangeError::NotTrusted(which.escape_debug().to_string()));
                }
                self.list(&keys)
            }
            Self::AddSubstituter(cache) => {
                let mut caches = now.substituters.clone();
                caches.retain(|c| c.base() != cache.base());
                caches.push(cache.clone());
                self.list(&caches)
            }
            Self::RemoveSubstituter(cache) => {
                let mut caches = now.substituters.clone();
                caches.retain(|c| c.base() != cache.base());
                if caches.len() == now.substituters.len() {
                    return Err(ChangeError::NoSubstituter(cache.to_string()));
                }
                self.list(&caches)
            }
        }
    }

    fn list<T: ToString>(&self, entries: &[T]) -> Result<Option<String>, ChangeError> {
        if entries.len() > MAX_LIST {
            return Err(ChangeError::Full(self.name()));
        }
        let texts: Vec<String> = entries.iter().map(ToString::to_string).collect();
        Ok(Some(texts.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Layer, Level, layered};

    fn key(name: &str, seed: u8) -> PublicKey {
        let secret = firn_nix::signature::SecretKey::from_seed(name, &[seed; 32]);
        secret.unwrap().public_key()
    }

    /// What holds after changes, one after the other, where the operator has set what `base` says.
    fn after(base: &Effective, changes: &[SettingChange]) -> Result<Effective, ChangeError> {
        let mut account = Layer::default();
        for change in changes {
            let now = layered(base.clone(), [&account]);
            let value = change.value(&now)?.unwrap();
            account.set(Level::Account, change.name(), &value).unwrap();
        }
        Ok(layered(base.clone(), [&account]))
    }

    #[test]
    fn keys_are_added_behind_and_taken_out() {
        let [a, b, other_a] = [key("a", 1), key("b", 1), key("a", 2)];
        let base = Effective {
            trusted_public_keys: vec![a.clone()],
            ..Effective::default()
        };
        let trust = |key: &PublicKey| SettingChange::TrustKey(key.clone());
        let distrust = |which: &str| SettingChange::DistrustKey(which.to_owned());
        for (changes, expected) in [
            (vec![trust(&b)], vec![a.clone(), b.clone()]),
            (vec![trust(&b), trust(&a)], vec![a.clone(), b.clone()]),
            (vec![distrust("a")], vec![]),
            (vec![trust(&b), distrust(&a.to_string())], vec![b.clone()]),
            (vec![distrust("a"), trust(&other_a)], vec![other_a.clone()]),
        ] {
            let now = after(&base, &changes).unwrap();
            assert_eq!(now.trusted_public_keys, expected, "{changes:?}");
        }
        for (changes, refused) in [
            (vec![trust(&other_a)], ChangeError::NameTaken("a".into())),
            (vec![distrust("b\n")], ChangeError::NotTrusted("b\\n".into())),
        ] {
            assert_eq!(after(&base, &changes), Err(refused));
        }
    }

    #[test]
    fn caches_are_one_an_address() {
        let cache = |text: &str| text.parse::<CacheUrl>().unwrap();
        let [a, b, again] = [
            "https://a.example",
            "https://b.example?priority=3",
            "https://b.example",
        ];
        let base = Effective {
            substituters: vec![cache(a), cache(b)],
            ..Effective::default()
        };
        let added = after(&base, &[SettingChange::AddSubstituter(cache(again))]).unwrap();
        assert_eq!(added.substituters, [cache(a), cache(again)]);
        let removed = after(&base, &[SettingChange::RemoveSubstituter(cache(again))]).unwrap();
        assert_eq!(removed.substituters, [cache(a)]);
        let none = SettingChange::RemoveSubstituter(cache("https://c.example"));
        assert!(matches!(
            after(&base, &[none]),
            Err(ChangeError::NoSubstituter(_))
        ));
    }

    #[test]
    fn a_list_has_an_end() {
        let base = Effective {
            trusted_public_keys: (0..MAX_LIST).map(|n| key(&format!("k-{n}"), 1)).collect(),
            ..Effective::default()
        };
        let one_more = SettingChange::TrustKey(key("more", 1));
        assert_eq!(
            one_more.value(&base),
            Err(ChangeError::Full("trusted-public-keys"))
        );
    }
}
