//! The fixed order, spelled out.

use firn_core::{AccountId, Draft, Evidence, KeyId, Origin, Trust, Why, Witness};
use firn_nix::rewrite::SelfReferences;

use crate::support::{evidence, object, path, policy};

const KEY_1: Witness = Witness::Key(KeyId(1));
const KEY_2: Witness = Witness::Key(KeyId(2));
const BUILDS: Witness = Witness::Account(AccountId(2));
const UPLOADS: Witness = Witness::Account(AccountId(3));
const STRANGER: Witness = Witness::Account(AccountId(9));
const STRANGE_KEY: Witness = Witness::Key(KeyId(9));

/// Every kind of reason, the best first.
const ORDER: [(Witness, Origin, bool, Why); 12] = {
    use Origin::{Built, Substituted, Uploaded};
    [
        (Witness::Own, Substituted, true, Why::ContentAddressed),
        (KEY_2, Uploaded, true, Why::ContentAddressed),
        (Witness::Own, Built, true, Why::ContentAddressed),
        (BUILDS, Built, true, Why::ContentAddressed),
        (Witness::Own, Uploaded, true, Why::ContentAddressed),
        (KEY_2, Substituted, false, Why::Signed(KeyId(2))),
        (KEY_1, Built, false, Why::Signed(KeyId(1))),
        (Witness::Own, Built, false, Why::Built),
        (UPLOADS, Built, false, Why::TrustedBuild(AccountId(3))),
        (UPLOADS, Uploaded, false, Why::TrustedUpload(AccountId(3))),
        (BUILDS, Built, false, Why::TrustedBuild(AccountId(2))),
        (Witness::Own, Uploaded, false, Why::Uploaded),
    ]
};

fn chosen(all: Vec<Evidence>) -> Option<(i64, Why)> {
    let policy = policy();
    let mut draft = Draft::new(&policy);
    draft.add([path(0)], all, |_| false);
    let view = draft.decide();
    view.get(&path(0)).map(|c| (c.candidate.id.0, c.candidate.why))
}

/// The later in the table, the older: only the order can decide.
fn piece(place: usize) -> Evidence {
    let (witness, origin, ca, _) = ORDER[place];
    let id = i64::try_from(place).unwrap();
    let content = u8::try_from(place).unwrap();
    evidence(id, object(0, content, [], ca), witness, origin, 100 - id)
}

#[test]
fn of_two_reasons_the_better_one_decides() {
    for (better, (.., why)) in ORDER.iter().enumerate() {
        let id = i64::try_from(better).unwrap();
        assert_eq!(chosen(vec![piece(better)]), Some((id, *why)), "{better} alone");
        for worse in better + 1..ORDER.len() {
            for both in [[better, worse], [worse, better]] {
                let all = both.map(piece).to_vec();
                assert_eq!(chosen(all), Some((id, *why)), "{better} before {worse}");
            }
        }
    }
}

/// Another content can have the same path and the same hash: the address decides nothing.
#[test]
fn an_address_without_the_places_of_self_references_is_no_reason() {
    for (place, (witness, origin, ..)) in ORDER.into_iter().enumerate().filter(|(_, row)| row.2) {
        let unplaced = |ca| {
            let mut evidence = piece(place);
            evidence.claim.object.ca = evidence.claim.object.ca.filter(|_| ca);
            evidence.claim.object.self_references = Some(SelfReferences::Unplaced);
            chosen(vec![evidence])
        };
        assert_eq!(unplaced(true), unplaced(false), "{witness:?} {origin:?}");
        let mut placed = piece(place);
        placed.claim.object.self_references = Some(SelfReferences::Placed);
        assert_eq!(
            chosen(vec![placed]).map(|(_, why)| why),
            Some(Why::ContentAddressed)
        );
    }
}

#[test]
fn of_equal_reasons_the_oldest_decides() {
    for (witness, origin, ca, why) in ORDER {
        let of = |id: i64, seq| {
            evidence(
                id,
                object(0, u8::try_from(id).unwrap(), [], ca),
                witness,
                origin,
                seq,
            )
        };
        for all in [[of(1, 5), of(2, 4)], [of(2, 4), of(1, 5)]] {
            assert_eq!(chosen(all.to_vec()), Some((2, why)));
        }
    }
}

#[test]
fn what_no_policy_admits() {
    use Origin::{Built, Substituted, Uploaded};
    let cases = [
        (Witness::Own, Substituted, false),
        (BUILDS, Uploaded, false),
        (BUILDS, Uploaded, true),
        (BUILDS, Substituted, true),
        (UPLOADS, Substituted, false),
        (UPLOADS, Substituted, true),
        (STRANGER, Built, false),
        (STRANGER, Uploaded, true),
        (STRANGE_KEY, Uploaded, false),
        (STRANGE_KEY, Uploaded, true),
    ];
    for (witness, origin, ca) in cases {
        let all = vec![evidence(1, object(0, 1, [], ca), witness, origin, 0)];
        assert_eq!(chosen(all), None, "{witness:?} {origin:?} {ca}");
    }
}

