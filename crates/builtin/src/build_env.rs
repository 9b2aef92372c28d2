//! `builtin:buildenv`: a tree of links to what several packages have, as profiles are.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::{self, FileType};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::error::OfFile as _;
use crate::{BuiltinError, Call};

/// Of packages that others bring along: below all that were asked for.
const PROPAGATED: i64 = 1000;

/// Packages that bring others along name them here.
const PROPAGATES: &str = "nix-support/propagated-user-env-packages";

/// Names that have no place in a profile, by the end of their path.
const LEFT_OUT: [&str; 7] = [
    "/propagated-build-inputs",
    "/nix-support",
    "/perllocal.pod",
    "/info/dir",
    "/log",
    "/manifest.nix",
    "/manifest.json",
];

/// One path of one package.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    priority: i64,
    path: PathBuf,
}

pub(crate) fn build_env(call: &Call<'_>) -> Result<(), BuiltinError> {
    let out = call.path("out")?;
    let packages = packages(call.get("derivations")?)?;
    let manifest = call.path("manifest")?;
    fs::create_dir_all(&out).of_file("creating", &out)?;
    profile(&out, packages)?;
    let link = out.join("manifest.nix");
    symlink(manifest, &link).of_file("creating", &link)
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| b" \t\n\r".contains(byte))
        .filter(|word| !word.is_empty())
}

/// For each package: whether it is active, its priority, the number of its paths, and they.
fn packages(text: &[u8]) -> Result<Vec<Package>, BuiltinError> {
    let invalid = |why: &str| BuiltinError::Invalid {
        name: "derivations",
        why: why.to_owned(),
    };
    let mut words = words(text);
    let mut packages = Vec::new();
    while let Some(active) = words.next() {
        let mut number = || -> Option<i64> { std::str::from_utf8(words.next()?).ok()?.parse().ok() };
        let priority = number().ok_or_else(|| invalid("no priority where one should be"))?;
        let paths = number().ok_or_else(|| invalid("no number of paths where one should be"))?;
        for _ in 0..paths {
            let path = words.next().ok_or_else(|| invalid("it ends too early"))?;
            if active != b"false" {
                packages.push(Package {
                    priority,
                    path: OsStr::from_bytes(path).into(),
                });
            }
        }
    }
    packages.sort();
    Ok(packages)
}

fn profile(out: &Path, packages: Vec<Package>) -> Result<(), BuiltinError> {
    let mut links = Links::default();
    let mut done = BTreeSet::new();
    let mut postponed = BTreeSet::new();
    let mut add = |path: PathBuf, priority, postponed: &mut BTreeSet<PathBuf>| {
        if !done.insert(path.clone()) {
            return Ok(());
        }
        links.merge(&path, out, priority)?;
        let file = path.join(PROPAGATES);
        match fs::read(&file) {
            Ok(names) => {
                let names = names
                    .split(|byte| b" \n".contains(byte))
                    .filter(|name| !name.is_empty());
                postponed.extend(names.map(|name| PathBuf::from(OsStr::from_bytes(name))));
                Ok(())
            }
            Err(error) if absent(&error) => Ok(()),
            Err(error) => Err(error).of_file("reading", &file),
        }
    };
    for Package { priority, path } in packages {
        add(path, priority, &mut postponed)?;
    }
    let mut priority = PROPAGATED;
    while !postponed.is_empty() {
        for path in std::mem::take(&mut postponed) {
            add(path, priority, &mut postponed)?;
            priority += 1;
        }
    }
    Ok(())
}

fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The links made so far, with the priority of whom each is of.
#[derive(Default)]
struct Links {
    priorities: HashMap<PathBuf, i64>,
}

fn kind(path: &Path) -> Result<Option<FileType>, BuiltinError> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta.file_type())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).of_file("getting status of", path),
    }
}

fn make_dir(path: &Path) -> Result<(), BuiltinError> {
    fs::create_dir(path).of_file("creating", path)
}

impl Links {
    /// Everything of a directory of a package into one of the profile.
    fn merge(&mut self, from: &Path, to: &Path, priority: i64) -> Result<(), BuiltinError> {
        let entries = match fs::read_dir(from) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                eprintln!(
                    "warning: not including '{}' in the user environment because it's not a directory",
                    from.display()
                );
                return Ok(());
            }
            Err(error) => return Err(error).of_file("opening directory", from),
        };
        let mut names = entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()
            .of_file("reading directory", from)?;
        // What comes out does not depend on it; what is said of a collision does.
        names.sort();
        for name in names.iter().filter(|name| !name.as_bytes().starts_with(b".")) {
            self.entry(&from.join(name), &to.join(name), priority)?;
        }
        Ok(())
    }

    fn entry(&mut self, from: &Path, to: &Path, priority: i64) -> Result<(), BuiltinError> {
        let is_dir = match fs::metadata(from) {
            Ok(meta) => meta.is_dir(),
            Err(error) if absent(&error) => {
                eprintln!("warning: skipping dangling symlink '{}'", to.display());
                return Ok(());
            }
            Err(error) => return Err(error).of_file("getting status of", from),
        };
        let bytes = from.as_os_str().as_bytes();
        if LEFT_OUT.iter().any(|end| bytes.ends_with(end.as_bytes())) {
            return Ok(());
        }
        let there = kind(to)?;
        match there {
            Some(there) if is_dir && there.is_dir() => return self.merge(from, to, priority),
            Some(there) if is_dir && there.is_symlink() => return self.split(from, to, priority),
            Some(there) if !is_dir && there.is_symlink() => {
                let before = self.priorities.get(to).copied().unwrap_or_default();
                if before == priority {
                    let other = fs::read_link(to).of_file("reading symbolic link", to)?;
                    return Err(BuiltinError::Refused(format!(
                        "files '{}' and '{}' have the same priority {priority}; use 'nix-env --set-flag priority NUMBER \
                         INSTALLED_PKGNAME' to change the priority of one of the conflicting packages (0 being the highest priority)",
                        from.display(),
                        other.display()
                    )));
                }
                if before < priority {
                    return Ok(());
                }
                fs::remove_file(to).of_file("unlinking", to)?;
            }
            Some(there) if !is_dir && there.is_dir() => {
                return Err(BuiltinError::Refused(format!(
                    "collision between non-directory '{}' and directory '{}'",
                    from.display(),
                    to.display()
                )));
            }
            _ => {}
        }
        symlink(from, to).of_file("creating symbolic link", to)?;
        self.priorities.insert(to.to_owned(), priority);
        Ok(())
    }

    /// A directory of a second package where there is a link to that of a first: a directory with what both have.
    fn split(&mut self, from: &Path, to: &Path, priority: i64) -> Result<(), BuiltinError> {
        let target = fs::canonicalize(to).of_file("canonicalising", to)?;
        if !target.is_dir() {
            return Err(BuiltinError::Refused(format!(
                "collision between '{}' and non-directory '{}'",
                from.display(),
                target.display()
            )));
        }
        fs::remove_file(to).of_file("unlinking", to)?;
        make_dir(to)?;
        let before = self.priorities.get(to).copied().unwrap_or_default();
        self.merge(&target, to, before)?;
        self.merge(from, to, priority)
    }
}
