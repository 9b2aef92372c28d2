//! Narinfo files: real ones of public caches with their signatures, and what is refused.

#![expect(clippy::unwrap_used, reason = "a failed test is the point")]

mod archive;
mod shared;

use std::collections::HashMap;

use firn_nix::narinfo::{MAX_SIGNATURES, MAX_SIGNATURES_BY_ONE_KEY, NarInfo, NarInfoError};
use firn_nix::signature::{PublicKey, SecretKey};
use proptest::prelude::*;

const SMALL: &str = "StorePath: /nix/store/00000000000000000000000000000000-x\n\
    URL: nar/x.nar.xz\n\
    Compression: xz\n\
    FileHash: sha256:1w1fff338fvdw53sqgamddn1b2xgds473pv6y13gizdbqjv4i5p3\n\
    FileSize: 10\n\
    NarHash: sha256:1w1fff338fvdw53sqgamddn1b2xgds473pv6y13gizdbqjv4i5p3\n\
    NarSize: 20\n\
    References: 00000000000000000000000000000000-x 00000000000000000000000000000001-y\n\
    Deriver: 00000000000000000000000000000002-x.drv\n\
    CA: fixed:r:sha256:1lr187v6dck1rjh2j6svpikcfz53wyl3qrlcbb405zlh13x0khhh\n";

fn keys() -> Vec<PublicKey> {
    [
        "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=",
        "nix-community.cachix.org-1:mB9FSh9qf2dCimDSUo8Zy7bkq5CX+/rkCWyvRCYg3Fs=",
        "ekala-corepkgs.cachix.org-1:DcZV+vegWoEzacbSdXFXU4S7728C0eS9RfGpKeyHd6w=",
    ]
    .map(|key| key.parse().unwrap())
    .into()
}

