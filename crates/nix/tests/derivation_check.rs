//! Which derivations from outside are refused, and with which words.

#![expect(clippy::unwrap_used, reason = "a failed test is the point")]

use firn_nix::derivation::{DerivationKind, InvalidDerivation, MAX_STRINGS};
use firn_nix::{BasicDerivation, CaMethod, ContentAddress, DerivationOutput, Hash, HashAlgo, StorePath};

fn path(base: &str) -> StorePath {
    StorePath::from_base_name(format!("{}-{base}", "0".repeat(32)).as_bytes()).unwrap()
}

fn drv(outputs: &[(&str, DerivationOutput)]) -> BasicDerivation {
    BasicDerivation {
        outputs: outputs
            .iter()
            .map(|(n, o)| ((*n).to_owned(), o.clone()))
            .collect(),
        builder: b"/bin/sh".to_vec(),
        ..BasicDerivation::default()
    }
}

fn fixed(stated: Option<StorePath>) -> DerivationOutput {
    DerivationOutput::Fixed {
        path: stated,
        ca: ContentAddress {
            method: CaMethod::Flat,
            hash: Hash::sha256(b"x"),
        },
    }
}

fn ia(name: &str) -> DerivationOutput {
    DerivationOutput::InputAddressed(path(name))
}

#[test]
fn accepts_each_kind() {
    let drv_path = path("x.drv");
    let ok = |outputs: &[_]| drv(outputs).check(&drv_path).unwrap();
    assert_eq!(
        ok(&[("out", ia("x")), ("dev", ia("x-dev"))]),
        DerivationKind::InputAddressed
    );
    assert_eq!(ok(&[("out", fixed(None))]), DerivationKind::Fixed);
    let computed = fixed(None).known_path("x", "out").unwrap();
    assert_eq!(ok(&[("out", fixed(computed))]), DerivationKind::Fixed);
    assert_eq!(ok(&[("a", DerivationOutput::Deferred)]), DerivationKind::Deferred);
}

#[test]
fn refuses_and_names_the_culprit() {
    let floating = |algo| DerivationOutput::Floating {
        method: CaMethod::Nar,
        algo,
    };
    let cases: Vec<(BasicDerivation, &str)> = vec![
        (drv(&[]), "at least one output"),
        (drv(&[("out", ia("y"))]), "whose name should be 'x'"),
        (drv(&[("dev", ia("x"))]), "whose name should be 'x-dev'"),
        (drv(&[("a/b", ia("x-a"))]), "output name 'a/b' is invalid"),
        (drv(&[("out", fixed(Some(path("x"))))]), "but its hash gives"),
        (drv(&[("lib", fixed(None))]), "named 'out', not 'lib'"),
        (drv(&[("out", fixed(None)), ("z", fixed(None))]), "not 'z'"),
        (
            drv(&[("a", fixed(None)), ("out", ia("x"))]),
            "output 'out' is of another kind",
        ),
        (
            drv(&[("a", floating(HashAlgo::Sha1)), ("b", floating(HashAlgo::Sha256))]),
            "output 'b' is of another kind",
        ),
    ];
    for (drv, expected) in cases {
        let error = drv.check(&path("x.drv")).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn refuses_an_output_that_is_an_input() {
    let mut drv = drv(&[("out", ia("x"))]);
    drv.input_srcs.insert(path("x"));
    let error = drv.check(&path("x.drv")).unwrap_err();
    assert!(
        matches!(error, InvalidDerivation::OutputIsInput { .. }),
        "{error}"
    );
}

#[test]
fn refuses_two_outputs_with_one_path() {
    // Equal paths have equal names, and two outputs never have: the rule for names speaks first.
    let error = drv(&[("out", ia("x")), ("dev", ia("x"))])
        .check(&path("x.drv"))
        .unwrap_err();
    assert!(
        matches!(error, InvalidDerivation::OutputPathName { .. }),
        "{error}"
    );
}

#[test]
fn refuses_what_cannot_be_run() {
    let mut with_nul = drv(&[("out", ia("x"))]);
    with_nul.args.push(b"a\0b".to_vec());
    assert_eq!(
        with_nul.check(&path("x.drv")),
        Err(InvalidDerivation::Nul("arguments"))
    );
    let mut many = drv(&[("out", ia("x"))]);
    many.args = vec![Vec::new(); MAX_STRINGS + 1];
    assert!(matches!(
        many.check(&path("x.drv")),
        Err(InvalidDerivation::TooMany {
            what: "arguments",
            ..
        })
    ));
    assert!(matches!(
        drv(&[("out", ia("x"))]).check(&path("x")),
        Err(InvalidDerivation::NotADerivationPath(_))
    ));
}
