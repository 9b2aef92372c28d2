//! Others that read an image.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use firn_content::{WalkLimits, WalkPolicy, walk};
use firn_nix::nar::NarWriter;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

/// Has an image read by everybody who can, and compares what they find with the trees it was made from.
pub(super) fn check(image: &Path, names: &[(Vec<u8>, PathBuf)]) {
    extract(image, names);
    if let Some(mount) = mount(image) {
        // The last component is there so that the magic link is followed.
        let root = PathBuf::from(format!("/proc/self/fd/{}/.", mount.as_raw_fd()));
        compare(&root, names);
        attributes(&root);
    }
}

fn extract(image: &Path, names: &[(Vec<u8>, PathBuf)]) {
    let to = image.with_extension("extracted");
    let mut option = std::ffi::OsString::from("--extract=");
    option.push(&to);
    let output = Command::new("fsck.erofs").arg(option).arg(image).output();
    let output = match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            eprintln!("skipped: no fsck.erofs (package erofs-utils) here");
            return;
        }
        output => output.unwrap(),
    };
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", said.escape_ascii());
    compare(&to, names);
    // As an ordinary user, nothing can be removed from a read-only directory.
    make_writable(&to);
    fs::remove_dir_all(to).unwrap();
}

fn make_writable(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            make_writable(&entry.path());
        }
    }
}

/// The image as a file system that is mounted nowhere and gone with the descriptor.
pub(super) fn mount(image: &Path) -> Option<OwnedFd> {
    let opened = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC);
    if let Err(errno @ (Errno::PERM | Errno::NODEV | Errno::NOSYS)) = opened {
        eprintln!("skipped: cannot mount EROFS here: {errno}");
        return None;
    }
    let context = opened.unwrap();
    fsconfig_set_string(&context, "source", image).unwrap();
    match fsconfig_create(&context) {
        Err(Errno::NOTBLK) => {
            eprintln!("skipped: this kernel does not mount EROFS from files");
            return None;
        }
        created => created.unwrap(),
    }
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    Some(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).unwrap())
}

fn compare(root: &Path, names: &[(Vec<u8>, PathBuf)]) {
    let mut expected: Vec<&[u8]> = names.iter().map(|(name, _)| name.as_slice()).collect();
    expected.sort();
    let mut found: Vec<Vec<u8>> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
        .collect();
    found.sort();
    assert_eq!(found, expected);
    for (name, source) in names {
        let there = root.join(OsStr::from_bytes(name));
        assert!(nar(&there) == nar(source), "{} differs", name.escape_ascii());
    }
}

fn nar(path: &Path) -> Vec<u8> {
    let mut writer = NarWriter::new(Vec::new());
    walk(path, WalkPolicy::Own, WalkLimits::default(), &mut writer).unwrap();
    writer.into_inner()
}

/// Owners, modes, times, link counts, and that every name can be looked up.
fn attributes(path: &Path) {
    let stat = path.symlink_metadata().unwrap();
    assert_eq!((stat.uid(), stat.gid()), (0, 0));
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (1, 0));
    let kind = stat.file_type();
    let mode = stat.mode() & 0o7777;
    if !kind.is_dir() {
        assert_eq!(stat.nlink(), 1);
        if kind.is_symlink() {
            assert_eq!(mode, 0o777);
        } else {
            assert!(mode == 0o444 || mode == 0o555, "{mode:o}");
        }
        return;
    }
    assert_eq!(mode, 0o555);
    let mut subdirectories = 0;
    let mut last = None;
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        // In the order of the entries in the image, which is that of the names.
        assert!(last < Some(entry.file_name()));
        let kind = entry.file_type().unwrap();
        let there = path.join(entry.file_name());
        assert_eq!(there.symlink_metadata().unwrap().file_type(), kind);
        subdirectories += u64::from(kind.is_dir());
        attributes(&there);
        last = Some(entry.file_name());
    }
    assert_eq!(stat.nlink(), 2 + subdirectories);
    assert!(!path.join("no such file").exists());
}
