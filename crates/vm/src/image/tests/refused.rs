//! What does not become an image, and what is said about it.

use std::fs;
use std::path::Path;

use firn_content::{WalkLimits, WalkProblem};

use super::{Made, Source};
use crate::image::{Entry, ImageError, Plan};

fn plan(source: &Source, limits: WalkLimits) -> Result<Plan<'_>, ImageError> {
    let entries = source.entries();
    Plan::new(&entries, limits)
}

/// Changes a tree between the two looks at it, and returns what is said about which place.
#[track_caller]
fn changed(made: &Made, change: impl FnOnce(&Path)) -> (String, WalkProblem) {
    let source = Source::one(made);
    let root = source.names[0].1.clone();
    let plan = plan(&source, WalkLimits::default()).unwrap();
    change(&root);
    match plan.write(&tempfile::tempfile().unwrap()) {
        Err(ImageError::Tree { path, problem }) => {
            let place = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            (place, problem)
        }
        other => panic!("{other:?}"),
    }
}

fn nested() -> Made {
    Made::directory([("dir", Made::directory([("file", Made::file(100_000))]))])
}

#[test]
fn changes_between_the_two_looks() {
    let in_file = ("dir/file".to_owned(), WalkProblem::Changed);
    let file = |root: &Path| root.join("dir/file");
    assert_eq!(
        changed(&nested(), |root| fs::write(file(root), "short").unwrap()),
        in_file
    );
    assert_eq!(
        changed(&nested(), |root| fs::write(file(root), vec![0; 100_001]).unwrap()),
        in_file
    );
    assert_eq!(
        changed(&nested(), |root| fs::remove_file(file(root)).unwrap()),
        in_file
    );
    assert_eq!(
        changed(&nested(), |root| {
            fs::remove_file(file(root)).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", file(root)).unwrap();
        }),
        in_file
    );
    assert_eq!(
        changed(&nested(), |root| {
            fs::remove_file(file(root)).unwrap();
            rustix::fs::mkfifoat(rustix::fs::CWD, file(root), rustix::fs::Mode::RWXU).unwrap();
        }),
        in_file
    );
    assert_eq!(
        changed(&nested(), |root| {
            fs::remove_dir_all(root.join("dir")).unwrap();
            fs::write(root.join("dir"), "").unwrap();
        }),
        ("dir".to_owned(), WalkProblem::Changed)
    );
}

#[test]
fn special_files() {
    let source = Source::one(&nested());
    let fifo = source.names[0].1.join("dir/pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let error = plan(&source, WalkLimits::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}: a named pipe cannot be stored", fifo.display())
    );
}

#[test]
fn missing_trees() {
    let entry = Entry {
        name: b"a",
        path: Path::new("/no/such/tree"),
    };
    let error = Plan::new(&[entry], WalkLimits::default()).unwrap_err();
    assert!(error.to_string().starts_with("/no/such/tree: "), "{error}");
}

#[test]
fn names() {
    let path = Path::new("/dev/null");
    let refused = |names: &[&[u8]]| {
        let entries: Vec<Entry<'_>> = names.iter().map(|name| Entry { name, path }).collect();
        Plan::new(&entries, WalkLimits::default()).unwrap_err()
    };
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'a'; 256]] {
        let error = refused(&[name]);
        assert!(
            matches!(&error, ImageError::Name(wrong) if wrong == name),
            "{error}"
        );
    }
    let error = refused(&[b"b", b"a", b"b"]);
    assert!(
        matches!(&error, ImageError::Twice(name) if name == b"b"),
        "{error}"
    );
}

#[test]
fn limits_hold_for_all_trees_together() {
    let tree = nested();
    let source = Source::new([(&b"a"[..], &tree), (b"b", &tree)]);
    let exact = WalkLimits {
        depth: 3,
        entries: 6,
        bytes: 200_000,
    };
    plan(&source, exact).unwrap();
    let problem = |limits| match plan(&source, limits) {
        Err(ImageError::Tree { path, problem }) => (path.to_str().unwrap().len() > 1, problem),
        other => panic!("{other:?}"),
    };
    let less = WalkLimits { depth: 2, ..exact };
    assert_eq!(problem(less), (true, WalkProblem::Depth(2)));
    let less = WalkLimits { entries: 5, ..exact };
    assert_eq!(problem(less), (true, WalkProblem::Entries(5)));
    let less = WalkLimits {
        bytes: 199_999,
        ..exact
    };
    assert_eq!(problem(less), (true, WalkProblem::Bytes(199_999)));
}
