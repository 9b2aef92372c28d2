//! Which path an output got, where that follows only from a build: as evidence of accounts and keys, like contents of paths.

use firn_nix::realisation::Realisation;
use firn_nix::rewrite::SelfReferences;
use firn_nix::signature::PublicKey;

use crate::{AccountId, Origin, Policy, Why};

/// One account's word on which path an output got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealisationClaim {
    /// Output, path and the signatures that came with it.
    pub realisation: Realisation,
    /// [`Origin::Built`]: Firn built it for the account, or answered it with a result; else its client registered it.
    pub origin: Origin,
    /// Seconds since 1970 of the claim.
    pub registered: u64,
    /// In which form clients must compute content addresses to be told; `None` where either may.
    pub form: Option<SelfReferences>,
}

impl RealisationClaim {
    /// Whether it is for clients that compute content addresses in that form; everything is for one whose form is not known.
    #[must_use]
    pub fn is_for(&self, form: Option<SelfReferences>) -> bool {
        self.form.is_none() || form.is_none() || self.form == form
    }
}

/// A claim that a policy may let its account see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealisationEvidence {
    /// Whose claim.
    pub account: AccountId,
    /// What is said.
    pub claim: RealisationClaim,
    /// Whether nobody else can take it back: it is the account's own, or it was told the account before.
    pub kept: bool,
}

/// What an account may believe of some outputs, the best first, with the reason. `keys` are those of the policy, in its order.
///
/// The order is that of views: signed in the order of the keys, built for the account, trusted accounts in the order of the policy (what
/// was built for one before what it registered), what the account itself registered. Of what one key signed, the lowest path: whoever
/// brought it first decides nothing.
#[must_use]
pub fn realisations_believed(
    policy: &Policy,
    keys: &[PublicKey],
    evidence: impl IntoIterator<Item = RealisationEvidence>,
) -> Vec<(RealisationEvidence, Why)> {
    let mut ranked: Vec<_> = evidence
        .into_iter()
        .filter_map(|e| Some((rank(policy, keys, &e)?, e)))
        .collect();
    ranked.sort_by(|((_, a), x), ((_, b), y)| {
        let path = |e: &RealisationEvidence| e.claim.realisation.out_path.clone();
        // What nobody can take back before what somebody can.
        (a, path(x), !x.kept).cmp(&(b, path(y), !y.kept))
    });
    ranked.into_iter().map(|((why, _), found)| (found, why)).collect()
}

/// What decides, the smallest first: the kind of reason, the place of its witness in the policy, built before registered.
type Rank = (u8, usize, u8);

fn rank(policy: &Policy, keys: &[PublicKey], evidence: &RealisationEvidence) -> Option<(Why, Rank)> {
    let claim = &evidence.claim;
    if let Some(key) = claim.realisation.signed_by(keys)
        && let Some(place) = keys.iter().position(|k| k == key)
        && let Some(id) = policy.keys.get(place)
    {
        return Some((Why::Signed(*id), (1, place, 0)));
    }
    let origin = claim.origin;
    if evidence.account == policy.account {
        return match origin {
            Origin::Built => Some((Why::Built, (2, 0, 0))),
            Origin::Uploaded => Some((Why::Uploaded, (4, 0, 0))),
            Origin::Substituted => None,
        };
    }
    let account = evidence.account;
    let (trusted, trust) = policy.trust(account, evidence.kept)?;
    match origin {
        origin if !trust.covers(origin) => None,
        Origin::Built => Some((Why::TrustedBuild(account), (3, trusted, 0))),
        _ => Some((Why::TrustedUpload(account), (3, trusted, 1))),
    }
}
