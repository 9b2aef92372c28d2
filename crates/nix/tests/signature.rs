//! Keys and signatures in Nix's text form.

use firn_nix::signature::{PublicKey, SecretKey, Signature};
use proptest::prelude::*;

#[test]
fn texts_survive() {
    let key = SecretKey::from_seed("k-1", &[3; 32]).unwrap();
    let again: SecretKey = key.to_secret_text().parse().unwrap();
    assert_eq!(again.public_key(), key.public_key());
    let public: PublicKey = key.public_key().to_string().parse().unwrap();
    assert_eq!(public, key.public_key());
    let signature: Signature = key.sign(b"m").to_string().parse().unwrap();
    assert!(public.verify(b"m", &signature));
    assert!(!public.verify(b"n", &signature));
    assert!(!format!("{key:?}").contains(':'));
}

#[test]
fn a_signature_under_another_name_does_not_count() {
    let a = SecretKey::from_seed("a", &[3; 32]).unwrap();
    let b = SecretKey::from_seed("b", &[3; 32]).unwrap();
    assert!(!a.public_key().verify(b"m", &b.sign(b"m")));
}

#[test]
fn refuses_what_is_none() {
    let zeros = |n| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, vec![0u8; n]);
    for bad in [
        String::new(),
        "k".to_owned(),
        format!(":{}", zeros(64)),
        format!("a b:{}", zeros(64)),
        format!("k:{}", zeros(63)),
        format!("k:{}", zeros(65)),
        format!("k:{}", zeros(64).trim_end_matches('=')),
        format!("k:{}\n", zeros(64)),
    ] {
        assert!(bad.parse::<Signature>().is_err(), "{bad:?}");
        assert!(bad.parse::<SecretKey>().is_err());
    }
    // A point of small order, for which anybody can make signatures.
    assert!(format!("k:{}", zeros(32)).parse::<PublicKey>().is_err());
    // Halves that do not belong together.
    let error = format!("k:{}", zeros(64)).parse::<SecretKey>().unwrap_err();
    assert_eq!(error.to_string(), "secret key 'k' is not a valid Ed25519 key");
}

proptest! {
    #[test]
    fn a_changed_bit_breaks_it(seed: [u8; 32], message: Vec<u8>, bit in 0..512usize) {
        let key = SecretKey::from_seed("k", &seed).unwrap();
        let signature = key.sign(&message);
        prop_assert!(key.public_key().verify(&message, &signature));
        let engine = base64::engine::general_purpose::STANDARD;
        let text = signature.to_string();
        let mut bytes = base64::Engine::decode(&engine, &text[2..]).unwrap();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let changed: Signature = format!("k:{}", base64::Engine::encode(&engine, bytes)).parse().unwrap();
        prop_assert!(!key.public_key().verify(&message, &changed));
    }
}
