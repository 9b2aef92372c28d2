//! Two contents of one path, compared file by file.

use std::collections::BTreeSet;

use firn_content::Difference;
use firn_nix::{NarHash, StorePath, excerpt};
use firn_protocol::StoreError;

use crate::Desk;
use crate::ports::{Builds as _, Ports, Views as _};
use crate::resolve::{MAX_CLOSURE, failed};

/// Build keys that are searched for further contents.
const MAX_KEYS: u32 = 1000;

/// Two contents, and where they differ.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Of this path.
    pub path: StorePath,
    /// The first.
    pub first: NarHash,
    /// The second.
    pub second: NarHash,
    /// Where they differ, in the order of names.
    pub differences: Vec<Difference>,
    /// Whether there may be more places.
    pub more: bool,
    /// All contents of the path that the account may compare, the best first.
    pub contents: Vec<NarHash>,
}

impl<P: Ports> Desk<P> {
    /// Compares the content that the account has for a path with another one: `other` says which (`sha256:…`, or the beginning of its digits), or is
    /// another store path. Without it, the best two are compared. What may be compared is what the account's evidence admits, and what runs of its own
    /// requests gave. At most `limit` places.
    ///
    /// # Errors
    /// Not a store path; nothing to compare with, or not there any more.
    pub async fn compare_contents(
        &self,
        path: &str,
        other: Option<&str>,
        limit: usize,
    ) -> Result<Compared, StoreError> {
        let path = crate::desk::parse_path(path)?;
        let contents = self.contents_of(&path).await?;
        let refused = |why: String| Err(StoreError::new(why));
        let Some(first) = contents.first().copied() else {
            return refused(format!("{path} has no content that you may see"));
        };
        let second = match other {
            None => contents.get(1).copied(),
            Some(other) if other.starts_with('/') => {
                let other = crate::desk::parse_path(other)?;
                self.contents_of(&other).await?.first().copied()
            }
            Some(other) => {
                let digits = other.trim_start_matches("sha256:").to_ascii_lowercase();
                let mut meant = contents.iter().filter(|content| {
                    !digits.is_empty()
                        && (content.hex().starts_with(&digits)
                            || content
                                .to_string()
                                .trim_start_matches("sha256:")
                                .starts_with(&digits))
                });
                match (meant.next(), meant.next()) {
                    (Some(_), Some(_)) => {
                        return refused(format!(
                            "more than one content begins with '{}'",
                            excerpt(&digits)
                        ));
                    }
                    (one, _) => one.copied(),
                }
            }
        };
        let Some(second) = second else {
            return match other {
                None => refused(format!("{path} has one content only: {first}")),
                Some(other) => refused(format!(
                    "'{}' is no content that you may compare with",
                    excerpt(other)
                )),
            };
        };
        for content in [&first, &second] {
            if !self.house.content.contains(content) {
                return refused(format!("the content {content} is not kept any more"));
            }
        }
        let mut differences = self.house.differences(first, second).await;
        let more = differences.len() > limit || differences.len() == crate::places::MAX_PLACES;
        differences.truncate(limit);
        Ok(Compared {
            path,
            first,
            second,
            differences,
            more,
            contents,
        })
    }

    /// Contents of a path that the account may compare, the best first, each once.
    async fn contents_of(&self, path: &StorePath) -> Result<Vec<NarHash>, StoreError> {
        let store = self.house.store(self.account.clone());
        let terms = store.terms().await?;
        let draft = self
            .house
            .draft(&terms, std::slice::from_ref(path), MAX_CLOSURE)
            .await?;
        let mut contents = Vec::new();
        let view = draft.clone().decide();
        contents.extend(view.get(path).map(|choice| choice.object().content));
        contents.extend(
            draft
                .candidates(path)
                .iter()
                .map(|candidate| candidate.object.content),
        );
        // What the account fetched itself, whether or not it believes it.
        let evidence = self.house.db.evidence(&terms.policy, std::slice::from_ref(path));
        contents.extend(
            evidence
                .await
                .map_err(failed)?
                .into_iter()
                .map(|e| e.claim.object.content),
        );
        let takes = terms.sharing().takes;
        let runs = self.house.db.irreproducible(self.account.id, takes, MAX_KEYS);
        let outputs = runs
            .await
            .map_err(failed)?
            .into_iter()
            .flat_map(|past| past.outputs.into_values());
        contents.extend(outputs.filter(|(_, o)| o.path == *path).map(|(_, o)| o.content));
        let mut seen = BTreeSet::new();
        contents.retain(|content| seen.insert(*content));
        Ok(contents)
    }
}
