//! Views: what one account sees, as a function of its evidence.

use std::collections::{BTreeMap, BTreeSet};

use firn_nix::StorePath;

use crate::{Claim, EvidenceKind, Object};

/// Why a view has the content that it has for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Why {
    /// The evidence that decided.
    pub kind: EvidenceKind,
    /// How many different contents the evidence admitted.
    pub candidates: usize,
}

/// The content that a view has for one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The claim that decided.
    pub claim: Claim,
    /// For explanations.
    pub why: Why,
}

/// Part of one account's view: path → content.
#[derive(Clone, Debug, Default)]
pub struct View {
    choices: BTreeMap<StorePath, Choice>,
}

impl View {
    /// Chooses one content for each path, by kind of evidence and then by age: `claims` come oldest first.
    #[must_use]
    pub fn from_claims(claims: impl IntoIterator<Item = Claim>) -> Self {
        let mut by_path: BTreeMap<StorePath, Vec<Claim>> = BTreeMap::new();
        for claim in claims {
            by_path.entry(claim.object.path.clone()).or_default().push(claim);
        }
        let choices = by_path
            .into_iter()
            .filter_map(|(path, claims)| {
                let candidates = claims
                    .iter()
                    .map(|c| c.object.content)
                    .collect::<BTreeSet<_>>()
                    .len();
                // min_by_key takes the first of equals, so the oldest wins within a kind.
                let claim = claims.into_iter().min_by_key(|c| c.kind)?;
                let why = Why {
                    kind: claim.kind,
                    candidates,
                };
                Some((path, Choice { claim, why }))
            })
            .collect();
        Self { choices }
    }

    /// What the view has for a path.
    #[must_use]
    pub fn get(&self, path: &StorePath) -> Option<&Choice> {
        self.choices.get(path)
    }

    /// Adds what another part of the same account's view has.
    pub fn extend(&mut self, other: Self) {
        self.choices.extend(other.choices);
    }

    /// The objects, by path.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.choices.values().map(|c| &c.claim.object)
    }

    /// The choices, by path.
    pub fn choices(&self) -> impl Iterator<Item = (&StorePath, &Choice)> {
        self.choices.iter()
    }

    /// References of known paths that this part does not have: what to look up next on the way to a closure.
    #[must_use]
    pub fn open_references(&self) -> BTreeSet<StorePath> {
        self.objects()
            .flat_map(|o| &o.references)
            .filter(|r| !self.choices.contains_key(*r))
            .cloned()
            .collect()
    }

    /// The paths that are reachable from `roots` within this part.
    #[must_use]
    pub fn closure(&self, roots: impl IntoIterator<Item = StorePath>) -> BTreeSet<StorePath> {
        let mut seen = BTreeSet::new();
        let mut queue: Vec<StorePath> = roots.into_iter().collect();
        while let Some(path) = queue.pop() {
            if let Some(choice) = self.get(&path)
                && seen.insert(path)
            {
                queue.extend(choice.claim.object.references.iter().cloned());
            }
        }
        seen
    }
}
