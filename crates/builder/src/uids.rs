//! Host users for the builds of this service: a range that no other service on this host has at the same time.
//!
//! A range is a file in a directory of the host, locked as long as the service lives. What a killed service leaves is a file without a
//! lock, and perhaps processes that are about to end; their users are nobody's until they have.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::slots::DEFAULT_FIRST_UID;

/// Where the services of a host meet.
pub(crate) const PLACE: &str = "/run/firn";
const NAME: &str = "uids";
/// How long processes of a service that has ended may take to end.
const DEATH: Duration = Duration::from_secs(10);

/// A range that is this service's, until it is dropped.
#[derive(Debug)]
pub(crate) struct Uids {
    pub(crate) range: Range<u32>,
    path: PathBuf,
    _locked: File,
}

impl Uids {
    /// Takes `count` users: those from `first` on, or without that, the first that are free.
    ///
    /// # Errors
    /// When some of them are in use, with a range that is free; when the directory cannot be written.
    pub(crate) fn claim(place: &Path, first: Option<u32>, count: u32) -> io::Result<Self> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", place.display()));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(place)
            .map_err(named)?;
        let deciding = File::create(place.join("lock")).map_err(named)?;
        deciding.lock().map_err(named)?;
        let mut taken = taken(place).map_err(named)?;
        let range = match first {
            Some(first) => {
                let wanted =
                    range(first, count).ok_or_else(|| refused(first, count, "more than there are"))?;
                if let Some(other) = taken.iter().find(|other| overlap(other, &wanted)) {
                    let free = free(&taken, count).map_or_else(String::new, |free| {
                        format!("; first-uid = {} is free", free.start)
                    });
                    let why = format!(
                        "another service's builds have {} to {}{free}",
                        other.start,
                        other.end - 1
                    );
                    return Err(refused(first, count, &why));
                }
                wait_for_end(&wanted)?;
                wanted
            }
            None => {
                taken.extend(users_of_processes().into_iter().filter_map(|uid| range(uid, 1)));
                free(&taken, count).ok_or_else(|| refused(DEFAULT_FIRST_UID, count, "none are free"))?
            }
        };
        let path = place.join(format!("{NAME}-{}-{count}", range.start));
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(named)?;
        file.try_lock()
            .map_err(|e| io::Error::other(format!("{}: {e}", path.display())))?;
        Ok(Self {
            range,
            path,
            _locked: file,
        })
    }
}

impl Drop for Uids {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn range(first: u32, count: u32) -> Option<Range<u32>> {
    Some(first..first.checked_add(count)?)
}

fn overlap(one: &Range<u32>, other: &Range<u32>) -> bool {
    one.start < other.end && other.start < one.end
}

fn refused(first: u32, count: u32, why: &str) -> io::Error {
    let last = u64::from(first) + u64::from(count) - 1;
    io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("user ids {first} to {last} cannot be those of builds: {why}"),
    )
}

/// Ranges of services that live. Files of others are removed.
fn taken(place: &Path) -> io::Result<Vec<Range<u32>>> {
    let mut taken = Vec::new();
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        let Some(range) = entry.file_name().to_str().and_then(parse) else {
            continue;
        };
        match File::open(entry.path()).map(|file| file.try_lock()) {
            Ok(Ok(())) => fs::remove_file(entry.path())?,
            Ok(Err(fs::TryLockError::WouldBlock)) => taken.push(range),
            Ok(Err(fs::TryLockError::Error(e))) => return Err(e),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(taken)
}

fn parse(name: &str) -> Option<Range<u32>> {
    let (first, count) = name.strip_prefix(NAME)?.strip_prefix('-')?.split_once('-')?;
    range(first.parse().ok()?, count.parse().ok()?)
}

/// The first free range from the usual place on.
fn free(taken: &[Range<u32>], count: u32) -> Option<Range<u32>> {
    let mut wanted = range(DEFAULT_FIRST_UID, count)?;
    while let Some(other) = taken.iter().find(|other| overlap(other, &wanted)) {
        wanted = range(other.end, count)?;
    }
    Some(wanted)
}

/// Waits for what a service that is gone has left.
fn wait_for_end(wanted: &Range<u32>) -> io::Result<()> {
    let since = Instant::now();
    while let Some(uid) = users_of_processes().into_iter().find(|uid| wanted.contains(uid)) {
        if since.elapsed() > DEATH {
            let why = format!("processes of user {uid} are running (`ps -U {uid}`)");
            return Err(refused(wanted.start, wanted.end - wanted.start, &why));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn users_of_processes() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter(|entry| {
        entry
            .file_name()
            .as_encoded_bytes()
            .iter()
            .all(u8::is_ascii_digit)
    });
    processes
        .filter_map(|entry| Some(entry.metadata().ok()?.uid()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_services_have_a_user_in_common() {
        let dir = tempfile::tempdir().unwrap();
        let claim = |first, count| Uids::claim(dir.path(), first, count);
        let first = claim(None, 20).unwrap();
        let at = first.range.start;
        assert_eq!(first.range, at..at + 20);
        for (from, count) in [(at, 20), (at + 19, 1), (at - 5, 6), (at - 5, 100)] {
            let why = claim(Some(from), count).unwrap_err().to_string();
            let (taken, free) = (
                format!("have {at} to {}", at + 19),
                format!("first-uid = {} is free", at + 20),
            );
            assert!(why.contains(&taken) && why.contains(&free), "{why}");
        }
        let second = claim(None, 10).unwrap();
        assert_eq!(second.range.start, at + 20);
        let third = claim(Some(at + 30), 5).unwrap();
        drop(first);
        assert_eq!(claim(Some(at), 20).unwrap().range, at..at + 20);
        // Gaps are used where they are large enough.
        assert_eq!(claim(None, 21).unwrap().range.start, third.range.end);
        drop((second, third));
        let left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["lock"]);
    }

    #[test]
    fn what_a_killed_service_has_left_is_free() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("uids-1000000-50"), "").unwrap();
        fs::write(dir.path().join("uids-nonsense"), "").unwrap();
        let range = Uids::claim(dir.path(), Some(1_000_010), 5).unwrap().range.clone();
        assert_eq!(range, 1_000_010..1_000_015);
        assert!(!dir.path().join("uids-1000000-50").exists());
        assert!(Uids::claim(dir.path(), Some(u32::MAX), 5).is_err());
    }

    #[test]
    fn users_with_processes_are_not_free() {
        let own = rustix::process::geteuid().as_raw();
        assert!(users_of_processes().contains(&own));
    }
}
