use super::{Tree, problem, read, token, tokens};
use crate::nar::{NarLimits, Problem};

fn file(contents: &[u8]) -> Vec<u8> {
    tokens(&[b"(".as_slice(), b"type", b"regular", b"contents", contents, b")"])
}

fn nar(node: &[u8]) -> Vec<u8> {
    [token(b"nix-archive-1"), node.to_vec()].concat()
}

fn entry(name: &[u8], node: &[u8]) -> Vec<u8> {
    [
        tokens(&[b"entry".as_slice(), b"(", b"name", name, b"node"]),
        node.to_vec(),
        token(b")"),
    ]
    .concat()
}

fn directory(entries: &[Vec<u8>]) -> Vec<u8> {
    nar(&[tokens(&["(", "type", "directory"]), entries.concat(), token(b")")].concat())
}

#[test]
fn truncated_at_every_byte() {
    let tree = Tree::Directory(
        [
            (b"a".to_vec(), Tree::Regular(true, b"hello world".to_vec())),
            (b"b".to_vec(), Tree::Symlink(b"a".to_vec())),
            (b"c".to_vec(), Tree::Directory(Default::default())),
        ]
        .into(),
    );
    let nar = tree.nar();
    for length in 0..nar.len() {
        let error = problem(&nar[..length]);
        assert_eq!(error.problem, Problem::Truncated, "at {length}");
        assert_eq!(error.offset, length as u64);
    }
    assert!(read(&nar, 3, NarLimits::default()).is_ok());
}

#[test]
fn what_follows_the_root_is_left() {
    for tail in [&b"x"[..], &nar(&file(b"second")), &[0; 100]] {
        let whole = [nar(&file(b"first")), tail.to_vec()].concat();
        for piece in [1, 5, 64, 1000] {
            let (_, left) = read(&whole, piece, NarLimits::default()).unwrap();
            assert_eq!(left, tail.len());
        }
    }
}

#[test]
fn names() {
    for bad in [
        &b""[..],
        b".",
        b"..",
        b"/",
        b"a/b",
        b"/a",
        b"a/",
        b"a\0",
        b"\0",
        b"../x",
    ] {
        let error = problem(&directory(&[entry(bad, &file(b""))]));
        assert_eq!(error.problem, Problem::Name(bad.to_vec()));
        assert_eq!(error.offset, 24 + 56 + 48);
    }
    for good in [
        &b"..."[..],
        b"..a",
        b"~",
        b" ",
        b"\xff\xfe",
        b"a\nb",
        b"\\",
        &[b'n'; 255],
    ] {
        read(&directory(&[entry(good, &file(b""))]), 1000, NarLimits::default()).unwrap();
    }
    let long = problem(&directory(&[entry(&[b'n'; 256], &file(b""))]));
    assert!(
        matches!(
            long.problem,
            Problem::Length {
                length: 256,
                limit: 255,
                ..
            }
        ),
        "{long}"
    );
}

#[test]
fn order() {
    for (first, second) in [
        (&b"b"[..], &b"a"[..]),
        (b"a", b"a"),
        (b"a", b"B"),
        (b"aa", b"a"),
        (b"\xff", b"z"),
    ] {
        let error = problem(&directory(&[entry(first, &file(b"")), entry(second, &file(b""))]));
        assert_eq!(
            error.problem,
            Problem::Order {
                previous: first.to_vec(),
                name: second.to_vec()
            }
        );
    }
    // Order is per directory.
    let inner = directory(&[entry(b"z", &file(b""))]).split_off(24);
    let nar = directory(&[entry(b"a", &inner), entry(b"b", &inner)]);
    read(&nar, 1000, NarLimits::default()).unwrap();
}

#[test]
fn targets() {
    for bad in [&b""[..], b"\0", b"a\0b"] {
        let error = problem(&nar(&tokens(&[
            b"(".as_slice(),
            b"type",
            b"symlink",
            b"target",
            bad,
            b")",
        ])));
        assert_eq!(error.problem, Problem::Target(bad.to_vec()));
    }
    let longest = Tree::Symlink(vec![b'x'; 4095]).nar();
    read(&longest, 1000, NarLimits::default()).unwrap();
    let long = problem(&Tree::Symlink(vec![b'x'; 4096]).nar());
    assert!(
        matches!(long.problem, Problem::Length { limit: 4095, .. }),
        "{long}"
    );
}

