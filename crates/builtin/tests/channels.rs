//! Archives that want to be somewhere else.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use firn_builtin::{BuiltinError, Call, run};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

/// Kind, name, contents or target.
type Entry = (EntryType, &'static str, &'static str);

fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, text) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        // As it is: the library would refuse some.
        let field = &mut header.as_old_mut().name;
        field
            .get_mut(..name.len())
            .unwrap()
            .copy_from_slice(name.as_bytes());
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        let body = if is_link { "" } else { text };
        if is_link {
            let field = &mut header.as_old_mut().linkname;
            field
                .get_mut(..text.len())
                .unwrap()
                .copy_from_slice(text.as_bytes());
        }
        header.set_size(body.len() as u64);
        header.set_cksum();
        builder.append(&header, body.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn unpack(dir: &Path, bytes: &[u8]) -> Result<(), BuiltinError> {
    let src = dir.join("archive");
    fs::write(&src, bytes).unwrap();
    let variable = |name: &str, value: &[u8]| (name.as_bytes().to_vec(), value.to_vec());
    let attributes = [
        variable("out", dir.join("out").as_os_str().as_bytes()),
        variable("src", src.as_os_str().as_bytes()),
        variable("channelName", b"channel"),
    ];
    run(&Call {
        name: b"builtin:unpack-channel",
        attributes: &attributes,
        variables: &[],
    })
}

fn refused(entries: &[Entry], why: &str) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    let error = unpack(dir.path(), &archive(entries)).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
    untouched(&dir);
}

fn untouched(dir: &TempDir) {
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["archive", "out", "outside"]);
    assert!(fs::read_dir(dir.path().join("outside")).unwrap().next().is_none());
}

#[test]
fn nothing_is_made_outside() {
    use EntryType::{Directory, Link, Regular, Symlink};
    refused(&[(Regular, "../file", "x")], "leads out");
    refused(&[(Regular, "top/../../file", "x")], "leads out");
    refused(&[(Regular, "/tmp/file", "x")], "leads out");
    refused(
        &[(Symlink, "top", "../outside"), (Regular, "top/file", "x")],
        "no directory",
    );
    refused(
        &[(Symlink, "top", "../outside"), (Directory, "top", "")],
        "no directory",
    );
    refused(&[(Link, "top", "../archive")], "leads out");
    refused(&[(Symlink, "a", ".."), (Link, "b", "a/archive")], "no directory");
    refused(&[(EntryType::Fifo, "top", "")], "neither a file");
    refused(&[(EntryType::Char, "top", "")], "neither a file");
    refused(&[], "no tar archive");
}

#[test]
fn a_link_is_replaced_and_never_followed() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    let bytes = archive(&[
        (EntryType::Directory, "top", ""),
        (EntryType::Symlink, "top/file", "../../outside/file"),
        (EntryType::Regular, "top/file", "text"),
        (EntryType::Link, "top/copy", "top/file"),
    ]);
    unpack(dir.path(), &bytes).unwrap();
    for name in ["file", "copy"] {
        assert_eq!(
            fs::read(dir.path().join("out/channel").join(name)).unwrap(),
            b"text"
        );
    }
    untouched(&dir);
}

#[test]
fn noise_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for noise in [
        &b"no archive"[..],
        &[0x1f, 0x8b, 0, 0],
        b"BZh9no",
        b"\xfd7zXZ\0no",
        &[0x28, 0xb5, 0x2f, 0xfd, 0],
    ] {
        unpack(dir.path(), noise).unwrap_err();
    }
}
