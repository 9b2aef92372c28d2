//! Settings: what can be set, at which level, and what holds in the end.
//!
//! Levels from the weakest: system, account, SSH key, SSH environment (`FIRN_<NAME>`), derivation attributes (`FIRN_<NAME>`). Names that
//! Nix has keep Nix's meaning. No setting reaches a build: what a build can see is the operator's and in the build key.

use std::collections::BTreeMap;

use firn_nix::excerpt;
use firn_nix::signature::PublicKey;

use crate::CacheUrl;
use crate::reach::Reach;
use crate::schedule::Share;
use crate::{Isolation, NoIsolation};

/// Most entries of a list.
pub(crate) const MAX_LIST: usize = 64;

/// Largest weight.
pub const MAX_WEIGHT: u32 = 1000;

/// Longest value, in bytes.
const MAX_VALUE: usize = 64 * 1024;

/// Where a value comes from; a later one overrides an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The operator, for all accounts.
    System,
    /// The operator, for one account; kept with what the account has set.
    Operator,
    /// The account.
    Account,
    /// One of the account's SSH keys.
    Key,
    /// The environment of one SSH session.
    SshEnvironment,
    /// The attributes of one derivation.
    Derivation,
}

impl Level {
    /// As shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Operator => "operator",
            Self::Account => "account",
            Self::Key => "ssh-key",
            Self::SshEnvironment => "ssh-environment",
            Self::Derivation => "derivation",
        }
    }
}

/// Type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `1`; `false`, `0` or nothing.
    Bool,
    /// A whole number; 0 is no limit.
    Number,
    /// 1 to [`MAX_WEIGHT`].
    Weight,
    /// Addresses of binary caches, with blanks or commas between them.
    Caches,
    /// Public keys `name:base64`, with blanks or commas between them.
    Keys,
    /// `namespaces`, `vm`, or nothing for what the operator prefers.
    Isolation,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// As in commands and files; `FIRN_<NAME IN CAPITALS>` in environments.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The last level that may set it.
    pub up_to: Level,
    /// How far it goes, and so which levels only take away.
    pub reach: Reach,
    /// One line for `help`.
    pub about: &'static str,
}

