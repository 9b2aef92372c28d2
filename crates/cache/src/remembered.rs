//! Answers of caches on the network, kept for a while in a bounded amount of memory.

use std::time::Duration;

use firn_nix::narinfo::NarInfo;
use firn_nix::{Hash, HashAlgo, Hasher};
use firn_service::ports::{CacheError, CacheInfo, Login};
use moka::future::Cache;
use tokio::time::Instant;

/// For how long is remembered what somebody may be about to mend: that a cache wants a login or sends rubbish, an entry that is not
/// believed.
const SOON: Duration = Duration::from_secs(10);

/// Whose answer to which question. Logins are kept as digests only.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The account, since when it last wished to forget.
    asker: u64,
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
    pub(crate) fn new(asker: u64, cache: &str, login: Option<&Login>, question: Question) -> Self {
        let digest = |login: &Login| {
            let mut hasher = Hasher::new(HashAlgo::Sha256);
            hasher.update(&(login.user.len() as u64).to_le_bytes());
            hasher.update(login.user.as_bytes());
            hasher.update(login.password.as_bytes());
            hasher.finish()
        };
        Self {
            asker,
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
    since: Instant,
    until: Instant,
}

impl Entry {
    /// Whether it still answers for who remembers misses for so long at most.
    fn holds(&self, misses: Option<Duration>) -> bool {
        let now = Instant::now();
        let is_miss = matches!(self.answer, Ok(Answer::Nothing));
        let longest = misses.filter(|_| is_miss);
        self.until > now && longest.is_none_or(|longest| self.since + longest > now)
    }
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
    pub(crate) async fn get(
        &self,
        key: &Key,
        misses: Option<Duration>,
    ) -> Option<Result<Answer, CacheError>> {
        let entry = self.entries.get(key).await?;
        entry.holds(misses).then_some(entry.answer)
    }

    /// The remembered answer, or that of `ask`. Concurrent questions with the same key are one. Failures go to all who wait; that a
    /// cache cannot be reached is not remembered here.
    pub(crate) async fn answer(
        &self,
        key: Key,
        misses: Option<Duration>,
        ask: impl Future<Output = Result<Answer, CacheError>>,
    ) -> Result<Answer, CacheError> {
        let begun = Instant::now();
        let asked = async {
            let answer = ask.await;
            let since = Instant::now();
            let until = match &answer {
                Ok(Answer::Nothing) => since + self.negative,
                Ok(_) => since + self.positive,
                Err(error) if error.trouble.may_pass() => since,
                Err(_) => since + SOON.min(self.negative),
            };
            Entry { answer, since, until }
        };
        // What was answered while this one waited is news.
        let stale = |entry: &Entry| !entry.holds(misses.filter(|_| entry.since < begun));
        let entry = self.entries.entry(key).or_insert_with_if(asked, stale).await;
        entry.into_value().answer
    }

    /// Asks again soon.
    pub(crate) async fn shorten(&self, key: Key) {
        if let Some(mut entry) = self.entries.get(&key).await {
            entry.until = entry.until.min(Instant::now() + SOON);
            self.entries.insert(key, entry).await;
        }
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
        Err(error) => error.cache.len() + 400,
    };
    u32::try_from(400 + key.cache.len() + name + answer).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(asker: u64) -> Key {
        Key::new(asker, "https://cache", None, Question::NarInfo("x".into()))
    }

    /// How often it is asked, of two times.
    async fn asks(memory: &Remembered, asker: u64, misses: Option<Duration>, answer: Answer) -> usize {
        let mut asked = 0;
        for _ in 0..2 {
            tokio::time::advance(Duration::from_millis(1)).await;
            if memory.get(&key(asker), misses).await.is_none() {
                let ask = async {
                    asked += 1;
                    Ok(answer.clone())
                };
                assert!(memory.answer(key(asker), misses, ask).await.is_ok());
            }
        }
        asked
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_mended_is_asked_for_again_soon() {
        let hour = Duration::from_secs(3600);
        let memory = Remembered::new(1 << 20, hour, hour);
        let found = || {
            Answer::About(CacheInfo {
                priority: 1,
                want_mass_query: true,
            })
        };
        assert_eq!(asks(&memory, 1, None, found()).await, 1);
        memory.shorten(key(1)).await;
        assert_eq!(asks(&memory, 1, None, found()).await, 0);
        tokio::time::advance(SOON).await;
        assert_eq!(asks(&memory, 1, None, found()).await, 1);
        // Nobody else's memory, and that of misses for as long as is wished.
        assert_eq!(asks(&memory, 2, None, Answer::Nothing).await, 1);
        assert_eq!(asks(&memory, 2, Some(hour), Answer::Nothing).await, 0);
        assert_eq!(asks(&memory, 2, Some(Duration::ZERO), Answer::Nothing).await, 2);
        tokio::time::advance(SOON).await;
        assert_eq!(asks(&memory, 2, Some(SOON), Answer::Nothing).await, 1);
        assert_eq!(asks(&memory, 2, None, Answer::Nothing).await, 0);
    }
}
