//! Which realisations an account believes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use firn_core::{
    AccountId, KeyId, Origin, Policy, RealisationClaim, RealisationEvidence, Trust, Why,
    realisations_believed,
};
use firn_nix::StorePath;
use firn_nix::realisation::{DrvOutput, Realisation};
use firn_nix::signature::SecretKey;

const ME: AccountId = AccountId(1);
const FRIEND: AccountId = AccountId(2);
const STRANGER: AccountId = AccountId(3);

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&format!("key-{n}"), &[n; 32]).unwrap()
}

fn id() -> DrvOutput {
    format!("sha256:{}!out", "0".repeat(64)).parse().unwrap()
}

fn said(account: AccountId, origin: Origin, path: u8, signed: &[u8]) -> RealisationEvidence {
    let path = StorePath::from_base_name(format!("{}-x", path.to_string().repeat(32)).as_bytes()).unwrap();
    let mut realisation = Realisation::unsigned(id(), path);
    let fingerprint = realisation.fingerprint();
    let signatures = signed.iter().map(|n| key(*n).sign(fingerprint.as_bytes()));
    realisation.signatures = signatures.collect();
    RealisationEvidence {
        account,
        claim: RealisationClaim {
            realisation,
            origin,
            registered: 0,
            form: None,
        },
        kept: account == ME,
    }
}

fn believed(policy: &Policy, keys: &[u8], evidence: &[RealisationEvidence]) -> Vec<(char, Why)> {
    let keys: Vec<_> = keys.iter().map(|n| key(*n).public_key()).collect();
    realisations_believed(policy, &keys, evidence.iter().cloned())
        .into_iter()
        .map(|(e, why)| {
            let path = e.claim.realisation.out_path;
            (path.base_name().chars().next().unwrap(), why)
        })
        .collect()
}

#[test]
fn strangers_are_not_believed() {
    let evidence = [
        said(STRANGER, Origin::Built, 1, &[]),
        said(STRANGER, Origin::Uploaded, 2, &[7]),
        said(FRIEND, Origin::Uploaded, 3, &[]),
        said(FRIEND, Origin::Substituted, 4, &[]),
        said(ME, Origin::Substituted, 5, &[]),
    ];
    assert_eq!(believed(&Policy::alone(ME), &[], &evidence), []);
    let policy = Policy {
        accounts: vec![(FRIEND, Trust::Builds)],
        ..Policy::alone(ME)
    };
    assert_eq!(believed(&policy, &[], &evidence), []);
}

#[test]
fn the_order_is_that_of_views() {
    let policy = Policy {
        account: ME,
        keys: vec![KeyId(10), KeyId(11)],
        accounts: vec![(FRIEND, Trust::Uploads)],
        told_by: vec![(FRIEND, Trust::Uploads)],
    };
    let mut evidence = vec![
        said(ME, Origin::Uploaded, 1, &[]),
        said(FRIEND, Origin::Uploaded, 2, &[]),
        said(FRIEND, Origin::Built, 3, &[]),
        said(ME, Origin::Built, 4, &[]),
        said(STRANGER, Origin::Uploaded, 5, &[2]),
        said(STRANGER, Origin::Uploaded, 7, &[1, 2]),
        said(FRIEND, Origin::Uploaded, 6, &[1]),
    ];
    let expected = [
        ('6', Why::Signed(KeyId(10))),
        ('7', Why::Signed(KeyId(10))),
        ('5', Why::Signed(KeyId(11))),
        ('4', Why::Built),
        ('3', Why::TrustedBuild(FRIEND)),
        ('2', Why::TrustedUpload(FRIEND)),
        ('1', Why::Uploaded),
    ];
    assert_eq!(believed(&policy, &[1, 2], &evidence), expected);
    evidence.reverse();
    assert_eq!(believed(&policy, &[1, 2], &evidence), expected);
}

/// What an account was told stays while it trusts who told it, and so does what a key has signed.
#[test]
fn what_was_told_stays_as_long_as_it_is_believed() {
    let told = |evidence: RealisationEvidence| RealisationEvidence {
        kept: true,
        ..evidence
    };
    let evidence = [
        told(said(FRIEND, Origin::Built, 1, &[])),
        told(said(FRIEND, Origin::Uploaded, 2, &[])),
        told(said(STRANGER, Origin::Uploaded, 3, &[7])),
    ];
    // He lets nobody read any more.
    let policy = |trust: &[Trust], keys: &[i64]| Policy {
        keys: keys.iter().map(|key| KeyId(*key)).collect(),
        told_by: trust.iter().map(|trust| (FRIEND, *trust)).collect(),
        ..Policy::alone(ME)
    };
    let (builds, uploads) = (
        ('1', Why::TrustedBuild(FRIEND)),
        ('2', Why::TrustedUpload(FRIEND)),
    );
    for (policy, expected) in [
        (policy(&[Trust::Uploads], &[]), &[builds, uploads][..]),
        (policy(&[Trust::Builds], &[]), &[builds]),
        (policy(&[], &[]), &[]),
    ] {
        assert_eq!(believed(&policy, &[], &evidence), expected);
    }
    let policy = policy(&[], &[70]);
    assert_eq!(
        believed(&policy, &[7], &evidence),
        [('3', Why::Signed(KeyId(70)))]
    );
}

/// A signature is over the whole: that of one path says nothing of another.
#[test]
fn a_signature_of_something_else_is_none() {
    let mut other = said(STRANGER, Origin::Uploaded, 1, &[1]);
    other.claim.realisation.out_path = said(ME, Origin::Built, 2, &[]).claim.realisation.out_path;
    let policy = Policy {
        keys: vec![KeyId(1)],
        ..Policy::alone(ME)
    };
    assert_eq!(believed(&policy, &[1], &[other]), []);
}