/// Every setting, by name.
pub const SETTINGS: &[Definition] = &[
    Definition {
        name: "allow-shell",
        kind: Kind::Bool,
        up_to: Level::Key,
        reach: Reach::Session,
        about: "whether `shell` and `api` are open to a key",
    },
    Definition {
        name: "build-quota",
        kind: Kind::Number,
        up_to: Level::Operator,
        reach: Reach::Account,
        about: "builds that run for the account at once, at most (0: no limit); the operator's",
    },
    Definition {
        name: "build-weight",
        kind: Kind::Weight,
        up_to: Level::Operator,
        reach: Reach::Account,
        about: "share of the builders when others want them too (1 to 1000); the operator's",
    },
    Definition {
        name: "keep-builds-running",
        kind: Kind::Bool,
        up_to: Level::Derivation,
        reach: Reach::Session,
        about: "whether builds go on to their end without a client, also queued ones and the account's own, however long it takes",
    },
    Definition {
        name: "keep-going",
        kind: Kind::Bool,
        up_to: Level::SshEnvironment,
        reach: Reach::Session,
        about: "whether the rest of a graph is built when one build of it fails",
    },
    Definition {
        name: "max-build-log-size",
        kind: Kind::Number,
        up_to: Level::Derivation,
        reach: Reach::Session,
        about: "bytes of log after which a request gives up (0: no limit), when the client names none",
    },
    Definition {
        name: "max-builds",
        kind: Kind::Number,
        up_to: Level::Account,
        reach: Reach::Account,
        about: "builds that run for the account at once (0: as many as 'build-quota' allows)",
    },
    Definition {
        name: "max-silent-time",
        kind: Kind::Number,
        up_to: Level::Derivation,
        reach: Reach::Session,
        about: "seconds without output after which a request gives up (0: no limit), when the client names none",
    },
    Definition {
        name: "private",
        kind: Kind::Bool,
        up_to: Level::Account,
        reach: Reach::Account,
        about: "uploads, signed or not, and builds serve nobody else",
    },
    Definition {
        name: "reuse-build-failures",
        kind: Kind::Bool,
        up_to: Level::Derivation,
        reach: Reach::Session,
        about: "whether a build that failed before, with the same inputs, is answered with that failure",
    },
    Definition {
        name: "reuse-build-timeouts",
        kind: Kind::Bool,
        up_to: Level::Derivation,
        reach: Reach::Session,
        about: "whether a build that took too long before, with the same inputs, is answered with that",
    },
    Definition {
        name: "sandbox",
        kind: Kind::Isolation,
        // Whoever needs a wall does not want it taken down by an environment or a derivation.
        up_to: Level::Key,
        reach: Reach::Session,
        about: "what builds must run in: namespaces, vm, or nothing for what the operator prefers",
    },
    Definition {
        name: "settings-from-drv-env",
        kind: Kind::Bool,
        up_to: Level::SshEnvironment,
        reach: Reach::Session,
        about: "whether FIRN_… attributes of derivations are settings",
    },
    Definition {
        name: "settings-from-ssh-env",
        kind: Kind::Bool,
        up_to: Level::Key,
        reach: Reach::Session,
        about: "whether FIRN_… variables of the SSH session are settings",
    },
    Definition {
        name: "share-builds",
        kind: Kind::Bool,
        up_to: Level::SshEnvironment,
        reach: Reach::Account,
        about: "take part in derivation sharing: give results and take them",
    },
    Definition {
        name: "substitute",
        kind: Kind::Bool,
        up_to: Level::Derivation,
        reach: Reach::Session,
        about: "whether binary caches are asked",
    },
    Definition {
        name: "substituters",
        kind: Kind::Caches,
        up_to: Level::SshEnvironment,
        reach: Reach::Session,
        about: "binary caches that Firn fetches from for this account",
    },
    Definition {
        name: "timeout",
        kind: Kind::Number,
        up_to: Level::Derivation,
        reach: Reach::Session,
        about: "seconds after which a request gives up (0: no limit), when the client names none",
    },
    Definition {
        name: "trusted",
        kind: Kind::Bool,
        // Whether an upload needs a proof is not for the session that uploads to say.
        up_to: Level::Account,
        reach: Reach::Account,
        about: "whether the account's clients are believed: if not, they send derivations, and every path must be content-addressed or signed",
    },
    Definition {
        name: "trusted-public-keys",
        kind: Kind::Keys,
        up_to: Level::SshEnvironment,
        reach: Reach::Clients,
        about: "keys whose signatures make a path usable, the most preferred first",
    },
];

/// Why a setting is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// No such name.
    #[error("there is no setting '{name}'; did you mean '{nearest}'?")]
    Unknown {
        /// As given, escaped.
        name: String,
        /// The most similar name.
        nearest: &'static str,
    },
    /// A value of another type.
    #[error("setting '{name}': {reason}")]
    Value {
        /// Which.
        name: &'static str,
        /// What is wrong, and what is right.
        reason: String,
    },
    /// Not at this level.
    #[error("setting '{name}' cannot be set by the {}", .level.name())]
    Level {
        /// Which.
        name: &'static str,
        /// Where it was tried.
        level: Level,
    },
}

/// Checked values, each with the level that it was set at, in their text form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer(BTreeMap<&'static str, (Level, String)>);

/// What holds for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// See [`SETTINGS`], as all fields here.
    pub allow_shell: bool,
    /// Runs at once, by the operator.
    pub build_quota: Option<u64>,
    /// Among others.
    pub build_weight: u32,
    /// Builds outlive those who wait.
    pub keep_builds_running: bool,
    /// One failure does not end a graph.
    pub keep_going: bool,
    /// Bytes.
    pub max_build_log_size: Option<u64>,
    /// Runs at once, by the account.
    pub max_builds: Option<u64>,
    /// Seconds.
    pub max_silent_time: Option<u64>,
    /// Serves nobody else.
    pub private: bool,
    /// Failures are answered with the earlier one.
    pub reuse_build_failures: bool,
    /// Time-outs too.
    pub reuse_build_timeouts: bool,
    /// What builds must run in; `None` leaves it to the operator.
    pub sandbox: Option<Isolation>,
    /// `FIRN_…` attributes count.
    pub settings_from_drv_env: bool,
    /// `FIRN_…` variables count.
    pub settings_from_ssh_env: bool,
    /// Gives and takes results.
    pub share_builds: bool,
    /// Caches are asked.
    pub substitute: bool,
    /// Which, without repetition.
    pub substituters: Vec<CacheUrl>,
    /// Seconds.
    pub timeout: Option<u64>,
    /// The account's own clients are believed.
    pub trusted: bool,
    /// In the order of preference; no two of one name.
    pub trusted_public_keys: Vec<PublicKey>,
}