#[test]
fn real_files_are_read_verified_and_written_back() {
    let Some(file) = shared::folder("vectors/narinfo.tar.zst") else {
        return;
    };
    let keys = keys();
    let mut read = HashMap::new();
    let mut verdicts = String::new();
    archive::tar_zst(&file, |name, bytes| {
        if name.ends_with("facts.tsv") {
            verdicts = String::from_utf8(bytes).unwrap();
        } else if name.ends_with(".narinfo") {
            let info = NarInfo::parse(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(
                NarInfo::parse(info.to_string().as_bytes()).unwrap(),
                info,
                "{name}"
            );
            let text = String::from_utf8(bytes).unwrap();
            // Some caches have fields of their own, leave out an empty one or write hashes in hexadecimal.
            let usual = info.to_string() == text;
            assert_eq!(info.fingerprint(), info.to_path_info().fingerprint());
            read.insert(info.path.to_string(), (info.signed_by(&keys).is_some(), usual));
        }
    });
    let (mut good, mut usual) = (0, 0);
    for line in verdicts.lines() {
        let columns: Vec<_> = line.split('\t').collect();
        if let ["ok", _, path, ..] = columns[..]
            && let Some((signed, same)) = read.get(path)
        {
            assert!(signed, "{path}");
            good += 1;
            usual += usize::from(*same);
        }
    }
    eprintln!("{} narinfos, {good} verified, {usual} identical", read.len());
    assert!(good >= 985 && usual >= 950, "{good} {usual}");
    assert_eq!(
        read.values().filter(|(signed, _)| !signed).count(),
        read.len() - good
    );
}

#[test]
fn golden_values() {
    let Some(folder) = shared::folder("vectors/nix/nar-info/json-1") else {
        return;
    };
    let text = std::fs::read_to_string(folder.join("impure.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let words = |key: &str| -> Vec<&str> {
        json[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_str().unwrap())
            .collect()
    };
    let base = |path: &str| path.strip_prefix("/nix/store/").unwrap().to_owned();
    let mut text = format!(
        "StorePath: {}\nURL: {}\nCompression: {}\nFileHash: {}\nFileSize: {}\nNarHash: {}\nNarSize: {}\n",
        "/nix/store/n5wkd9frr45pa74if5gpz9j7mifg27fh-foo",
        json["url"].as_str().unwrap(),
        json["compression"].as_str().unwrap(),
        json["downloadHash"].as_str().unwrap(),
        json["downloadSize"],
        json["narHash"].as_str().unwrap(),
        json["narSize"],
    );
    text += &format!(
        "References: {}\n",
        words("references")
            .into_iter()
            .map(base)
            .collect::<Vec<_>>()
            .join(" ")
    );
    text += &format!("Deriver: {}\n", base(json["deriver"].as_str().unwrap()));
    for signature in words("signatures") {
        text += &format!("Sig: {signature}\n");
    }
    text += &format!("CA: {}\n", json["ca"].as_str().unwrap());
    let info = NarInfo::parse(text.as_bytes()).unwrap();
    assert_eq!(info.url, json["url"].as_str().unwrap());
    assert_eq!(info.nar_hash.to_hash().sri(), json["narHash"].as_str().unwrap());
    assert_eq!(info.ca.unwrap().to_string(), json["ca"].as_str().unwrap());
    assert_eq!(info.references.len(), 2);
    assert_eq!(info.signatures.len(), 2);
}

#[test]
fn refuses_and_names_the_line() {
    assert_eq!(NarInfo::parse(SMALL.as_bytes()).unwrap().to_string(), SMALL);
    let cases = [
        (SMALL.replace("NarSize: 20\n", ""), "narinfo has no NarSize"),
        (
            SMALL.replace("NarSize: 20", "NarSize: 0"),
            "line 7: NarSize: is 0",
        ),
        (
            SMALL.replace("NarSize: 20", "NarSize: ++20"),
            "line 7: NarSize: '++20'",
        ),
        (SMALL.replace("URL: nar", "URL: a nar"), "line 2: URL"),
        (SMALL.replace("URL:", "URL"), "line 2: expected"),
        (SMALL.replace("URL: ", "URL:"), "line 2: expected"),
        (format!("{SMALL}NarSize: 20\n"), "line 11: a second NarSize"),
        (format!("{SMALL}References: \n"), "line 11: a second References"),
        (format!("{SMALL}CA: \n"), "line 11: a second CA"),
        (
            SMALL.replace("FileHash: sha256:", "FileHash: "),
            "line 4: FileHash",
        ),
        (SMALL.trim_end().to_owned(), "line 10: expected"),
    ];
    for (text, expected) in cases {
        let error = NarInfo::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(NarInfo::parse(b"\xff: \n"), Err(NarInfoError::Line(1)));
    assert!(NarInfo::parse(format!("{SMALL}X-Other: y\n").as_bytes()).is_ok());
}

/// As Nix 2.8 takes them.
#[test]
fn takes_what_nix_takes() {
    let info = NarInfo::parse(SMALL.as_bytes()).unwrap();
    let key = SecretKey::from_seed("k", &[1; 32]).unwrap();
    let good = key.sign(info.fingerprint().as_bytes()).to_string();
    // Beside a good signature: nothing, one of another length, no base-64, no name.
    let beside = format!(
        "{SMALL}Sig: \nSig: k:AAAA\nSig: {good}\nSig: k:?\nSig: {}\n",
        "A".repeat(88)
    );
    let read = NarInfo::parse(beside.as_bytes()).unwrap();
    assert!(read.signed_by(&[key.public_key()]).is_some());
    assert_eq!(read.unreadable_signatures, 4);
    // Many.
    let mut many = SMALL.to_owned();
    for n in 0..200_u8 {
        let other = SecretKey::from_seed(&format!("other-{n}"), &[n; 32]).unwrap();
        many += &format!("Sig: {}\n", other.sign(b"x"));
    }
    many += &format!("Sig: {good}\n");
    let read = NarInfo::parse(many.as_bytes()).unwrap();
    assert!(read.signed_by(&[key.public_key()]).is_some());
    // A reference that is listed twice, a number with a sign.
    assert_eq!(
        NarInfo::parse(SMALL.replace("1-y", "0-x").as_bytes())
            .unwrap()
            .references
            .len(),
        info.references.len() - 1
    );
    let plus = SMALL.replace("NarSize: 20", "NarSize: +20");
    assert_eq!(NarInfo::parse(plus.as_bytes()).unwrap(), info);
}

/// However many there are, what has to be checked is bounded.
#[test]
fn signatures_are_read_up_to_a_bound() {
    let mut text = SMALL.to_owned();
    for n in 0..3000_u32 {
        let key = SecretKey::from_seed(&format!("k-{}", n % 1500), &[1; 32]).unwrap();
        text += &format!("Sig: {}\n", key.sign(&n.to_le_bytes()));
    }
    let read = NarInfo::parse(text.as_bytes()).unwrap();
    assert_eq!(read.signatures.len(), MAX_SIGNATURES);
    let key = SecretKey::from_seed("k", &[1; 32]).unwrap();
    let lines = (0..100_u32).map(|n| format!("Sig: {}\n", key.sign(&n.to_le_bytes())));
    let one: String = std::iter::once(SMALL.to_owned()).chain(lines).collect();
    let read = NarInfo::parse(one.as_bytes()).unwrap();
    assert_eq!(read.signatures.len(), MAX_SIGNATURES_BY_ONE_KEY);
}

#[test]
fn a_signature_holds_for_what_it_was_made_over_only() {
    let mut info = NarInfo::parse(SMALL.as_bytes()).unwrap();
    let key = SecretKey::from_seed("k", &[1; 32]).unwrap();
    let keys = [key.public_key()];
    info.signatures.insert(key.sign(info.fingerprint().as_bytes()));
    assert!(info.signed_by(&keys).is_some());
    info.url = "elsewhere".to_owned();
    assert!(info.signed_by(&keys).is_some());
    info.nar_size += 1;
    assert!(info.signed_by(&keys).is_none());
}

proptest! {
    #[test]
    fn garbage_is_an_error_not_a_panic(at in 0..SMALL.len(), byte: u8, cut in 0..SMALL.len()) {
        let mut text = SMALL.as_bytes().to_vec();
        text[at] = byte;
        for text in [&text[..], &text[..cut]] {
            if let Ok(info) = NarInfo::parse(text) {
                prop_assert_eq!(NarInfo::parse(info.to_string().as_bytes()).unwrap(), info);
            }
        }
    }
}
