//! `.drv` files: what Nix wrote is read and written back byte for byte, and what Nix would not write is refused.

mod shared;

use firn_nix::derivation::{AtermError, MAX_INPUTS, MAX_OUTPUTS, MAX_STRINGS};
use firn_nix::{CaMethod, Derivation, DerivationOutput, HashAlgo};
use proptest::prelude::*;

const SMALL: &str = r#"Derive([("out","/nix/store/00000000000000000000000000000000-x","","")],[("/nix/store/00000000000000000000000000000001-y.drv",["dev","out"])],["/nix/store/00000000000000000000000000000002-z"],"x86_64-linux","/bin/sh",["-c","echo \"hi\"\n"],[("a","1"),("b","\\\t\r")])"#;

#[test]
fn reads_every_field() {
    let drv = Derivation::parse(SMALL.as_bytes()).unwrap();
    assert_eq!(drv.basic.args, [b"-c".to_vec(), b"echo \"hi\"\n".to_vec()]);
    assert_eq!(drv.basic.env[b"b".as_slice()], b"\\\t\r");
    assert_eq!(drv.basic.platform, b"x86_64-linux");
    assert_eq!(drv.input_drvs.len(), 1);
    assert_eq!(drv.basic.input_srcs.first().unwrap().name(), "z");
    assert_eq!(drv.to_aterm(), SMALL.as_bytes());
}

