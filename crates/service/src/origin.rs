//! Who brought a content: what an account may be told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use firn_core::{Candidate, Draft, ObjectId, Why};
use firn_nix::{NarHash, StorePath};
use firn_protocol::StoreError;

use crate::Desk;
use crate::ports::{Accounts as _, Ports, Views as _};
use crate::resolve::failed;
use crate::terms::Terms;

/// Paths that are looked up at once.
const BATCH: usize = 500;

/// Who brought a content of a path, as the asking account may know it. Of an account that it does not trust it learns no more than that
/// there is one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Brought {
    /// The path commits to it.
    ContentAddressed,
    /// Signed by the key of that name, which the account trusts.
    Signed(String),
    /// Built or reused for the account.
    Built,
    /// The account's own client.
    Uploaded,
    /// Built for the account of that name, which this one trusts.
    TrustedBuild(String),
    /// Uploaded by the account of that name, whose uploads this one trusts.
    TrustedUpload(String),
    /// An account that this one trusted when it was told, and that is removed.
    TrustedRemoved,
    /// The asking account had it, and has no evidence for it any more.
    Forgotten,
    /// Somebody else.
    AnotherAccount,
}

impl fmt::Display for Brought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ContentAddressed => f.write_str("content-addressed: the path commits to these bytes"),
            Self::Signed(key) => write!(f, "signed by the key '{key}', which you trust"),
            Self::Built => f.write_str("built or reused for you"),
            Self::Uploaded => f.write_str("uploaded by you"),
            Self::TrustedBuild(name) => write!(f, "built for account '{name}', which you trust"),
            Self::TrustedUpload(name) => write!(f, "uploaded by account '{name}', which you trust"),
            Self::TrustedRemoved => {
                f.write_str("from an account that you trusted; it is removed, what you were told stays")
            }
            Self::Forgotten => f.write_str("yours once; what you had of it is forgotten"),
            Self::AnotherAccount => f.write_str("another account"),
        }
    }
}

/// A content of a path, and who brought it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The content; `None` where it is another account's, and no business of this one.
    pub content: Option<NarHash>,
    /// Who.
    pub brought: Brought,
    /// Address of the binary cache that it was fetched from.
    pub cache: Option<String>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cache {
            Some(cache) => write!(f, "{}; fetched from {cache}", self.brought),
            None => self.brought.fmt(f),
        }
    }
}

/// What the account has evidence for.
#[derive(Debug, Default)]
pub(crate) struct Origins(BTreeMap<ObjectId, Origin>);

impl Origins {
    /// Of an object with that content. `mine`: it was an input or output of a build that the account asked for itself.
    pub(crate) fn of(&self, id: ObjectId, content: NarHash, mine: bool) -> Origin {
        if let Some(origin) = self.0.get(&id) {
            return origin.clone();
        }
        Origin {
            content: mine.then_some(content),
            brought: if mine {
                Brought::Forgotten
            } else {
                Brought::AnotherAccount
            },
            cache: None,
        }
    }
}

impl<P: Ports> Desk<P> {
    /// Who brought what the account may see of these paths.
    pub(crate) async fn origins(
        &self,
        terms: &Terms,
        paths: &BTreeSet<StorePath>,
    ) -> Result<Origins, StoreError> {
        let paths: Vec<StorePath> = paths.iter().cloned().collect();
        let mut origins = Origins::default();
        for batch in paths.chunks(BATCH) {
            let evidence = self
                .house
                .db
                .evidence(&terms.policy, batch)
                .await
                .map_err(failed)?;
            let mut draft = Draft::new(&terms.policy);
            draft.add(batch.iter().cloned(), evidence, |_| true);
            for candidate in batch.iter().flat_map(|path| draft.candidates(path)) {
                let origin = self.origin(terms, candidate).await?;
                origins.0.insert(candidate.id, origin);
            }
        }
        Ok(origins)
    }

    /// Who brought a candidate of the account's own evidence.
    pub(crate) async fn origin(&self, terms: &Terms, candidate: &Candidate) -> Result<Origin, StoreError> {
        let brought = match candidate.why {
            Why::ContentAddressed => Brought::ContentAddressed,
            Why::Signed(id) => Brought::Signed(terms.key_name(id).unwrap_or("?").to_owned()),
            Why::Built => Brought::Built,
            Why::Uploaded => Brought::Uploaded,
            Why::TrustedBuild(other) | Why::TrustedUpload(other) => {
                let accounts = self.house.db.accounts().await.map_err(failed)?;
                let name = accounts.into_iter().find(|account| account.id == other);
                match (name.map(|account| account.name.to_string()), candidate.why) {
                    (None, _) => Brought::TrustedRemoved,
                    (Some(name), Why::TrustedBuild(_)) => Brought::TrustedBuild(name),
                    (Some(name), _) => Brought::TrustedUpload(name),
                }
            }
        };
        Ok(Origin {
            content: Some(candidate.object.content),
            brought,
            cache: candidate.cache.clone(),
        })
    }
}
