//! Random evidence, gathered in one go or step by step, with and without knowledge of what was closed before.

use std::collections::{BTreeMap, BTreeSet};

use firn_core::{
    AccountId, Closure, Draft, Evidence, KeyId, ObjectId, Origin, Policy, Trust, View, Why, Witness,
};
use firn_nix::StorePath;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::model::{Chosen, model, seen};
use crate::support::{ME, PATHS, evidence, object, path};

fn policies() -> impl Strategy<Value = Policy> {
    let keys = Just(vec![1, 2, 3]).prop_shuffle();
    let accounts = Just(vec![2, 3, 4]).prop_shuffle();
    let level = prop_oneof![Just(Trust::Builds), Just(Trust::Uploads)];
    let lets_read = vec(prop::option::weighted(0.7, level.clone()), 3);
    (keys, 0usize..4, accounts, 0usize..4, vec(level, 3), lets_read).prop_map(
        |(keys, some, accounts, others, levels, lets_read)| {
            let trusted = accounts.into_iter().take(others).map(AccountId);
            let told_by: Vec<(AccountId, Trust)> = trusted.zip(levels).collect();
            let read = told_by.iter().zip(lets_read);
            Policy {
                account: ME,
                keys: keys.into_iter().take(some).map(KeyId).collect(),
                accounts: read
                    .filter_map(|((a, trust), may)| Some((*a, (*trust).min(may?))))
                    .collect(),
                told_by,
            }
        },
    )
}

/// All objects that there are: number, path, content and references belong together.
fn objects() -> impl Strategy<Value = Vec<(u8, u8, BTreeSet<u8>, bool)>> {
    let references = prop::collection::btree_set(0..PATHS, 0..3);
    let one = (0..PATHS, 0u8..3, references, prop::bool::weighted(0.15));
    vec(one, 1..16).prop_map(|mut all| {
        // A path that commits to its content has one.
        let mut committed = BTreeSet::new();
        for (path, _, _, ca) in &mut all {
            *ca = *ca && committed.insert(*path);
        }
        all
    })
}

fn all_evidence() -> impl Strategy<Value = Vec<Evidence>> {
    let witness = prop_oneof![
        4 => Just(Witness::Own),
        3 => (1i64..5).prop_map(|n| Witness::Key(KeyId(n))),
        3 => (2i64..6).prop_map(|n| Witness::Account(AccountId(n))),
    ];
    let piece = (
        any::<prop::sample::Index>(),
        witness,
        prop::sample::select(&Origin::ALL[..]),
        prop::bool::weighted(0.3),
    );
    (objects(), vec(piece, 0..24)).prop_map(|(objects, pieces)| {
        let pieces = pieces.into_iter().enumerate();
        let made = pieces.map(|(seq, (which, witness, origin, told))| {
            let id = which.index(objects.len());
            let (of, content, to, ca) = objects[id].clone();
            let seq = i64::try_from(seq).unwrap();
            let mut made = evidence(
                i64::try_from(id).unwrap(),
                object(of, content, to, ca),
                witness,
                origin,
                seq,
            );
            made.kept |= told;
            made
        });
        made.collect()
    })
}

/// Looks `asked` up as the service does. Returns the view and every path that was looked up.
fn look_up(
    policy: &Policy,
    all: &[Evidence],
    asked: BTreeSet<StorePath>,
    closed: &BTreeSet<ObjectId>,
) -> (View, BTreeSet<StorePath>) {
    let mut draft = Draft::new(policy);
    let mut wanted = asked;
    let mut looked_up = BTreeSet::new();
    while !wanted.is_empty() {
        assert!(looked_up.is_disjoint(&wanted), "nothing is looked up twice");
        looked_up.extend(wanted.iter().cloned());
        let found = all.iter().filter(|e| wanted.contains(&e.claim.object.path));
        draft.add(wanted.iter().cloned(), found.cloned(), |id| closed.contains(&id));
        wanted = draft.open().clone();
        assert_eq!(draft.looked_up(), looked_up.len());
    }
    (draft.decide(), looked_up)
}

fn only(rows: &BTreeMap<StorePath, Chosen>, paths: &BTreeSet<StorePath>) -> BTreeMap<StorePath, Chosen> {
    let wanted = rows.iter().filter(|(p, _)| paths.contains(*p));
    wanted.map(|(p, row)| (p.clone(), row.clone())).collect()
}

