//! Why an account's binary caches did not give what was asked for: found on the way, told to the account, each once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firn_nix::StorePath;

use crate::ports::{CacheError, Trouble};

/// Paths of which is kept what was found.
const MAX_PATHS: usize = 1000;
/// Findings that one text names.
const MAX_NAMED: usize = 3;
/// Key names that one text names.
const MAX_KEYS: usize = 3;
/// Characters of a key's name that are told.
const MAX_KEY_NAME: usize = 100;

/// Why what a cache has of a path is not taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Nobody has signed it.
    Unsigned {
        /// Signatures that cannot be read.
        unreadable: usize,
    },
    /// Keys have signed it that the account does not trust: their names.
    OtherKeys(Vec<String>),
    /// A signature names a key that the account trusts, and is not by that key over this entry.
    SameName(String),
    /// Its NAR is larger than what is taken here, in bytes.
    TooLarge(u64),
    /// Its content address belongs to another path.
    ContentAddress,
    /// It could not be had: the rest of a sentence that begins with the cache.
    Failed(String),
}

/// What one cache has of a path, and why that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Address of the cache, without parameters.
    pub cache: String,
    /// The path.
    pub path: StorePath,
    /// Why not.
    pub refusal: Refusal,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cache, path, refusal } = self;
        write!(f, "the cache '{cache}' ")?;
        match refusal {
            Refusal::Unsigned { unreadable: 0 } => {
                write!(
                    f,
                    "has {path} unsigned, so not signed by any of your trusted-keys"
                )
            }
            Refusal::Unsigned { unreadable } => write!(
                f,
                "has {path} not signed by any of your trusted-keys: none of its {unreadable} signatures can be read"
            ),
            Refusal::OtherKeys(names) => {
                let shown: Vec<String> = names.iter().take(MAX_KEYS).map(|name| shown_key(name)).collect();
                let more = names.len().saturating_sub(MAX_KEYS);
                let first = shown.first().map_or("NAME", String::as_str);
                write!(
                    f,
                    "has {path} not signed by any of your trusted-keys, but by '{}'",
                    shown.join("', '")
                )?;
                if more > 0 {
                    write!(f, " and {more} more")?;
                }
                write!(f, " (to believe that key: trusted-keys add {first}:…)")
            }
            Refusal::SameName(name) => {
                let name = shown_key(name);
                write!(
                    f,
                    "has {path} with a signature in the name of '{name}' that your key '{name}' did not make over this entry (if the cache has a new key: trusted-keys remove {name}, then add the new one)"
                )
            }
            Refusal::TooLarge(size) => {
                write!(
                    f,
                    "has {path} with {size} bytes, which is more than is taken here"
                )
            }
            Refusal::ContentAddress => {
                write!(
                    f,
                    "has {path} with a content address that belongs to another path"
                )
            }
            Refusal::Failed(text) => match text.contains(path.base_name()) {
                true => f.write_str(text),
                false => write!(f, "{text}; asked for {path}"),
            },
        }
    }
}

fn shown_key(name: &str) -> String {
    let escaped: String = name.escape_debug().take(MAX_KEY_NAME).collect();
    escaped.replace('\'', "?")
}

/// What was found while some paths were looked for and fetched. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(Arc<Mutex<Found>>);

#[derive(Debug, Default)]
struct Found {
    /// By address: caches that answered at all.
    answered: BTreeSet<String>,
    /// Those that did not.
    failed: BTreeMap<String, Trouble>,
    entries: BTreeMap<StorePath, BTreeSet<Finding>>,
    /// Paths that were asked for and that caches have, and what they need that could not be had.
    lacks: BTreeMap<StorePath, StorePath>,
}

