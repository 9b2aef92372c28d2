//! What an account is told of its binary caches: tried when they are added, how they answered last, and what they have of a path.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use firn_core::CacheUrl;
use firn_nix::StorePath;
use firn_protocol::StoreError;
use tokio::time::timeout;

use crate::cache_states::CacheState;
use crate::findings::Findings;
use crate::ports::{AccountCaches as _, CacheError, Caches as _, Policies as _, Ports, Trouble};
use crate::resolve::failed;
use crate::{AccountStore, Desk};

/// Longest wait for the first answer of a cache that is added.
const FIRST_ANSWER: Duration = Duration::from_secs(15);

/// Longest wait for what caches have of a path and all that it needs.
const ALL_ANSWERS: Duration = Duration::from_secs(30);

/// A cache that was added, and what was found when it was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedCache {
    /// Which.
    pub cache: CacheUrl,
    /// Why it gives nothing, for the time being.
    pub trouble: Option<CacheError>,
}

impl<P: Ports> Desk<P> {
    /// Asks a cache what it is, whatever is remembered of it. The trouble with it, if there is any that may be mended.
    pub(crate) async fn try_cache(&self, cache: &CacheUrl) -> Result<Option<CacheError>, StoreError> {
        let logins = self.house.db.logins(self.account.id).await.map_err(failed)?;
        let caches = self.house.caches.of(self.account.id, None);
        caches.refresh();
        let about = caches.about(cache, logins.get(cache.host()));
        let about = timeout(FIRST_ANSWER, about).await.unwrap_or_else(|_| {
            let seconds = FIRST_ANSWER.as_secs();
            Err(CacheError {
                cache: cache.base(),
                trouble: Trouble::Unreachable(format!("does not answer within {seconds} s")),
            })
        });
        let findings = Findings::default();
        let trouble = match about {
            Ok(_) => None,
            Err(error) if error.trouble.is_final() => {
                return Err(StoreError::new(format!("{error}; it is not added")));
            }
            Err(error) => Some(error),
        };
        match &trouble {
            None => findings.answered(cache.base()),
            Some(error) => findings.failed(error.clone()),
        }
        let now = self.house.now();
        self.house.cache_states.note(self.account.id, now, &findings);
        Ok(trouble)
    }

    /// Forgets what is remembered of the account's caches: what they have and have not, and that they are left alone.
    pub fn refresh_substituters(&self) {
        self.house.caches.of(self.account.id, None).refresh();
        self.house.cache_states.forget(self.account.id);
    }

    /// How the account's caches answered last, by address; those that were asked since the service started.
    #[must_use]
    pub fn cache_states(&self) -> BTreeMap<String, CacheState> {
        self.house.cache_states.of(self.account.id)
    }

    /// What the caches say of a path that is not valid for the account: asked now.
    pub(crate) async fn caches_say(
        &self,
        store: &AccountStore<P>,
        path: &StorePath,
    ) -> Result<Vec<String>, StoreError> {
        let terms = store.terms().await?;
        if !terms.settings.substitute || terms.settings.substituters.is_empty() {
            return Ok(Vec::new());
        }
        let findings = Findings::default();
        let offers = store.offers(&terms, BTreeSet::from([path.clone()]), &findings);
        let offers = timeout(ALL_ANSWERS, offers).await;
        store.note(&findings);
        let mut said = Vec::new();
        match offers {
            Err(_) => {
                let seconds = ALL_ANSWERS.as_secs();
                said.push(format!(
                    "your substituters did not say within {seconds} s what they have of all that it needs"
                ));
            }
            Ok(offers) => {
                if let Some(offer) = offers?.found.get(path) {
                    let cache = offer.source.cache.base();
                    said.push(format!(
                        "the cache '{cache}' has it; it is fetched when it is asked for"
                    ));
                }
            }
        }
        said.extend(findings.why(path));
        if said.is_empty() {
            said.push("none of your substituters has it".to_owned());
        }
        Ok(said)
    }
}