fn paths(numbers: impl IntoIterator<Item = u8>) -> BTreeSet<StorePath> {
    numbers.into_iter().map(path).collect()
}

fn open_references(view: &View) -> BTreeSet<StorePath> {
    let references = view.objects().flat_map(|object| &object.references);
    references.filter(|r| view.get(r).is_none()).cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_at_once(policy in policies(), all in all_evidence()) {
        let mut draft = Draft::new(&policy);
        draft.add(paths(0..PATHS), all.clone(), |_| false);
        prop_assert_eq!(draft.open(), &BTreeSet::new());
        let view = draft.decide();
        prop_assert_eq!(seen(&view), model(&policy, &all));
        prop_assert_eq!(open_references(&view), BTreeSet::new());
    }

    /// What is asked about is found as if everything had been.
    #[test]
    fn step_by_step(policy in policies(), all in all_evidence(), asked in prop::collection::btree_set(0..PATHS, 0..3)) {
        let (view, looked_up) = look_up(&policy, &all, paths(asked), &BTreeSet::new());
        prop_assert_eq!(seen(&view), only(&model(&policy, &all), &looked_up));
    }

    /// Looking up in any order, with what was found closed before, and with evidence that comes in between.
    #[test]
    fn with_what_is_known_to_be_closed(
        policy in policies(),
        all in all_evidence(),
        questions in vec((prop::collection::btree_set(0..PATHS, 1..3), any::<prop::sample::Index>()), 1..6),
    ) {
        let mut there = 0;
        let mut closed = BTreeSet::new();
        for (asked, more) in questions {
            there = there.max(more.index(all.len() + 1));
            let now = &all[..there];
            let asked = paths(asked);
            let (view, looked_up) = look_up(&policy, now, asked.clone(), &closed);
            let expected = model(&policy, now);
            prop_assert_eq!(only(&seen(&view), &asked), only(&expected, &asked));
            // Of what was looked up on the way, too: nothing is chosen that the whole view has not.
            prop_assert_eq!(seen(&view), only(&expected, &looked_up));
            closed.extend(view.choices().map(|(_, c)| c.candidate.id));
        }
    }

    /// More evidence never takes a path away.
    #[test]
    fn views_only_grow(policy in policies(), all in all_evidence(), cut in any::<prop::sample::Index>()) {
        let some = &all[..cut.index(all.len() + 1)];
        let before: BTreeSet<_> = model(&policy, some).into_keys().collect();
        let (after, _) = look_up(&policy, &all, paths(0..PATHS), &BTreeSet::new());
        prop_assert!(before.iter().all(|p| after.get(p).is_some()));
    }

    /// What an account was told stays: once everything loose of it is kept, others can take back whatever else there is. Only signatures that
    /// came with something behind the account's own reasons are not passed on any more.
    #[test]
    fn what_was_told_stays(
        policy in policies(),
        mut all in all_evidence(),
        asked in prop::collection::btree_set(0..PATHS, 1..4),
        back in vec(any::<bool>(), 24),
    ) {
        let asked = paths(asked);
        let (mut told, _) = look_up(&policy, &all, asked.clone(), &BTreeSet::new());
        told.retain_reachable(&asked);
        prop_assert_eq!(open_references(&told), BTreeSet::new());
        let loose: BTreeSet<ObjectId> = told.loose().into_values().collect();
        for evidence in all.iter_mut().filter(|e| loose.contains(&e.id)) {
            let admitted = match evidence.witness {
                Witness::Account(other) => {
                    policy.accounts.iter().any(|(a, level)| *a == other && level.covers(evidence.claim.origin))
                }
                _ => true,
            };
            evidence.kept |= admitted;
        }
        let (mut kept, _) = look_up(&policy, &all, asked.clone(), &BTreeSet::new());
        kept.retain_reachable(&asked);
        prop_assert_eq!(kept.loose(), BTreeMap::new());

        let mut back = back.into_iter();
        all.retain(|e| e.kept || !back.next().unwrap_or(false));
        let (mut after, _) = look_up(&policy, &all, asked.clone(), &BTreeSet::new());
        after.retain_reachable(&asked);
        let row = |view: &View| -> BTreeMap<StorePath, (ObjectId, Why, u64)> {
            view.choices()
                .map(|(path, c)| (path.clone(), (c.candidate.id, c.candidate.why, c.candidate.registered)))
                .collect()
        };
        prop_assert_eq!(row(&after), row(&told));
    }

    /// Evidence of strangers, of levels that are not given, and the order in which the database answers: nothing changes.
    #[test]
    fn what_is_not_admitted_does_not_exist(policy in policies(), all in all_evidence()) {
        let stranger = |e: &Evidence| match e.witness {
            Witness::Own => false,
            Witness::Key(key) => !policy.keys.contains(&key),
            Witness::Account(other) => {
                let believed = if e.kept { &policy.told_by } else { &policy.accounts };
                !believed.iter().any(|(a, level)| *a == other && level.covers(e.claim.origin))
            }
        };
        let admitted: Vec<Evidence> = all.iter().rev().filter(|e| !stranger(e)).cloned().collect();
        let (with, _) = look_up(&policy, &all, paths(0..PATHS), &BTreeSet::new());
        let (without, _) = look_up(&policy, &admitted, paths(0..PATHS), &BTreeSet::new());
        prop_assert_eq!(seen(&with), seen(&without));
    }

    #[test]
    fn candidates_are_the_admitted_ones_the_best_first(policy in policies(), all in all_evidence()) {
        let mut draft = Draft::new(&policy);
        draft.add(paths(0..PATHS), all.clone(), |_| false);
        let view = draft.clone().decide();
        for path in paths(0..PATHS) {
            let candidates = draft.candidates(&path);
            let ids: BTreeSet<ObjectId> = candidates.iter().map(|c| c.id).collect();
            prop_assert_eq!(ids.len(), candidates.len(), "an object is one candidate");
            // Without references every candidate is alive, so the first one is what a model without them chooses.
            let free: Vec<Evidence> = all.iter().cloned().map(|mut e| { e.claim.object.references.clear(); e }).collect();
            let expected = model(&policy, &free);
            prop_assert_eq!(candidates.first().map(|c| c.id), expected.get(&path).map(|row| row.0));
            if let Some(choice) = view.get(&path) {
                prop_assert!(ids.contains(&choice.candidate.id));
            }
        }
    }

    #[test]
    fn the_closure_is_the_smallest_fixpoint(
        policy in policies(),
        all in all_evidence(),
        roots in prop::collection::btree_set(0..PATHS, 0..3),
        known in prop::collection::btree_set(0..PATHS, 0..4),
    ) {
        let known = paths(known);
        let (view, _) = look_up(&policy, &all, paths(0..PATHS), &BTreeSet::new());
        let roots = paths(roots);
        let mut naive: BTreeSet<StorePath> = roots.iter().filter(|r| view.get(r).is_some()).cloned().collect();
        loop {
            let next: BTreeSet<StorePath> = naive
                .iter()
                .flat_map(|p| view.get(p).unwrap().object().references.clone())
                .chain(naive.iter().cloned())
                .collect();
            if next == naive {
                break;
            }
            naive = next;
        }
        let mut closure = Closure::of(&roots);
        // Some are known beforehand; the rest is looked up.
        let mut beforehand = view.clone();
        let known: std::collections::BTreeMap<_, _> = known.into_iter().filter_map(|p| Some((p.clone(), beforehand.take(&p)?))).collect();
        while !closure.wanted().is_empty() {
            closure.follow(|path| known.get(path).cloned());
            if let Err(missing) = closure.add(view.clone()) {
                prop_assert!(view.get(&missing).is_none() && roots.contains(&missing));
                return Ok(());
            }
        }
        let found = closure.into_view();
        let reached: BTreeSet<StorePath> = found.choices().map(|(p, _)| p.clone()).collect();
        prop_assert_eq!(reached, naive);
    }

    /// A view that is looked up piece by piece is the view.
    #[test]
    fn parts_make_the_whole(policy in policies(), all in all_evidence(), cut in 0..PATHS) {
        let (mut parts, _) = look_up(&policy, &all, paths(0..cut), &BTreeSet::new());
        prop_assert_eq!(open_references(&parts), BTreeSet::new(), "without shortcuts every part is closed");
        let (rest, _) = look_up(&policy, &all, paths(cut..PATHS), &BTreeSet::new());
        parts.extend(rest);
        prop_assert_eq!(seen(&parts), model(&policy, &all));
    }
}