impl Findings {
    fn lock(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A cache said what it is.
    pub(crate) fn answered(&self, cache: String) {
        self.lock().answered.insert(cache);
    }

    /// A cache gave nothing, whatever it was asked for.
    pub(crate) fn failed(&self, error: CacheError) {
        self.lock().failed.insert(error.cache, error.trouble);
    }

    /// A cache gave nothing when it was asked for a path.
    pub(crate) fn failed_for(&self, path: &StorePath, error: CacheError) {
        match error.trouble {
            Trouble::Bad(_) | Trouble::WebPage(_) | Trouble::NoNar(_) => {
                let refusal = Refusal::Failed(error.trouble.to_string());
                self.refused(path, error.cache, refusal);
            }
            _ => self.failed(error),
        }
    }

    /// What a cache has of a path is not taken.
    pub(crate) fn refused(&self, path: &StorePath, cache: String, refusal: Refusal) {
        let mut found = self.lock();
        if found.entries.len() < MAX_PATHS || found.entries.contains_key(path) {
            let finding = Finding {
                cache,
                path: path.clone(),
                refusal,
            };
            found.entries.entry(path.clone()).or_default().insert(finding);
        }
    }

    /// A path could not be had because of another one.
    pub(crate) fn lacks(&self, path: &StorePath, missing: &StorePath) {
        if path != missing {
            self.lock().lacks.insert(path.clone(), missing.clone());
        }
    }

    /// Why a path could not be had, where there is more to say than that no cache has it.
    pub(crate) fn why(&self, path: &StorePath) -> Option<String> {
        let found = self.lock();
        let missing = found.lacks.get(path);
        let entries = found.entries.get(missing.unwrap_or(path));
        let mut reasons: Vec<String> = Vec::new();
        if let Some(missing) = missing {
            reasons.push(found.lack(path, missing));
        }
        let named = MAX_NAMED.saturating_sub(reasons.len());
        reasons.extend(entries.into_iter().flatten().take(named).map(ToString::to_string));
        let failed = found.failed.iter().take(MAX_NAMED);
        reasons.extend(failed.map(|(cache, trouble)| cache_text(cache, trouble)));
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Everything, one line each, and what makes a line the same news as another one: the cache and the kind of trouble, whatever the path.
    pub(crate) fn lines(&self) -> Vec<(String, String)> {
        let found = self.lock();
        let failed = found.failed.iter().map(|(cache, trouble)| {
            let kind = match trouble {
                trouble if trouble.may_pass() => "passing",
                _ => "failing",
            };
            (format!("{cache} {kind}"), cache_text(cache, trouble))
        });
        let entries = found.entries.values().flatten().map(|finding| {
            let kind = match &finding.refusal {
                Refusal::OtherKeys(names) => names.join(" "),
                Refusal::SameName(name) => format!("not {name}"),
                Refusal::Unsigned { .. } => "unsigned".into(),
                Refusal::TooLarge(_) => "too large".into(),
                Refusal::ContentAddress => "content address".into(),
                Refusal::Failed(_) => "failed".into(),
            };
            (format!("{} {kind}", finding.cache), finding.to_string())
        });
        let lacks = found
            .lacks
            .iter()
            .filter(|(_, missing)| !found.entries.contains_key(*missing));
        let lacks = lacks.map(|(path, missing)| (format!("lacks {missing}"), found.lack(path, missing)));
        failed.chain(entries).chain(lacks).collect()
    }

    /// The state of each cache that was asked: what is wrong with it, if anything; and the last of its entries that was not taken.
    pub(crate) fn states(&self) -> BTreeMap<String, (Option<String>, Option<String>)> {
        let found = self.lock();
        let mut states: BTreeMap<String, (Option<String>, Option<String>)> = BTreeMap::new();
        for cache in &found.answered {
            states.entry(cache.clone()).or_default();
        }
        for (cache, trouble) in &found.failed {
            states.entry(cache.clone()).or_default().0 = Some(trouble.to_string());
        }
        for finding in found.entries.values().flatten() {
            states.entry(finding.cache.clone()).or_default().1 = Some(finding.to_string());
        }
        states
    }
}

impl Found {
    fn lack(&self, path: &StorePath, missing: &StorePath) -> String {
        match self.entries.contains_key(missing) {
            true => format!("{path} needs {missing}"),
            false => format!("a cache has {path}, but none has {missing}, which it needs"),
        }
    }
}

fn cache_text(cache: &str, trouble: &Trouble) -> String {
    CacheError {
        cache: cache.to_owned(),
        trouble: trouble.clone(),
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> StorePath {
        StorePath::new(&[1; 20], name).unwrap()
    }

    #[test]
    fn the_dependency_is_named_and_news_is_told_by_kind() {
        let findings = Findings::default();
        assert_eq!(findings.why(&path("top")), None);
        for name in ["dep", "other"] {
            findings.refused(
                &path(name),
                "https://c".into(),
                Refusal::OtherKeys(vec!["k'\n".into()]),
            );
        }
        findings.lacks(&path("top"), &path("dep"));
        findings.lacks(&path("broken"), &path("absent"));
        let why = findings.why(&path("top")).unwrap();
        assert!(
            why.contains("needs")
                && why.contains("-dep not signed by any")
                && why.contains("trusted-keys add k"),
            "{why}"
        );
        assert!(!why.contains("-other") && !why.contains('\n'), "{why}");
        let why = findings.why(&path("broken")).unwrap();
        assert!(why.ends_with("-absent, which it needs"), "{why}");
        findings.failed(CacheError {
            cache: "https://d".into(),
            trouble: Trouble::Login {
                status: 401,
                shown: false,
            },
        });
        let why = findings.why(&path("nowhere")).unwrap();
        assert!(
            why.starts_with("the cache 'https://d' wants a login (401)"),
            "{why}"
        );
        let news: BTreeSet<String> = findings.lines().into_iter().map(|(news, _)| news).collect();
        assert_eq!(news.len(), 3, "{news:?}");
    }
}