/// What holds where nobody has set anything: the public cache of Nix is asked and its key believed, as Nix does.
impl Default for Effective {
    fn default() -> Self {
        Self {
            allow_shell: true,
            build_quota: None,
            build_weight: Share::default().weight,
            keep_builds_running: false,
            keep_going: false,
            max_build_log_size: None,
            max_builds: None,
            max_silent_time: None,
            private: false,
            reuse_build_failures: true,
            reuse_build_timeouts: false,
            sandbox: None,
            settings_from_drv_env: false,
            settings_from_ssh_env: true,
            share_builds: true,
            substitute: true,
            substituters: "https://cache.nixos.org".parse().into_iter().collect(),
            timeout: None,
            trusted: true,
            trusted_public_keys: "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="
                .parse()
                .into_iter()
                .collect(),
        }
    }
}

/// The setting of that name.
///
/// # Errors
/// [`SettingError::Unknown`] with the nearest name.
pub fn definition(name: &str) -> Result<&'static Definition, SettingError> {
    SETTINGS
        .iter()
        .find(|d| d.name == name)
        .ok_or_else(|| SettingError::Unknown {
            name: excerpt(name).to_string(),
            nearest: SETTINGS
                .iter()
                .min_by_key(|d| distance(d.name, name))
                .map_or("", |d| d.name),
        })
}

impl Layer {
    /// Checks and takes one value.
    ///
    /// # Errors
    /// [`SettingError`] names the setting.
    pub fn set(&mut self, level: Level, name: &str, value: &str) -> Result<(), SettingError> {
        let definition = definition(name)?;
        if level > definition.up_to {
            return Err(SettingError::Level {
                name: definition.name,
                level,
            });
        }
        Effective::default().apply(definition, value)?;
        self.0.insert(definition.name, (level, value.to_owned()));
        Ok(())
    }

    /// The settings among variables: those named `FIRN_…`. Others are left alone.
    ///
    /// # Errors
    /// [`SettingError`] for a variable that is no setting, or has no such value.
    pub fn from_environment<'v>(
        level: Level,
        variables: impl IntoIterator<Item = (&'v [u8], &'v [u8])>,
    ) -> Result<Self, SettingError> {
        let mut layer = Self::default();
        for (variable, value) in variables {
            let Some(name) = variable.strip_prefix(b"FIRN_") else {
                continue;
            };
            let name = excerpt(name).to_string().to_ascii_lowercase().replace('_', "-");
            let known = definition(&name)?;
            let value = std::str::from_utf8(value).map_err(|_| SettingError::Value {
                name: known.name,
                reason: "the value is not UTF-8".into(),
            })?;
            layer.set(level, &name, value)?;
        }
        Ok(layer)
    }

    /// The value that stands here.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|(_, value)| value.as_str())
    }

    /// All that stands here, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, (_, value))| (*name, value.as_str()))
    }

    /// Whether something here was set by an SSH key, a session or a derivation.
    fn is_below_account(&self) -> bool {
        self.0.values().any(|(level, _)| *level > Level::Account)
    }
}

/// What holds after all layers, from the weakest, on top of `base`. What reaches further than a session is not widened by one; see [`Reach`].
///
/// A value that was checked when it was set is applied without a check; one that a newer version refuses is left out.
#[must_use]
pub fn layered<'l>(base: Effective, layers: impl IntoIterator<Item = &'l Layer>) -> Effective {
    let mut effective = base;
    for layer in layers {
        let before = layer.is_below_account().then(|| effective.clone());
        for (name, value) in layer.iter() {
            if let Ok(definition) = definition(name) {
                let _ = effective.apply(definition, value);
            }
        }
        if let Some(before) = before {
            effective.narrow_to(&before);
        }
    }
    effective
}

