//! The rule of views in plain words: admit, rank, take the greatest closed part, choose.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{Evidence, ObjectId, Origin, Policy, Trust, Why, Witness};
use firn_nix::{NarHash, StorePath};

/// What the model says of a path: the object, why, when, whose signatures, how many contents.
pub type Chosen = (ObjectId, Why, u64, Vec<String>, usize);

/// A reason to believe, and what decides between equal ones: the age. A path that commits to its content has one anyway; there the
/// kind of the witness goes before the age, and decides only which time is shown.
fn reason(policy: &Policy, e: &Evidence) -> Option<(Why, (usize, i64))> {
    let checked = e.claim.object.ca.is_some();
    let plain = match (e.witness, e.claim.origin) {
        (Witness::Own, Origin::Built) => Some(Why::Built),
        (Witness::Own, Origin::Uploaded) => Some(Why::Uploaded),
        // Only what the path commits to.
        (Witness::Own, Origin::Substituted) => checked.then_some(Why::ContentAddressed),
        (Witness::Key(key), _) => policy.keys.contains(&key).then_some(Why::Signed(key)),
        (Witness::Account(other), origin) => {
            // What it was told before counts as long as it trusts; else the other must let it read, too.
            let believed = if e.kept { &policy.told_by } else { &policy.accounts };
            let level = believed.iter().find(|(a, _)| *a == other).map(|(_, l)| *l);
            match (level, origin) {
                (Some(_), Origin::Built) => Some(Why::TrustedBuild(other)),
                (Some(Trust::Uploads), Origin::Uploaded) => Some(Why::TrustedUpload(other)),
                _ => None,
            }
        }
    }?;
    let kind = match plain {
        Why::ContentAddressed => 0,
        Why::Signed(_) => 1,
        Why::Built => 2,
        Why::TrustedBuild(_) => 3,
        Why::TrustedUpload(_) => 4,
        Why::Uploaded => 5,
    };
    Some(match checked {
        true => (Why::ContentAddressed, (kind, e.seq)),
        false => (plain, (0, e.seq)),
    })
}

/// Every reason that the policy allows, the best first.
fn order(policy: &Policy) -> Vec<Why> {
    let mut order = vec![Why::ContentAddressed];
    order.extend(policy.keys.iter().map(|k| Why::Signed(*k)));
    order.push(Why::Built);
    for (account, _) in &policy.told_by {
        order.extend([Why::TrustedBuild(*account), Why::TrustedUpload(*account)]);
    }
    order.push(Why::Uploaded);
    order
}

/// The greatest closed part of all evidence for all paths.
pub fn model(policy: &Policy, evidence: &[Evidence]) -> BTreeMap<StorePath, Chosen> {
    let mut alive: Vec<(&Evidence, Why, (usize, i64))> = evidence
        .iter()
        .filter_map(|e| reason(policy, e).map(|(why, seq)| (e, why, seq)))
        .collect();
    loop {
        let there: BTreeSet<StorePath> = alive.iter().map(|(e, ..)| e.claim.object.path.clone()).collect();
        let before = alive.len();
        alive.retain(|(e, ..)| e.claim.object.references.is_subset(&there));
        if alive.len() == before {
            break;
        }
    }
    let mut chosen = BTreeMap::new();
    let paths: BTreeSet<&StorePath> = alive.iter().map(|(e, ..)| &e.claim.object.path).collect();
    for path in paths {
        let of_path = || alive.iter().filter(|(e, ..)| e.claim.object.path == *path);
        let contents: BTreeSet<NarHash> = of_path().map(|(e, ..)| e.claim.object.content).collect();
        let best = order(policy).into_iter().find_map(|why| {
            of_path()
                .filter(|(_, w, _)| *w == why)
                .min_by_key(|(_, _, age)| *age)
        });
        let (best, why, _) = best.unwrap();
        // Where the account fetched it from is told, though it is no reason.
        let of_object = of_path().map(|(e, ..)| *e).filter(|e| e.id == best.id);
        let own = evidence
            .iter()
            .filter(|e| e.id == best.id && e.witness == Witness::Own);
        let signatures: BTreeSet<String> = of_object
            .chain(own)
            .flat_map(|e| e.claim.signatures.clone())
            .collect();
        let row = (
            best.id,
            *why,
            best.claim.registered,
            signatures.into_iter().collect(),
            contents.len(),
        );
        chosen.insert(path.clone(), row);
    }
    chosen
}

/// The same of a view.
pub fn seen(view: &firn_core::View) -> BTreeMap<StorePath, Chosen> {
    view.choices()
        .map(|(path, choice)| {
            let c = &choice.candidate;
            let row = (c.id, c.why, c.registered, c.signatures.clone(), choice.contents);
            (path.clone(), row)
        })
        .collect()
}
