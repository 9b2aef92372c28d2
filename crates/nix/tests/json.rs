//! JSON: reading against serde_json, writing against what nlohmann's library prints.

#![expect(clippy::unwrap_used, reason = "a failed test is the point")]

use firn_nix::json::{Json, MAX_DEPTH};
use proptest::prelude::*;

fn again(text: &str) -> String {
    Json::parse(text.as_bytes()).unwrap().dump()
}

#[test]
fn prints_numbers_as_nlohmann_does() {
    for (read, printed) in [
        ("0", "0"),
        ("-0", "0"),
        ("-0.0", "-0.0"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "1.8446744073709552e+19"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("1.0", "1.0"),
        ("1e2", "100.0"),
        ("0.1", "0.1"),
        ("-3.25", "-3.25"),
        ("1e14", "100000000000000.0"),
        ("1e15", "1e+15"),
        ("123456789012345678.0", "1.2345678901234568e+17"),
        ("0.0001", "0.0001"),
        ("0.00001", "1e-05"),
        ("0.00012345", "0.00012345"),
        ("1.5e300", "1.5e+300"),
        ("1.5E-7", "1.5e-07"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("5e-324", "5e-324"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        // Not the shortest digits, or not the nearest ones.
        ("6.11793950736351e16", "6.1179395073635104e+16"),
        ("201576030214256.62", "201576030214256.63"),
        ("-2.665395735562245e186", "-2.6653957355622448e+186"),
    ] {
        assert_eq!(again(read), printed, "{read}");
    }
}

#[test]
fn prints_text_raw_and_sorted() {
    assert_eq!(
        again(
            " { \"b\" : [ ] , \"a\" : { } , \"\\u00e9\\ud83d\\ude00\\/\\u007f\" : \"\\u0001\\b\\f\\n\\r\\t\\\"\\\\\" }"
        ),
        "{\"a\":{},\"b\":[],\"é😀/\u{7f}\":\"\\u0001\\b\\f\\n\\r\\t\\\"\\\\\"}"
    );
    assert_eq!(again(r#"{"a":1,"a":2}"#), r#"{"a":2}"#);
}

#[test]
fn refuses_what_is_no_json() {
    for bad in [
        "",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "-",
        "nul",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"\\x\"",
        "\"\n\"",
        "\"",
        "[1 2]",
        "1 1",
        "1e999",
        "\"\\u00g0\"",
        "\"\\u+123\"",
    ] {
        assert!(Json::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert!(Json::parse(b"\"\xff\"").is_err());
    let deep = |n| "[".repeat(n) + &"]".repeat(n);
    assert!(Json::parse(deep(MAX_DEPTH).as_bytes()).is_ok());
    assert!(Json::parse(deep(100_000).as_bytes()).is_err());
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".*".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            proptest::collection::btree_map(".*", inner, 0..6)
                .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn reads_what_another_library_writes(value in value()) {
        let json = Json::parse(value.to_string().as_bytes()).unwrap();
        prop_assert_eq!(&Json::parse(json.dump().as_bytes()).unwrap(), &json);
    }

    #[test]
    fn floats_survive(f in any::<f64>().prop_filter("finite", |f| f.is_finite())) {
        prop_assert_eq!(Json::parse(Json::Float(f).dump().as_bytes()).unwrap(), Json::Float(f));
    }

    #[test]
    fn garbage_is_an_error_not_a_panic(bytes: Vec<u8>, text in "[\\[\\]{}\",:0-9eE.\\\\u+-]*") {
        let _ = Json::parse(&bytes);
        let _ = Json::parse(text.as_bytes());
    }
}
