//! Views against a model: the first claim of the best kind, path by path.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{Claim, EvidenceKind, Object, View};
use firn_nix::{NarHash, StorePath};
use proptest::collection::vec;
use proptest::prelude::*;

/// Few paths, so that claims meet.
const PATHS: u8 = 6;

const ORDER: [EvidenceKind; 3] = [
    EvidenceKind::ContentAddressed,
    EvidenceKind::Built,
    EvidenceKind::Uploaded,
];

fn path(n: u8) -> StorePath {
    StorePath::new(&[n; 20], "x").unwrap()
}

fn claim(path_number: u8, content: u8, kind: EvidenceKind, references: BTreeSet<u8>) -> Claim {
    Claim {
        object: Object {
            path: path(path_number),
            content: NarHash::new([content; 32]),
            nar_size: u64::from(content),
            references: references.into_iter().map(path).collect(),
            ca: None,
        },
        kind,
        deriver: None,
        signatures: BTreeSet::new(),
        registered: 0,
    }
}

/// Claims in order of age; `registered` is their number.
fn claims() -> impl Strategy<Value = Vec<Claim>> {
    let kind = prop::sample::select(&ORDER[..]);
    let references = prop::collection::btree_set(0..PATHS, 0..3);
    let one = (0..PATHS, 0u8..4, kind, references)
        .prop_map(|(path, content, kind, to)| claim(path, content, kind, to));
    vec(one, 0..20).prop_map(|mut claims| {
        for (n, claim) in claims.iter_mut().enumerate() {
            claim.registered = n as u64;
        }
        claims
    })
}

/// What a view has, to compare.
fn seen(view: &View) -> BTreeMap<StorePath, (Claim, EvidenceKind, usize)> {
    view.choices()
        .map(|(path, choice)| {
            let why = choice.why;
            (path.clone(), (choice.claim.clone(), why.kind, why.candidates))
        })
        .collect()
}

/// The rule, said differently: for each path and each kind in order, the oldest claim.
fn model(claims: &[Claim]) -> BTreeMap<StorePath, (Claim, EvidenceKind, usize)> {
    let mut model = BTreeMap::new();
    for path in (0..PATHS).map(path) {
        let of_path: Vec<&Claim> = claims.iter().filter(|c| c.object.path == path).collect();
        let contents: BTreeSet<NarHash> = of_path.iter().map(|c| c.object.content).collect();
        for kind in ORDER {
            let oldest = of_path
                .iter()
                .filter(|c| c.kind == kind)
                .min_by_key(|c| c.registered);
            if let Some(oldest) = oldest {
                model.insert(path, ((*oldest).clone(), kind, contents.len()));
                break;
            }
        }
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_best_kind_and_then_the_oldest(claims in claims()) {
        prop_assert_eq!(seen(&View::from_claims(claims.clone())), model(&claims));
    }

    /// Claims of different kinds, or for different paths, may come in any order between them.
    #[test]
    fn only_the_age_within_a_kind_matters(claims in claims(), at in vec(any::<prop::sample::Index>(), 0..60)) {
        let mut mixed = claims.clone();
        for at in at.iter().filter(|_| claims.len() > 1).map(|i| i.index(claims.len() - 1)) {
            let [a, b] = &mut mixed[at..at + 2] else { unreachable!() };
            if a.kind != b.kind || a.object.path != b.object.path {
                std::mem::swap(a, b);
            }
        }
        prop_assert_eq!(seen(&View::from_claims(mixed)), seen(&View::from_claims(claims)));
    }

    /// More evidence never takes a path away, and younger evidence of the same kind changes no content.
    #[test]
    fn views_only_grow(claims in claims(), more in claims()) {
        let before = View::from_claims(claims.clone());
        let after = View::from_claims(claims.into_iter().chain(more));
        for (path, choice) in before.choices() {
            let now = after.get(path);
            prop_assert!(now.is_some(), "{} is gone", path);
            let now = now.unwrap();
            prop_assert!(now.why.kind <= choice.why.kind);
            if now.why.kind == choice.why.kind {
                prop_assert_eq!(&now.claim, &choice.claim);
            }
        }
    }

    /// Whatever of a path's candidates is chosen: when all references of all claims are claimed, nothing is missing.
    #[test]
    fn closed_claims_give_a_closed_view(claims in claims()) {
        let claimed: BTreeSet<StorePath> = claims.iter().map(|c| c.object.path.clone()).collect();
        let closed: Vec<Claim> = claims
            .into_iter()
            .map(|mut c| {
                c.object.references.retain(|r| claimed.contains(r));
                c
            })
            .collect();
        let view = View::from_claims(closed);
        prop_assert_eq!(view.open_references(), BTreeSet::new());
        for object in view.objects() {
            prop_assert!(object.references.iter().all(|r| view.get(r).is_some()));
        }
    }

    #[test]
    fn open_references_are_exactly_those_not_there(claims in claims()) {
        let view = View::from_claims(claims);
        let open: BTreeSet<StorePath> = (0..PATHS)
            .map(path)
            .filter(|p| view.get(p).is_none() && view.objects().any(|o| o.references.contains(p)))
            .collect();
        prop_assert_eq!(view.open_references(), open);
    }

    #[test]
    fn the_closure_is_the_smallest_fixpoint(claims in claims(), roots in prop::collection::btree_set(0..PATHS, 0..3)) {
        let view = View::from_claims(claims);
        let roots: BTreeSet<StorePath> = roots.into_iter().map(path).collect();
        let mut naive: BTreeSet<StorePath> = roots.iter().filter(|r| view.get(r).is_some()).cloned().collect();
        loop {
            let next: BTreeSet<StorePath> = naive
                .iter()
                .flat_map(|p| view.get(p).unwrap().claim.object.references.clone())
                .filter(|r| view.get(r).is_some())
                .chain(naive.iter().cloned())
                .collect();
            if next == naive {
                break;
            }
            naive = next;
        }
        prop_assert_eq!(view.closure(roots), naive);
    }

    /// A view that is looked up piece by piece is the view.
    #[test]
    fn parts_by_path_make_the_whole(claims in claims(), cut in 0..PATHS) {
        let (low, high) = claims.iter().cloned().partition::<Vec<_>, _>(|c| c.object.path < path(cut));
        let mut parts = View::from_claims(low);
        parts.extend(View::from_claims(high));
        prop_assert_eq!(seen(&parts), seen(&View::from_claims(claims)));
    }
}
