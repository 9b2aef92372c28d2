//! Answers of caches on the network, kept for a while in a bounded amount of memory.

use std::time::Duration;

use firn_nix::narinfo::NarInfo;
use firn_nix::{Hash, HashAlgo, Hasher};
use firn_service::ports::{CacheError, CacheInfo, Login};
use moka::future::Cache;
use tokio::time::Instant;

/// For how long it is remembered that a cache wants a login or sends rubbish.
const REFUSAL_TTL: Duration = Duration::from_secs(30);

/// Whose answer to which question. Logins are kept as digests only.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    cache: String,
    login: Option<Hash>,
    question: Question,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    About,
    /// By base name.
    NarInfo(String),
}

impl Key {
    pub(crate) fn new(cache: &str, login: Option<&Login>, question: Question) -> Self {
        let digest = |login: &Login| {
            let mut hasher = Hasher::new(HashAlgo::Sha256);
            hasher.update(&(login.user.len() as u64).to_le_bytes());
            hasher.update(login.user.as_bytes());
            hasher.update(login.password.as_bytes());
            hasher.finish()
        };
        Self {
            cache: cache.to_owned(),
            login: login.map(digest),
            question,
        }
    }
}

/// What a cache said.
#[derive(Clone)]
pub(crate) enum Answer {
    About(CacheInfo),
    NarInfo(Box<NarInfo>),
    Nothing,
}

#[derive(Clone)]
struct Entry {
    answer: Result<Answer, CacheError>,
    until: Instant,
}

/// The answers. Clones are the same memory.
#[derive(Clone)]
pub(crate) struct Remembered {
    entries: Cache<Key, Entry>,
    positive: Duration,
    negative: Duration,
}

impl Remembered {
    /// `memory` is in bytes.
    pub(crate) fn new(memory: u64, positive: Duration, negative: Duration) -> Self {
        Self {
            entries: Cache::builder().max_capacity(memory).weigher(weight).build(),
            positive,
            negative,
        }
    }

    /// The answer, when it is remembered.
    pub(crate) async fn get(&self, key: &Key) -> Option<Result<Answer, CacheError>> {
        let entry = self.entries.get(key).await?;
        (entry.until > Instant::now()).then_some(entry.answer)
    }

    /// The remembered answer, or that of `ask`. Concurrent questions with the same key are one. Failures go to all who wait; that a
    /// cache cannot be reached is not remembered here.
    pub(crate) async fn answer(
        &self,
        key: Key,
        ask: impl Future<Output = Result<Answer, CacheError>>,
    ) -> Result<Answer, CacheError> {
        let asked = async {
            let answer = ask.await;
            let now = Instant::now();
            let until = match &answer {
                Ok(Answer::Nothing) => now + self.negative,
                Ok(_) => now + self.positive,
                Err(CacheError::Unreachable(_)) => now,
                Err(_) => now + REFUSAL_TTL.min(self.negative),
            };
            Entry { answer, until }
        };
        let stale = |entry: &Entry| entry.until <= Instant::now();
        let entry = self.entries.entry(key).or_insert_with_if(asked, stale).await;
        entry.into_value().answer
    }

    /// No longer remembers.
    pub(crate) async fn forget(&self, key: &Key) {
        self.entries.invalidate(key).await;
    }
}

/// About the bytes that an entry takes.
fn weight(key: &Key, entry: &Entry) -> u32 {
    let name = match &key.question {
        Question::About => 0,
        Question::NarInfo(name) => name.len(),
    };
    let answer = match &entry.answer {
        Ok(Answer::NarInfo(info)) => {
            let references: usize = info.references.iter().map(|r| 80 + r.base_name().len()).sum();
            400 + info.url.len() + references + info.signatures.len() * 250
        }
        Ok(_) => 0,
        Err(CacheError::Unreachable(text) | CacheError::Denied(text) | CacheError::Bad(text)) => text.len(),
    };
    u32::try_from(400 + key.cache.len() + name + answer).unwrap_or(u32::MAX)
}