#[test]
fn padding() {
    for at in 1..8 {
        let mut bad = nar(&file(b"x"));
        let contents = bad.len() - 16 - 8;
        bad[contents + at] = 1;
        let error = problem(&bad);
        assert_eq!(error.problem, Problem::Padding);
    }
    let mut bad = nar(&file(b"x"));
    bad[8 + 13] = 1;
    assert_eq!(problem(&bad).problem, Problem::Padding);
    assert_eq!(problem(&bad).offset, 0);
}

#[test]
fn lengths_beyond_anything() {
    for length in [1 << 63, u64::MAX, u64::MAX - 7, (1 << 63) - 1, 1 << 41] {
        // As the size of a file.
        let mut bad = nar(&tokens(&["(", "type", "regular", "contents"]));
        bad.extend_from_slice(&length.to_le_bytes());
        bad.extend_from_slice(&[0; 64]);
        assert!(matches!(problem(&bad).problem, Problem::TotalBytes(_)));
        // As the length of every token of an archive.
        let good = directory(&[entry(b"name", &file(b"data"))]);
        let mut at = 0;
        while at < good.len() {
            let word = u64::from_le_bytes(good[at..at + 8].try_into().unwrap());
            let mut bad = good[..at].to_vec();
            bad.extend_from_slice(&length.to_le_bytes());
            assert!(
                matches!(
                    problem(&bad).problem,
                    Problem::Length { .. } | Problem::TotalBytes(_)
                ),
                "at {at}"
            );
            at += 8 + word.next_multiple_of(8) as usize;
        }
    }
}

#[test]
fn wrong_tokens() {
    let cases: &[(&[&str], u64)] = &[
        (&["nix-archive-2"], 0),
        (&[""], 0),
        (&["nix-archive-1", ")"], 24),
        (&["nix-archive-1", "(", ")"], 40),
        (&["nix-archive-1", "(", "type", "fifo"], 56),
        (&["nix-archive-1", "(", "type", "Regular"], 56),
        (&["nix-archive-1", "(", "type", "regular", ")"], 72),
        (&["nix-archive-1", "(", "type", "regular", "target"], 72),
        (&["nix-archive-1", "(", "type", "regular", "executable", "x"], 96),
        (
            &[
                "nix-archive-1",
                "(",
                "type",
                "regular",
                "executable",
                "",
                "executable",
            ],
            104,
        ),
        (
            &[
                "nix-archive-1",
                "(",
                "type",
                "regular",
                "contents",
                "",
                "executable",
            ],
            96,
        ),
        (&["nix-archive-1", "(", "type", "symlink", "contents"], 72),
        (
            &["nix-archive-1", "(", "type", "symlink", "target", "x", "target"],
            104,
        ),
        (&["nix-archive-1", "(", "type", "directory", "("], 80),
        (&["nix-archive-1", "(", "type", "directory", "entry", "name"], 96),
        (
            &["nix-archive-1", "(", "type", "directory", "entry", "(", "node"],
            112,
        ),
        (
            &[
                "nix-archive-1",
                "(",
                "type",
                "directory",
                "entry",
                "(",
                "name",
                "x",
                ")",
            ],
            144,
        ),
    ];
    for (texts, offset) in cases {
        let error = problem(&tokens(texts));
        assert!(
            matches!(error.problem, Problem::Token { .. }),
            "{texts:?}: {error}"
        );
        assert_eq!(error.offset, *offset, "{texts:?}");
    }
}

#[test]
fn the_place_is_named() {
    let inner = directory(&[entry(b"bad", &tokens(&["(", "type", "socket"]))]).split_off(24);
    let error = problem(&directory(&[entry(b"dir", &inner)]));
    assert_eq!(error.path, b"dir/bad");
    assert_eq!(
        error.to_string(),
        format!(
            "bad NAR at byte {} in 'dir/bad': expected 'regular', 'symlink' or 'directory', found 'socket'",
            error.offset
        )
    );
}