#[test]
fn tells_the_kinds_of_outputs_apart() {
    let output = |fields: &str| {
        let text = format!(r#"Derive([("out",{fields})],[],[],"","",[],[])"#);
        Derivation::parse(text.as_bytes()).map(|d| {
            assert_eq!(d.to_aterm(), text.as_bytes());
            d.basic.outputs["out"].clone()
        })
    };
    let (method, algo) = (CaMethod::Nar, HashAlgo::Sha1);
    assert_eq!(output(r#""","","""#).unwrap(), DerivationOutput::Deferred);
    assert_eq!(
        output(r#""","r:sha1","""#).unwrap(),
        DerivationOutput::Floating { method, algo }
    );
    assert_eq!(
        output(r#""","r:sha1","impure""#).unwrap(),
        DerivationOutput::Impure { method, algo }
    );
    let path = "/nix/store/00000000000000000000000000000000-x";
    let fixed = output(&format!(r#""{path}","md5","00000000000000000000000000000001""#)).unwrap();
    assert!(matches!(fixed, DerivationOutput::Fixed { path: Some(_), .. }));
    for bad in [
        format!(r#""{path}","r:sha1","""#),
        format!(r#""{path}","","impure""#),
        r#""","sha3","00""#.to_owned(),
        r#""","sha1","0000""#.to_owned(),
        r#""relative","","""#.to_owned(),
    ] {
        let error = output(&bad).unwrap_err();
        assert!(matches!(error, AtermError::Output { .. }), "{bad}: {error}");
    }
}

#[test]
fn refuses_what_nix_does_not_write() {
    let cases = [
        (SMALL.replace(r"\n", r"\x"), "one of the escapes"),
        (SMALL.replace("echo", "ec\nho"), "an escape for this byte"),
        (format!("{SMALL} "), "nothing after"),
        (SMALL.replace(r#"("b","#, r#"("a","#), "'a' is there twice"),
        (SMALL.replace(r#""dev","#, r#""out","#), "'out' is there twice"),
        (SMALL.replace("[\"dev\",\"out\"]", "([\"dev\"],[])"), "dynamic"),
        (SMALL.replace("-z\"", "-z/sub\""), "invalid name"),
        (SMALL.replace("Derive(", "Derive ("), "'Derive('"),
        (r#"DrvWithVersion("xp-dyn-drv",[])"#.to_owned(), "dynamic"),
    ];
    for (text, expected) in cases {
        let error = Derivation::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// As many as there may be are read; the next one is not, nor what follows it.
#[test]
fn counts_while_it_reads() {
    type Item = fn(usize) -> String;
    fn text([outputs, drvs, sources, args, env]: [&str; 5]) -> String {
        format!(r#"Derive([{outputs}],[{drvs}],[{sources}],"","",[{args}],[{env}])"#)
    }
    fn input(n: usize, outputs: &str) -> String {
        format!(r#"("/nix/store/{n:032}-y.drv",[{outputs}])"#)
    }
    let joined = |n: usize, item: Item| (0..n).map(item).collect::<Vec<_>>().join(",");
    let cases: [(usize, usize, &str, Item); 4] = [
        (0, MAX_OUTPUTS, "outputs", |n| format!(r#"("o{n}","","","")"#)),
        (1, MAX_OUTPUTS, "outputs of input derivations", |n| {
            format!(r#""o{n}""#)
        }),
        (3, MAX_STRINGS, "arguments", |_| r#""a""#.to_owned()),
        (4, MAX_STRINGS, "environment", |n| format!(r#"("{n}","")"#)),
    ];
    for (place, limit, field, item) in cases {
        let with = |items: &str| {
            let items = if place == 1 {
                input(0, items)
            } else {
                items.to_owned()
            };
            let mut parts = [""; 5];
            parts[place] = &items;
            text(parts)
        };
        Derivation::parse(with(&joined(limit, item)).as_bytes()).unwrap();
        let full = with(&format!("{},here", joined(limit, item)));
        let offset = full.find("here").unwrap();
        let expected = AtermError::TooMany { offset, field, limit };
        assert_eq!(Derivation::parse(full.as_bytes()).unwrap_err(), expected);
    }

    // Each input has as many outputs as it may; together they are too many.
    let outputs = joined(MAX_OUTPUTS, |n| format!(r#""{n}""#));
    let inputs = (0..MAX_INPUTS / MAX_OUTPUTS).map(|n| input(n, &outputs));
    let inputs = inputs.collect::<Vec<_>>().join(",");
    Derivation::parse(text(["", &inputs, "", "", ""]).as_bytes()).unwrap();
    let full = text(["", &format!("{inputs},{}", input(99_999, "here")), "", "", ""]);
    let expected = AtermError::TooMany {
        offset: full.find("here").unwrap(),
        field: "outputs of input derivations",
        limit: MAX_INPUTS,
    };
    assert_eq!(Derivation::parse(full.as_bytes()).unwrap_err(), expected);
}

#[test]
fn refuses_every_prefix() {
    for end in 0..SMALL.len() {
        assert!(Derivation::parse(&SMALL.as_bytes()[..end]).is_err(), "{end}");
    }
}

#[test]
fn names_the_byte_and_the_field() {
    let text = SMALL.replace(r#""/bin/sh""#, "/bin/sh");
    let error = Derivation::parse(text.as_bytes()).unwrap_err();
    let at = text.find("/bin/sh").unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "derivation, byte {at} (builder): expected '\"', found '{}'",
            text[at..at + 20].escape_default().to_string().replace("\\'", "'")
        )
    );
}

#[test]
fn golden_files_come_back_unchanged() {
    let Some(folder) = shared::folder("vectors/nix/derivation") else {
        return;
    };
    let mut same = 0;
    for sub in ["", "hash-modulo"] {
        for entry in std::fs::read_dir(folder.join(sub)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            // Modulo texts have hashes in place of input paths.
            if !name.ends_with(".drv") || name.ends_with("-modulo.drv") {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let parsed = Derivation::parse(&bytes);
            match name.as_str() {
                "bad-old-version-dyn-deps.drv" | "bad-version.drv" | "dyn-dep-derivation.drv" => {
                    assert!(matches!(parsed, Err(AtermError::Versioned { .. })), "{name}");
                }
                // Sanitised by hand upstream, no longer sorted.
                "firefox.drv" | "hello.drv" => {
                    let drv = parsed.unwrap();
                    assert_eq!(Derivation::parse(&drv.to_aterm()).unwrap(), drv, "{name}");
                }
                _ => {
                    assert_eq!(parsed.unwrap().to_aterm(), bytes, "{name}");
                    same += 1;
                }
            }
        }
    }
    assert!(same >= 6, "{same}");
}

proptest! {
    #[test]
    fn any_bytes_survive(
        args in proptest::collection::vec(any::<Vec<u8>>(), 0..4),
        env in proptest::collection::btree_map(any::<Vec<u8>>(), any::<Vec<u8>>(), 0..4),
        builder: Vec<u8>,
    ) {
        let mut drv = Derivation::parse(SMALL.as_bytes()).unwrap();
        drv.basic.args = args;
        drv.basic.env = env;
        drv.basic.builder = builder;
        prop_assert_eq!(Derivation::parse(&drv.to_aterm()).unwrap(), drv);
    }

    #[test]
    fn garbage_is_an_error_not_a_panic(at in 0..SMALL.len(), byte: u8) {
        let mut text = SMALL.as_bytes().to_vec();
        text[at] = byte;
        if let Ok(drv) = Derivation::parse(&text) {
            prop_assert_eq!(Derivation::parse(&drv.to_aterm()).unwrap(), drv);
        }
    }
}