impl Effective {
    fn apply(&mut self, definition: &Definition, value: &str) -> Result<(), SettingError> {
        let refused = |reason: String| SettingError::Value {
            name: definition.name,
            reason,
        };
        if value.len() > MAX_VALUE {
            return Err(refused(format!("the value has more than {MAX_VALUE} bytes")));
        }
        let boolean = || match value.trim() {
            "true" | "1" => Ok(true),
            "false" | "0" | "" => Ok(false),
            other => Err(refused(format!("'{}' is not true or false", excerpt(other)))),
        };
        let number = || match value.trim().parse::<u64>() {
            Ok(0) => Ok(None),
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(refused(format!("'{}' is not a whole number", excerpt(value)))),
        };
        match definition.name {
            "allow-shell" => self.allow_shell = boolean()?,
            "build-quota" => self.build_quota = number()?,
            "build-weight" => {
                self.build_weight = match value.trim().parse() {
                    Ok(weight @ 1..=MAX_WEIGHT) => weight,
                    _ => {
                        return Err(refused(format!(
                            "'{}' is not a number from 1 to {MAX_WEIGHT}",
                            excerpt(value)
                        )));
                    }
                }
            }
            "keep-builds-running" => self.keep_builds_running = boolean()?,
            "keep-going" => self.keep_going = boolean()?,
            "reuse-build-failures" => self.reuse_build_failures = boolean()?,
            "reuse-build-timeouts" => self.reuse_build_timeouts = boolean()?,
            "max-build-log-size" => self.max_build_log_size = number()?,
            "max-builds" => self.max_builds = number()?,
            "max-silent-time" => self.max_silent_time = number()?,
            "private" => self.private = boolean()?,
            "sandbox" => {
                self.sandbox = match value.trim() {
                    "" => None,
                    name => Some(name.parse().map_err(|e: NoIsolation| refused(e.to_string()))?),
                }
            }
            "settings-from-drv-env" => self.settings_from_drv_env = boolean()?,
            "settings-from-ssh-env" => self.settings_from_ssh_env = boolean()?,
            "share-builds" => self.share_builds = boolean()?,
            "substitute" => self.substitute = boolean()?,
            "substituters" => self.substituters = caches(value).map_err(refused)?,
            "timeout" => self.timeout = number()?,
            "trusted" => self.trusted = boolean()?,
            "trusted-public-keys" => self.trusted_public_keys = keys(value).map_err(refused)?,
            _ => return Err(refused("it is defined without a meaning".into())),
        }
        Ok(())
    }

    /// Whether what the account has may serve others: signed uploads those who trust the key, the rest its readers.
    #[must_use]
    pub fn gives_evidence(&self) -> bool {
        !self.private
    }

    /// Whether its build results may serve everybody with the same build key.
    #[must_use]
    pub fn gives_results(&self) -> bool {
        self.gives_evidence() && self.share_builds
    }

    /// Whether it is answered with results that others share.
    #[must_use]
    pub fn takes_results(&self) -> bool {
        self.share_builds
    }

    /// What the account may have of the builders.
    #[must_use]
    pub fn share(&self) -> Share {
        let limits = [self.build_quota, self.max_builds];
        let limit = limits.into_iter().flatten().min();
        Share {
            weight: self.build_weight,
            max_runs: limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
        }
    }

    /// The value of a setting, in its text form.
    #[must_use]
    pub fn shown(&self, name: &str) -> String {
        let number = |n: Option<u64>| n.unwrap_or(0).to_string();
        match name {
            "allow-shell" => self.allow_shell.to_string(),
            "build-quota" => number(self.build_quota),
            "build-weight" => self.build_weight.to_string(),
            "keep-builds-running" => self.keep_builds_running.to_string(),
            "keep-going" => self.keep_going.to_string(),
            "reuse-build-failures" => self.reuse_build_failures.to_string(),
            "reuse-build-timeouts" => self.reuse_build_timeouts.to_string(),
            "max-build-log-size" => number(self.max_build_log_size),
            "max-builds" => number(self.max_builds),
            "max-silent-time" => number(self.max_silent_time),
            "private" => self.private.to_string(),
            "sandbox" => self.sandbox.map_or("", Isolation::name).to_owned(),
            "settings-from-drv-env" => self.settings_from_drv_env.to_string(),
            "settings-from-ssh-env" => self.settings_from_ssh_env.to_string(),
            "share-builds" => self.share_builds.to_string(),
            "substitute" => self.substitute.to_string(),
            "substituters" => joined(&self.substituters),
            "timeout" => number(self.timeout),
            "trusted" => self.trusted.to_string(),
            "trusted-public-keys" => joined(&self.trusted_public_keys),
            _ => String::new(),
        }
    }
}

