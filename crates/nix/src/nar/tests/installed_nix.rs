//! The installed Nix dumps what it restored from our archives, byte for byte.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::Tree;

fn nix_store() -> Option<Command> {
    let works = Command::new("nix-store")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !works {
        println!("skipped: no nix-store on the PATH");
    }
    works.then(|| Command::new("nix-store"))
}

fn trees() -> Vec<Tree> {
    let file = |n: usize| Tree::Regular(n.is_multiple_of(2), (0..n).map(|i| (i * 7) as u8).collect());
    let names = |names: &[&[u8]]| {
        Tree::Directory(
            names
                .iter()
                .enumerate()
                .map(|(i, name)| (name.to_vec(), file(i)))
                .collect(),
        )
    };
    let odd = names(&[
        b"a",
        b"B",
        b"a.b",
        b"a-b",
        b"\xff\xfe",
        b"new\nline",
        b" ",
        b"...",
        b"~",
        b"a\x01",
    ]);
    let nested = (0..40).fold(file(3), |tree, n| {
        Tree::Directory(
            [
                (vec![b'd'; 3], tree),
                (b"link".to_vec(), Tree::Symlink(format!("../{n}").into())),
                (b"empty".to_vec(), Tree::Directory(Default::default())),
            ]
            .into(),
        )
    });
    vec![
        file(0),
        file(1),
        file(8),
        file(70_001),
        Tree::Symlink(b"/nix/store/\xff".to_vec()),
        Tree::Directory(Default::default()),
        odd,
        nested,
    ]
}

#[test]
fn dump_of_restored_is_the_same() {
    if nix_store().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (i, tree) in trees().into_iter().enumerate() {
        let nar = tree.nar();
        let path = dir.path().join(i.to_string());
        let mut restore = Command::new("nix-store")
            .arg("--restore")
            .arg(&path)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        restore.stdin.take().unwrap().write_all(&nar).unwrap();
        assert!(restore.wait().unwrap().success(), "tree {i}");
        let dump = Command::new("nix-store")
            .arg("--dump")
            .arg(&path)
            .stderr(Stdio::null())
            .output()
            .unwrap();
        assert!(dump.status.success());
        assert!(dump.stdout == nar, "tree {i} differs");
    }
}
