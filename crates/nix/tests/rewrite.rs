//! Placeholders and their replacement.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a failed test is the point"
)]

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

mod streams {
    use firn_nix::rewrite::{HashModuloSelf, HashRewriter, SelfReferences};
    use firn_nix::{Hash, HashAlgo, StorePath};
    use proptest::prelude::*;

    fn path(digit: char) -> StorePath {
        let text = format!("{}-x", digit.to_string().repeat(32));
        StorePath::from_base_name(text.as_bytes()).unwrap()
    }

    /// Few distinct bytes, so that runs reach the length of a hash part and overlap.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            4 => prop::sample::select(&b"12 e-"[..]).prop_map(|b| vec![b]),
            2 => (prop::sample::select(&b"123"[..]), 20..70usize).prop_map(|(b, n)| vec![b; n]),
        ];
        prop::collection::vec(part, 0..20).prop_map(|parts| parts.concat())
    }

    /// Leftmost first, one byte at a time.
    fn model(text: &[u8], rewrites: &[(u8, u8)]) -> (Vec<u8>, Vec<usize>) {
        let (mut out, mut places, mut at) = (Vec::new(), Vec::new(), 0);
        while at < text.len() {
            let hit = rewrites
                .iter()
                .find(|(from, _)| text[at..].starts_with(&[*from; 32]));
            if let Some((_, to)) = hit {
                places.push(at);
                out.extend([*to; 32]);
                at += 32;
            } else {
                out.push(text[at]);
                at += 1;
            }
        }
        (out, places)
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(text in text(), sizes in prop::collection::vec(1..80usize, 1..9)) {
            let (one, two, three) = (path('1'), path('2'), path('3'));
            let mut rewriter = HashRewriter::new([(&one, &three), (&two, &one)]);
            let (mut out, mut rest, mut sizes) = (Vec::new(), &text[..], sizes.iter().cycle());
            let mut hash = HashModuloSelf::new(HashAlgo::Sha256, &one);
            while !rest.is_empty() {
                let (head, tail) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                rewriter.push(head, &mut out);
                hash.push(head);
                rest = tail;
            }
            rewriter.finish(&mut out);
            prop_assert_eq!(out, model(&text, &[(b'1', b'3'), (b'2', b'1')]).0);
            let (mut zeroed, places) = model(&text, &[(b'1', 0)]);
            let hashes = hash.finish().unwrap();
            prop_assert_eq!(hashes.of(SelfReferences::Unplaced), Hash::sha256(&zeroed));
            prop_assert_eq!(hashes.mentions_itself(), !places.is_empty());
            for place in places {
                zeroed.extend(format!("|{place}").bytes());
            }
            prop_assert_eq!(hashes.of(SelfReferences::Placed), Hash::sha256(&zeroed));
        }
    }

    #[test]
    fn the_hash_does_not_depend_on_the_path() {
        let text = |p: &StorePath| format!("one {p} and two {p}");
        let hash = |p: &StorePath| {
            let mut hash = HashModuloSelf::new(HashAlgo::Sha1, p);
            hash.push(text(p).as_bytes());
            hash.finish().unwrap()
        };
        assert_eq!(hash(&path('1')), hash(&path('2')));
        let mut rewriter = HashRewriter::new([(&path('1'), &path('2'))]);
        assert_eq!(
            rewriter.rewrite(text(&path('1')).as_bytes()),
            text(&path('2')).as_bytes()
        );
        assert_eq!(rewriter.rewrite(b""), b"");
    }
}
