//! Outputs that a collector might stumble over.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink as link};
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::out;
use crate::{host, raw};

const HERE: usize = libc::AT_FDCWD as usize;

fn dir() -> String {
    let out = out();
    fs::create_dir(&out).expect("mkdir");
    out
}

fn node(path: &str, mode: u32) {
    raw::call(libc::SYS_mknodat, &[HERE, raw::text(path), mode as usize, 0]).expect("mknod");
}

pub(super) fn sparse() {
    let file = fs::File::create(out()).expect("create");
    // A small file system has small blocks, and so smaller files.
    let large = [8_000_000_000_000, 4_000_000_000_000].into_iter();
    let made = large.map(|size| file.set_len(size)).find(Result::is_ok);
    made.expect("a size").expect("ftruncate");
}

pub(super) fn whiteout() {
    // An overlay knows what it means, and does not let it be made; perhaps it lets it be moved there.
    let out = dir();
    node("/build/whiteout", libc::S_IFCHR);
    if fs::rename("/build/whiteout", format!("{out}/x")).is_err() {
        node(&format!("{out}/x"), libc::S_IFCHR);
    }
}

pub(super) fn fifo() {
    node(&format!("{}/x", dir()), libc::S_IFIFO | 0o644);
}

pub(super) fn socket() {
    let out = dir();
    // The name of a socket is short.
    std::env::set_current_dir(out).expect("chdir");
    drop(UnixListener::bind("x").expect("bind"));
}

/// What the calls make of it does not matter here: no such bit may come through.
pub(super) fn set_id() {
    let out = dir();
    for (name, bits) in [("a", 0o4755), ("b", 0o2755), ("c", 0o6777)] {
        let path = format!("{out}/{name}");
        let flags = (libc::O_CREAT | libc::O_WRONLY) as usize;
        if raw::call(libc::SYS_openat, &[HERE, raw::text(&path), flags, bits]).is_err() {
            fs::write(&path, "x").expect("write");
        }
        let _ = raw::call(libc::SYS_fchmodat, &[HERE, raw::text(&path), bits]);
        let _ = raw::call(452, &[HERE, raw::text(&path), bits, 0]);
    }
}

pub(super) fn writable() {
    fs::write(out(), "x").expect("write");
    fs::set_permissions(out(), Permissions::from_mode(0o666)).expect("chmod");
}

pub(super) fn symlink() {
    link("/etc/shadow", out()).expect("symlink");
}

pub(super) fn symlinks_inside() {
    let out = dir();
    let host = host::var(host::FILE);
    for (name, to) in [
        ("absolute", host.as_str()),
        ("above", &format!("../../../../../../../..{host}")),
        ("directory", "/etc"),
        ("process", "/proc/self/root"),
        ("itself", "itself"),
        ("dangling", "/nowhere"),
    ] {
        link(to, format!("{out}/{name}")).expect("symlink");
    }
}

/// CVE-2026-39860: a collector that writes its copy to a place where the builder could put a link.
pub(super) fn symlinks_beside() {
    let out = out();
    fs::write(&out, "x").expect("write");
    let host = host::var(host::FILE);
    let base = out.rsplit('/').next().unwrap_or_default();
    for name in [
        format!("{out}.tmp"),
        format!("{out}-tmp"),
        format!("{out}.new"),
        format!("{out}.lock"),
        format!("{out}.chroot"),
        format!("{out}~"),
        format!("/nix/store/.{base}"),
        format!("/nix/store/.tmp-{base}"),
        format!("/nix/store/tmp-{base}"),
        "/nix/store/.links".to_owned(),
        "/nix/store/tmp".to_owned(),
        "/nix/store/.tmp".to_owned(),
    ] {
        link(&host, name).expect("symlink");
    }
}

/// Store paths that nobody asked for, one of them under the name of an input's neighbour.
pub(super) fn beside() {
    let out = out();
    fs::write(&out, "x").expect("write");
    fs::write(format!("{out}-more"), "y").expect("write");
    fs::create_dir_all("/nix/store/00000000000000000000000000000007-other/bin").expect("mkdir");
    fs::write("/nix/store/00000000000000000000000000000007-other/bin/sh", "evil").expect("write");
    fs::write("/nix/store/00000000000000000000000000000008-other.drv", "Derive(").expect("write");
}

fn make_deep(at: &str, levels: u32) {
    let before = std::env::current_dir().expect("cwd");
    std::env::set_current_dir(at).expect("chdir");
    let name = raw::text("d");
    for _ in 0..levels {
        raw::call(libc::SYS_mkdirat, &[HERE, name, 0o755]).expect("mkdir");
        raw::call(libc::SYS_chdir, &[name]).expect("chdir");
    }
    let _ = std::env::set_current_dir(before);
}

pub(super) fn deep() {
    make_deep(&dir(), 300);
}

pub(super) fn deep_scratch() {
    make_deep("/build", 3000);
    make_deep("/tmp", 300);
    fs::write(out(), "x").expect("write");
}

/// CVE-2025-46415: whoever removes what a build leaves must not go where links lead.
pub(super) fn links_in_scratch() {
    let host = host::var(host::FILE);
    let dir = Path::new(&host).parent().expect("a directory");
    for place in ["/build", "/tmp"] {
        link(dir, format!("{place}/directory")).expect("symlink");
        link(&host, format!("{place}/file")).expect("symlink");
        fs::create_dir_all(format!("{place}/deeper/still")).expect("mkdir");
        link(dir, format!("{place}/deeper/still/directory")).expect("symlink");
    }
    // A failure must clear up as well as success.
    std::process::exit(3);
}

pub(super) fn names() {
    let out = dir();
    for name in [
        &b"line\nend"[..],
        b"\xff\xfe\x80",
        b" ",
        b"...",
        b"-rf",
        b"\x1b[2J",
        b"a~nix~case~hack~1",
        b"A~nix~case~hack~1",
        &[b'n'; 255],
    ] {
        fs::write(Path::new(&out).join(OsStr::from_bytes(name)), name).expect("write");
    }
}

pub(super) fn locked() {
    let out = dir();
    fs::create_dir(format!("{out}/dir")).expect("mkdir");
    for name in ["dir/file", "file"] {
        fs::write(format!("{out}/{name}"), name).expect("write");
        fs::set_permissions(format!("{out}/{name}"), Permissions::from_mode(0o000)).expect("chmod");
    }
    for name in ["dir", ""] {
        fs::set_permissions(format!("{out}/{name}"), Permissions::from_mode(0o000)).expect("chmod");
    }
    fs::create_dir_all("/build/locked/dir").expect("mkdir");
    fs::set_permissions("/build/locked", Permissions::from_mode(0o000)).expect("chmod");
}

pub(super) fn links() {
    let out = dir();
    fs::write(format!("{out}/0"), "x".repeat(1000)).expect("write");
    for number in 1..300 {
        fs::hard_link(format!("{out}/0"), format!("{out}/{number}")).expect("link");
    }
}

pub(super) fn crowd() {
    let out = dir();
    for number in 0..2000 {
        fs::write(format!("{out}/{number}"), "").expect("write");
    }
}

pub(super) fn link_input() {
    fs::hard_link(host::data(), out()).expect("link");
}
