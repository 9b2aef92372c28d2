//! Placeholders and their replacement.

use firn_nix::StorePath;
use firn_nix::rewrite::{placeholder, rewrite_strings, upstream_placeholder};

#[test]
fn placeholders_are_those_of_nix() {
    assert_eq!(
        placeholder("out"),
        "/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"
    );
    let drv = StorePath::from_base_name(b"g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-foo.drv").unwrap();
    assert_eq!(
        upstream_placeholder(&drv, "out").unwrap(),
        "/0c6rn30q4frawknapgwq386zq358m8r6msvywcvc89n6m5p2dgbz"
    );
    let other = StorePath::from_base_name(b"g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-foo").unwrap();
    assert!(upstream_placeholder(&other, "out").is_err());
}

#[test]
fn rewrites_every_occurrence_in_order() {
    assert_eq!(
        rewrite_strings(b"a\xffaXa", &[("a", "bb"), ("X", "")]),
        b"bb\xffbbbb"
    );
    assert_eq!(rewrite_strings(b"aaa", &[("aa", "a")]), b"aa");
    assert_eq!(rewrite_strings(b"a", &[("a", "aa"), ("", "x")]), b"aa");
    assert_eq!(rewrite_strings::<&str, &str>(b"a", &[]), b"a");
}
