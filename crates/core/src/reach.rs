//! How far a setting goes: what a session says is over with the session, and never becomes evidence, results or rights that are not.

use crate::{Effective, Level};

/// How far the effect of a setting goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The request or session that it is set for, or the SSH key, of which the account itself says it. Whichever level may set it may set it
    /// as it likes.
    Session,
    /// All that the account has and gives: what it lets in or out stays. The levels up to the account decide; later ones only take away.
    Account,
    /// The session, while the account's clients are believed: what they send is evidence whatever they say. Once they are not, the account:
    /// what a key has signed is all that they may bring, and builds are made of it.
    Clients,
}

impl Reach {
    /// The last level that may allow more than those before it, in an account whose clients are believed or not.
    #[must_use]
    pub const fn widens_to(self, trusted: bool) -> Level {
        match (self, trusted) {
            (Self::Session, _) | (Self::Clients, true) => Level::Derivation,
            (Self::Account, _) | (Self::Clients, false) => Level::Account,
        }
    }
}

impl Effective {
    /// Takes back what a level after the account's allows beyond what holds without it.
    pub(crate) fn narrow_to(&mut self, before: &Self) {
        self.share_builds &= before.share_builds;
        if !self.trusted {
            let allowed = &before.trusted_public_keys;
            self.trusted_public_keys.retain(|key| allowed.contains(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use firn_nix::signature::SecretKey;

    use crate::{Layer, SETTINGS, layered};

    use super::*;

    const LEVELS: [Level; 3] = [Level::Key, Level::SshEnvironment, Level::Derivation];

    fn key(name: &str) -> String {
        let secret = SecretKey::from_seed(name, &[7; 32]).unwrap();
        secret.public_key().to_string()
    }

    /// What the account has, and what a later level says to have more. `None`: no later level may say it.
    fn values(name: &str) -> Option<[String; 2]> {
        match name {
            "share-builds" => Some(["false", "true"].map(str::to_owned)),
            "trusted-public-keys" => Some([key("hers"), format!("{} {}", key("his"), key("hers"))]),
            _ => None,
        }
    }

    fn account(trusted: bool, name: &str, value: &str) -> Layer {
        let mut layer = Layer::default();
        let trusted = if trusted { "true" } else { "false" };
        layer.set(Level::Account, "trusted", trusted).unwrap();
        layer.set(Level::Account, name, value).unwrap();
        layer
    }

    #[test]
    fn what_reaches_further_than_a_session_is_widened_by_the_account_only() {
        for definition in SETTINGS {
            let name = definition.name;
            for trusted in [true, false] {
                let last = definition.reach.widens_to(trusted);
                for level in LEVELS
                    .into_iter()
                    .filter(|level| (last..=definition.up_to).contains(level))
                {
                    if level == last {
                        continue;
                    }
                    let Some([less, more]) = values(name) else {
                        panic!(
                            "'{name}' reaches further, and the {} may set it: it needs values here",
                            level.name()
                        );
                    };
                    let account = account(trusted, name, &less);
                    let mut layer = Layer::default();
                    layer.set(level, name, &more).unwrap();
                    let shown = layered(Effective::default(), [&account, &layer]).shown(name);
                    assert_eq!(shown, less, "{name} by the {}", level.name());
                }
            }
        }
    }

    #[test]
    fn a_later_level_takes_away_and_does_not_give_back() {
        let [none, all] = values("share-builds").unwrap();
        let account = account(true, "share-builds", &all);
        let [mut ssh_key, mut session] = [Layer::default(), Layer::default()];
        ssh_key.set(Level::Key, "share-builds", &none).unwrap();
        session.set(Level::SshEnvironment, "share-builds", &all).unwrap();
        assert!(!layered(Effective::default(), [&account, &ssh_key]).share_builds);
        assert!(!layered(Effective::default(), [&account, &ssh_key, &session]).share_builds);
    }

    #[test]
    fn sessions_choose_keys_while_their_client_is_believed() {
        let [hers, his] = ["hers", "his"].map(key);
        for (trusted, said, holds) in [
            (true, format!("{his} {hers}"), format!("{his} {hers}")),
            (false, format!("{his} {hers}"), hers.clone()),
            (false, String::new(), String::new()),
        ] {
            let account = account(trusted, "trusted-public-keys", &hers);
            let mut session = Layer::default();
            session
                .set(Level::SshEnvironment, "trusted-public-keys", &said)
                .unwrap();
            let effective = layered(Effective::default(), [&account, &session]);
            assert_eq!(effective.shown("trusted-public-keys"), holds);
        }
    }
}
