//! Archives that are none.

use firn_protocol::wire::Encoder;
use firn_protocol::worker::Request;

use super::{is_well, says, server};
use crate::raw::{Object, Raw, file, nar, object};

const OPEN: [&[u8]; 4] = [b"nix-archive-1", b"(", b"type", b"directory"];

/// A directory with empty files of these names, in this order.
fn directory(names: &[&[u8]]) -> Vec<u8> {
    let mut tokens = OPEN.to_vec();
    for name in names {
        let entry: [&[u8]; 11] = [
            b"entry",
            b"(",
            b"name",
            name,
            b"node",
            b"(",
            b"type",
            b"regular",
            b"contents",
            b"",
            b")",
        ];
        tokens.extend(entry);
        tokens.push(b")");
    }
    tokens.push(b")");
    nar(&tokens)
}

/// `depth` directories, one in the other.
fn nested(depth: usize) -> Vec<u8> {
    let mut tokens: Vec<&[u8]> = vec![b"nix-archive-1"];
    let inner: [&[u8]; 8] = [
        b"(",
        b"type",
        b"directory",
        b"entry",
        b"(",
        b"name",
        b"d",
        b"node",
    ];
    for _ in 1..depth {
        tokens.extend(inner);
    }
    tokens.extend([&b"("[..], b"type", b"directory", b")"]);
    for _ in 1..depth {
        tokens.extend([&b")"[..], b")"]);
    }
    nar(&tokens)
}

fn link(target: &[u8]) -> Vec<u8> {
    nar(&[
        b"nix-archive-1",
        b"(",
        b"type",
        b"symlink",
        b"target",
        target,
        b")",
    ])
}

/// Every archive with what its refusal says.
fn bad() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = file(b"twelve bytes");
    let mut padded = good.clone();
    let at = padded.windows(12).position(|w| w == b"twelve bytes").unwrap();
    padded[at + 12] = b'!';
    let mut endless = Encoder::default();
    for token in ["nix-archive-1", "(", "type", "regular", "contents"] {
        endless.text(token);
    }
    endless.u64(1 << 63).raw(b"some");
    vec![
        ("empty", Vec::new(), "size mismatch: expected 0 bytes"),
        ("truncated", good[..good.len() - 16].to_vec(), "size mismatch"),
        ("followed", [&good[..], b"12345678"].concat(), "size mismatch"),
        ("unsorted", directory(&[b"b", b"a"]), "entry 'a' after 'b'"),
        ("duplicate", directory(&[b"a", b"a"]), "entry 'a' after 'a'"),
        ("parent", directory(&[b".."]), "'..' cannot be a file name"),
        ("self", directory(&[b"."]), "'.' cannot be a file name"),
        ("slash", directory(&[b"a/b"]), "'a/b' cannot be a file name"),
        ("absolute", directory(&[b"/etc"]), "'/etc' cannot be a file name"),
        ("nul", directory(&[b"a\0b"]), r"'a\0b' cannot be a file name"),
        ("nameless", directory(&[b""]), "'' cannot be a file name"),
        ("long-name", directory(&[&[b'n'; 256]]), "256 bytes (at most 255)"),
        ("padding", padded, "padding is not zero"),
        ("deep", nested(257), "nested deeper than 256"),
        ("deeper", nested(10_000), "nested deeper than 256"),
        ("no-target", link(b""), "cannot be the target of a symbolic link"),
        ("long-target", link(&[b't'; 4096]), "4096 bytes (at most 4095)"),
        ("endless", endless.as_bytes().to_vec(), "larger than"),
        ("garbage", vec![0x5a; 4096], "bad NAR at byte 0"),
        (
            "executable-link",
            nar(&[
                b"nix-archive-1",
                b"(",
                b"type",
                b"symlink",
                b"executable",
                b"",
                b")",
            ]),
            "found 'executable'",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_archive_is_refused_by_name_and_the_connection_goes_on() {
    let Some(server) = server("", &["mallory"]) else {
        return;
    };
    let mut raw = Raw::open(&server, "mallory").await;
    for (name, nar, why) in bad() {
        let object = object(name, nar);
        let path = &object.info.path;
        let text = raw.upload(&object).await.expect_err(name);
        says(&text, &[&path.to_string(), why]);
        assert!(!raw.is_valid(path).await, "{name}");

        // The same between two good ones: none of the three comes in.
        let (before, after) = (
            crate::raw::object(&format!("before-{name}"), file(b"before")),
            crate::raw::object(&format!("after-{name}"), file(b"after")),
        );
        let mut body = Encoder::default();
        body.u64(3);
        for object in [&before, &object, &after] {
            body.path_info(&object.info).raw(&object.nar);
        }
        raw.request(&Request::AddMultipleToStore).await.unwrap();
        raw.body(body.as_bytes()).await.unwrap();
        says(&raw.refused().await, &[&path.to_string(), why]);
        for object in [&before, &object, &after] {
            assert!(!raw.is_valid(&object.info.path).await, "{name}");
        }
    }
    let deepest = object("deepest", nested(256));
    raw.upload(&deepest).await.unwrap();
    assert_eq!(raw.download(&deepest.info.path).await.unwrap(), deepest.nar);
    is_well(&server, "mallory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_than_announced_are_refused() {
    let Some(server) = server("[upload]\nmax-nar-size = 100000\n", &["mallory"]) else {
        return;
    };
    let mut raw = Raw::open(&server, "mallory").await;
    let good = object("announced", file(b"these bytes"));
    let path = good.info.path.to_string();
    let with = |change: fn(&mut Object)| {
        let mut object = good.clone();
        change(&mut object);
        object
    };
    let cases = [
        (
            with(|o| o.info.nar_hash = crate::raw::content(b"others")),
            "hash mismatch",
        ),
        (with(|o| o.info.nar_size += 8), "ended after"),
        (with(|o| o.info.nar_size = 120), ""),
        (with(|o| o.info.nar_size = 0), ""),
        (
            with(|o| o.info.nar_size = 1 << 63),
            "the largest that is taken here has 100000",
        ),
        (
            with(|o| o.info.nar_size = 100_001),
            "the largest that is taken here has 100000",
        ),
    ];
    for (object, why) in cases {
        let text = raw.upload(&object).await.unwrap_err();
        // Of bytes that go on after their announced end, it is a matter of time which half is noticed first.
        if why.is_empty() {
            assert!(
                text.contains("size mismatch") || text.contains("bytes after the last archive"),
                "{text}"
            );
        } else {
            says(&text, &[&path, why]);
        }
        assert!(!raw.is_valid(&good.info.path).await, "{why}");
    }
    let text = raw
        .upload(&object("too-large", file(&[b'x'; 100_000])))
        .await
        .unwrap_err();
    says(
        &text,
        &["-too-large'", "the largest that is taken here has 100000"],
    );
    raw.upload(&good).await.unwrap();
    assert!(raw.is_valid(&good.info.path).await);
    is_well(&server, "mallory").await;
}
