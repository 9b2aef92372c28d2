//! Evidence: why a store path may be believed to have a content.

use std::collections::BTreeSet;

use firn_nix::rewrite::SelfReferences;
use firn_nix::{ContentAddress, HashAlgo, NarHash, StorePath};

use crate::AccountId;

/// A store path together with one content, and what a build could learn of it besides its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The name.
    pub path: StorePath,
    /// The bytes.
    pub content: NarHash,
    /// Length of the NAR in bytes.
    pub nar_size: u64,
    /// Paths it refers to, itself included when it does.
    pub references: BTreeSet<StorePath>,
    /// What the path commits to, when it is content-addressed and was checked.
    pub ca: Option<ContentAddress>,
    /// In which form `ca` is the hash of the bytes, where they mention its own path; `None` where there is one form.
    pub self_references: Option<SelfReferences>,
}

impl Object {
    /// Whether its path commits to its bytes. One whose self-references have no place in the hash does not: some of them may be NULs in
    /// another content with the same path and the same hash.
    #[must_use]
    pub fn is_addressed(&self) -> bool {
        self.ca.is_some() && self.self_references != Some(SelfReferences::Unplaced)
    }

    /// Whether its path commits to its bytes, by a hash for which nobody can find two contents: MD5 and SHA-1 are no such.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        let algorithm = self.ca.as_ref().map(|ca| ca.hash.algo());
        self.is_addressed() && algorithm.is_some_and(HashAlgo::is_collision_resistant)
    }

    /// Whether a client that computes content addresses in that form finds this one right.
    #[must_use]
    pub fn is_right_in(&self, form: SelfReferences) -> bool {
        self.self_references.is_none_or(|own| own == form)
    }

    /// What signatures of it are made over.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        firn_nix::fingerprint(&self.path, self.content, self.nar_size, &self.references)
    }
}

/// An object's number in the database; never used for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub i64);

/// A public key's number in the database; never used for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub i64);

/// How an account came to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Firn ran the build for the account, or answered it with a result of the same build key.
    Built,
    /// Firn fetched it from a binary cache for the account. Proves nothing without a signature or a content address.
    Substituted,
    /// The account's own client sent it.
    Uploaded,
}

impl Origin {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Built, Self::Substituted, Self::Uploaded];

    /// One word, as stored and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Built => "built",
            Self::Substituted => "substituted",
            Self::Uploaded => "uploaded",
        }
    }

    /// The origin of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|o| o.name() == name)
    }
}

/// That an account has an object, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What it has.
    pub object: Object,
    /// From where.
    pub origin: Origin,
    /// The derivation that it is said to come from.
    pub deriver: Option<StorePath>,
    /// `name:base64` each, as they came.
    pub signatures: BTreeSet<String>,
    /// Seconds since 1970 of the claim.
    pub registered: u64,
    /// Address of the binary cache that it was fetched from.
    pub cache: Option<String>,
    /// Whether its signatures may make it known to others: not when it was fetched with a login.
    pub shareable: bool,
}

/// How much of another account's evidence an account believes, or lets another one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// What Firn built for it.
    Builds,
    /// That, and what it uploaded.
    Uploads,
}

impl Trust {
    /// One word, as stored and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Builds => "builds",
            Self::Uploads => "uploads",
        }
    }

    /// The level of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Builds, Self::Uploads]
            .into_iter()
            .find(|t| t.name() == name)
    }

    /// Whether this level takes in claims of that origin. What another account fetched from a cache proves nothing to this one.
    #[must_use]
    pub const fn covers(self, origin: Origin) -> bool {
        match origin {
            Origin::Built => true,
            Origin::Uploaded => matches!(self, Self::Uploads),
            Origin::Substituted => false,
        }
    }
}

/// Whose word it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Witness {
    /// The account's own claim.
    Own,
    /// The claim of an account that it trusts.
    Account(AccountId),
    /// The signature of a key that it trusts, whoever brought it.
    Key(KeyId),
}

/// One reason to believe, among those that a policy lets an account see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The object's number.
    pub id: ObjectId,
    /// What is said. Of a [`Witness::Key`], only object, signature and time count.
    pub claim: Claim,
    /// By whom.
    pub witness: Witness,
    /// Age among the evidence of the same witness: smaller is older.
    pub seq: i64,
    /// Whether nobody else can take it back: it is the account's own, or it was told the account before.
    pub kept: bool,
}

/// Whose evidence counts for an account: the part of its policy that views depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Whose policy.
    pub account: AccountId,
    /// Trusted keys, the most preferred first.
    pub keys: Vec<KeyId>,
    /// Trusted accounts that let it read, the most preferred first.
    pub accounts: Vec<(AccountId, Trust)>,
    /// All that it trusts, in the same order: on whose word it was told something. That they let it read no more, or are gone, takes nothing
    /// back; that it trusts them no more does.
    pub told_by: Vec<(AccountId, Trust)>,
}

impl Policy {
    /// How far it believes an account, and how much it prefers it: the smaller the more. `kept`: what it was told before.
    pub(crate) fn trust(&self, account: AccountId, kept: bool) -> Option<(usize, Trust)> {
        let place = |all: &[(AccountId, Trust)]| all.iter().position(|(other, _)| *other == account);
        let believed = if kept { &self.told_by } else { &self.accounts };
        let (_, trust) = believed.get(place(believed)?)?;
        Some((place(&self.told_by).or_else(|| place(&self.accounts))?, *trust))
    }

    /// An account that trusts nobody but itself.
    #[must_use]
    pub fn alone(account: AccountId) -> Self {
        Self {
            account,
            keys: Vec::new(),
            accounts: Vec::new(),
            told_by: Vec::new(),
        }
    }
}