#[test]
fn levels_of_trust() {
    use Origin::{Built, Substituted, Uploaded};
    for (level, origin, covers) in [
        (Trust::Builds, Built, true),
        (Trust::Builds, Uploaded, false),
        (Trust::Builds, Substituted, false),
        (Trust::Uploads, Built, true),
        (Trust::Uploads, Uploaded, true),
        (Trust::Uploads, Substituted, false),
    ] {
        assert_eq!(level.covers(origin), covers, "{level:?} {origin:?}");
    }
    // "The lower of both levels" is the smaller one.
    assert!(Trust::Builds < Trust::Uploads);
    for level in [Trust::Builds, Trust::Uploads] {
        assert_eq!(Trust::parse(level.name()), Some(level));
    }
    assert_eq!(Trust::parse("all"), None);
    for origin in Origin::ALL {
        assert_eq!(Origin::parse(origin.name()), Some(origin));
    }
}

/// The next best is chosen when the best one lacks a reference, and a cycle stands or falls as a whole.
#[test]
fn what_is_not_closed_is_passed_over() {
    let policy = policy();
    let best = |to: u8| evidence(1, object(0, 1, [to], false), KEY_2, Origin::Uploaded, 0);
    let next = evidence(2, object(0, 2, [0], false), Witness::Own, Origin::Uploaded, 1);
    assert_eq!(chosen(vec![best(1), next]), Some((2, Why::Uploaded)));
    // 0 → 1 → 2 → 0, and 2 → 3.
    let ring = |of: u8, to: &[u8]| {
        let object = object(of, 1, to.iter().copied(), false);
        evidence(
            i64::from(of),
            object,
            Witness::Own,
            Origin::Uploaded,
            i64::from(of),
        )
    };
    let three = ring(3, &[]);
    let broken = vec![ring(0, &[1]), ring(1, &[2]), ring(2, &[0, 3])];
    let whole: Vec<Evidence> = broken.iter().cloned().chain([three]).collect();
    for (all, count) in [(broken, 0), (whole, 4)] {
        let mut draft = Draft::new(&policy);
        draft.add((0..4).map(path), all, |_| false);
        assert_eq!(draft.decide().objects().count(), count);
    }
}

/// Whoever brought a signed object is nobody that the account trusts: of such evidence, only object, signature and time count.
#[test]
fn of_a_key_only_object_signature_and_time_count() {
    let policy = policy();
    let mut signed = evidence(1, object(0, 1, [], false), KEY_1, Origin::Substituted, 7);
    signed.claim.deriver = Some(path(5));
    let mut own = evidence(1, object(0, 1, [], false), Witness::Own, Origin::Uploaded, 3);
    own.claim.cache = None;
    for all in [
        vec![signed.clone()],
        vec![signed.clone(), own.clone()],
        vec![own, signed],
    ] {
        let mut draft = Draft::new(&policy);
        draft.add([path(0)], all, |_| false);
        let view = draft.decide();
        let candidate = &view.get(&path(0)).unwrap().candidate;
        assert_eq!((&candidate.deriver, &candidate.cache), (&None, &None));
        assert_eq!((candidate.why, candidate.registered), (Why::Signed(KeyId(1)), 7));
    }
}

/// A cache's word is no reason to believe, but it is known where a believed object came from.
#[test]
fn where_a_signed_object_was_fetched_from() {
    let policy = policy();
    let signed = evidence(1, object(0, 1, [], false), KEY_1, Origin::Uploaded, 7);
    let mut fetched = evidence(1, object(0, 1, [], false), Witness::Own, Origin::Substituted, 3);
    fetched.claim.deriver = Some(path(5));
    let mut other = evidence(1, object(0, 1, [], false), UPLOADS, Origin::Uploaded, 1);
    other.claim.deriver = Some(path(4));
    let all = [signed, fetched, other];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut draft = Draft::new(&policy);
        for place in order {
            draft.add([path(0)], [all[place].clone()], |_| false);
        }
        let view = draft.decide();
        let candidate = &view.get(&path(0)).unwrap().candidate;
        assert_eq!(candidate.why, Why::Signed(KeyId(1)));
        assert_eq!(candidate.cache.as_deref(), Some("https://cache"));
        assert_eq!(
            candidate.deriver,
            Some(path(4)),
            "of the best evidence that names one"
        );
        assert_eq!(candidate.signatures.len(), 3);
    }
    assert_eq!(chosen(vec![all[1].clone()]), None);
}