fn joined<T: ToString>(values: &[T]) -> String {
    values
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

fn words(value: &str) -> Result<Vec<&str>, String> {
    let words: Vec<&str> = value
        .split([' ', ',', '\t', '\n'])
        .filter(|w| !w.is_empty())
        .collect();
    if words.len() > MAX_LIST {
        return Err(format!("it has more than {MAX_LIST} entries"));
    }
    Ok(words)
}

fn caches(value: &str) -> Result<Vec<CacheUrl>, String> {
    let mut caches: Vec<CacheUrl> = Vec::new();
    for word in words(value)? {
        let cache: CacheUrl = word.parse().map_err(|e: crate::CacheUrlError| e.to_string())?;
        if !caches.iter().any(|c| c.base() == cache.base()) {
            caches.push(cache);
        }
    }
    Ok(caches)
}

fn keys(value: &str) -> Result<Vec<PublicKey>, String> {
    let mut keys: Vec<PublicKey> = Vec::new();
    for word in words(value)? {
        let key: PublicKey = word
            .parse()
            .map_err(|e: firn_nix::signature::SignatureError| e.to_string())?;
        match keys.iter().find(|k| k.name() == key.name()) {
            Some(same) if same.bytes() == key.bytes() => {}
            Some(_) => {
                return Err(format!(
                    "two different keys have the name '{}'; a signature names its key, so only one can be trusted",
                    excerpt(key.name())
                ));
            }
            None => keys.push(key),
        }
    }
    Ok(keys)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(80).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let here = (*cell + 1).min(left + 1).min(diagonal + usize::from(x != *y));
            diagonal = std::mem::replace(cell, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_meaning_and_a_text() {
        for pair in SETTINGS.windows(2) {
            assert!(pair[0].name < pair[1].name, "sorted by name");
        }
        let mut effective = Effective::default();
        for definition in SETTINGS {
            let text = effective.shown(definition.name);
            effective.apply(definition, &text).unwrap();
        }
        assert_eq!(effective, Effective::default());
    }

    #[test]
    fn unknown_names_get_the_nearest() {
        for (name, nearest) in [
            ("substitutors", "substituters"),
            ("trusted-public-key", "trusted-public-keys"),
            ("time-out", "timeout"),
            ("sharebuilds", "share-builds"),
        ] {
            assert!(
                matches!(definition(name), Err(SettingError::Unknown { nearest: n, .. }) if n == nearest),
                "{name}"
            );
        }
        assert_eq!(distance("abc", "abd"), 1);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn levels_override_and_are_limited() {
        let mut account = Layer::default();
        account.set(Level::Account, "timeout", "10").unwrap();
        account.set(Level::Account, "private", "1").unwrap();
        let variables: [(&[u8], &[u8]); 2] = [(b"FIRN_TIMEOUT", b"20"), (b"LANG", b"C")];
        let session = Layer::from_environment(Level::SshEnvironment, variables).unwrap();
        let effective = layered(Effective::default(), [&account, &session]);
        assert_eq!((effective.timeout, effective.private), (Some(20), true));
        for (variable, value, error) in [
            ("FIRN_PRIVATE", "1", "cannot be set by the ssh-environment"),
            ("FIRN_TIMOUT", "1", "did you mean 'timeout'"),
            ("FIRN_TIMEOUT", "soon", "not a whole number"),
            ("FIRN_SUBSTITUTE", "yes", "not true or false"),
        ] {
            let variables = [(variable.as_bytes(), value.as_bytes())];
            let refused = Layer::from_environment(Level::SshEnvironment, variables).unwrap_err();
            assert!(refused.to_string().contains(error), "{refused}");
        }
    }

    #[test]
    fn one_key_a_name() {
        let [a, b] = [1, 2].map(|seed| {
            firn_nix::signature::SecretKey::from_seed("k-1", &[seed; 32])
                .unwrap()
                .public_key()
                .to_string()
        });
        assert!(keys(&format!("{a} {a}")).is_ok());
        assert!(
            keys(&format!("{a},{b}"))
                .unwrap_err()
                .contains("two different keys")
        );
        assert!(keys("k-1:AAAA").unwrap_err().contains("32 bytes"));
        assert!(keys("nonsense").is_err());
    }
}
