//! How much a running build has on disk, and stopping one that has too much.
//!
//! Nobody counts this for us: the file systems of ordinary machines have no quotas, and a file system for each build takes longer to make
//! than most builds. So the free space of the disk is looked at often, which costs nothing, and the files of the build when it may have
//! reached its limit. What a build can write between two looks is what it can go over.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Between two looks at the free space.
const LOOK: Duration = Duration::from_millis(250);
/// Longest time without a look at the files, for what others have freed meanwhile.
const COUNT: Duration = Duration::from_secs(30);
/// Counting may take one part in so many of the time.
const SHARE: u32 = 20;
/// Directories below each other that are looked into; each holds a descriptor meanwhile.
const DEPTH: usize = 512;

/// Bytes on disk, and files, directories and links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

impl Amount {
    pub(crate) const MUCH: Self = Self {
        bytes: u64::MAX,
        entries: u64::MAX,
    };

    fn reaches(self, limit: Self) -> bool {
        self.bytes >= limit.bytes || self.entries >= limit.entries
    }
}

/// Waits until `dir` holds as much as it may. Tells `peak` the most bytes that were seen.
pub(crate) async fn filled(dir: PathBuf, limit: Amount, peak: &AtomicU64) {
    let mut found = Amount::default();
    let mut before = taken(&dir);
    let mut next = Instant::now();
    let mut latest = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = taken(&dir);
        // It can have grown by no more than the disk has, unless others freed some.
        let most = Amount {
            bytes: found.bytes + now.bytes.saturating_sub(before.bytes),
            entries: found.entries + now.entries.saturating_sub(before.entries),
        };
        if Instant::now() < next || !(most.reaches(limit) || latest.elapsed() > COUNT) {
            continue;
        }
        before = now;
        let began = Instant::now();
        let count = dir.clone();
        let counted = tokio::task::spawn_blocking(move || count_all(&count, limit)).await;
        (latest, next) = (Instant::now(), Instant::now() + began.elapsed() * SHARE);
        if let Ok(Ok(counted)) = counted {
            found = counted;
            peak.fetch_max(found.bytes, Ordering::Relaxed);
            if found.reaches(limit) {
                return;
            }
        }
    }
}

/// What is in use of the whole file system.
fn taken(dir: &Path) -> Amount {
    rustix::fs::statvfs(dir).map_or_else(
        |_| Amount::default(),
        |fs| Amount {
            bytes: fs.f_blocks.saturating_sub(fs.f_bfree).saturating_mul(fs.f_frsize),
            entries: fs.f_files.saturating_sub(fs.f_ffree),
        },
    )
}

/// Everything below a directory, while others may be changing it; no further than to the limit. Follows no links.
pub(crate) fn count_all(dir: &Path, limit: Amount) -> Result<Amount, Errno> {
    let open = |at: &OwnedFd, name: &std::ffi::CStr| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(at, name, flags, Mode::empty())
    };
    let root = rustix::fs::openat(
        CWD,
        dir,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut amount = Amount::default();
    let mut way = vec![(Dir::read_from(&root)?, root)];
    while let Some((entries, at)) = way.last_mut() {
        let entry = match entries.read() {
            None | Some(Err(_)) => {
                way.pop();
                continue;
            }
            Some(Ok(entry)) => entry,
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        // Gone meanwhile.
        let Ok(stat) = rustix::fs::statat(&*at, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let bytes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let links = if directory {
            1
        } else {
            u32::try_from(stat.st_nlink).unwrap_or(1)
        };
        amount.bytes = amount.bytes.saturating_add(bytes / u64::from(links.max(1)));
        amount.entries += 1;
        if amount.reaches(limit) {
            return Ok(amount);
        }
        if directory
            && way.len() < DEPTH
            && let Some((_, at)) = way.last()
            && let Ok(inside) = open(at, name)
            && let Ok(entries) = Dir::read_from(&inside)
        {
            way.push((entries, inside));
        }
    }
    Ok(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUCH: Amount = Amount::MUCH;

    #[test]
    fn holes_are_free_and_links_are_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("deep")).unwrap();
        std::fs::write(at("deep/file"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(at("deep/file"), at("again")).unwrap();
        std::fs::File::create(at("hole"))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        std::os::unix::fs::symlink("/", at("link")).unwrap();
        let all = count_all(dir.path(), MUCH).unwrap();
        assert_eq!(all.entries, 5);
        assert!(all.bytes >= 1 << 20 && all.bytes < 3 << 19, "{all:?}");
        let few = Amount { entries: 3, ..MUCH };
        assert_eq!(count_all(dir.path(), few).unwrap().entries, 3);
    }

    #[tokio::test]
    async fn who_reaches_the_limit_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let limit = Amount {
            bytes: 4 << 20,
            entries: 1000,
        };
        let peak = AtomicU64::new(0);
        let filled = filled(dir.path().to_owned(), limit, &peak);
        let fill = async {
            for n in 0.. {
                std::fs::write(dir.path().join(n.to_string()), vec![1; 1 << 20]).unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! { () = filled => {} () = fill => {} }
        assert!(peak.load(Ordering::Relaxed) >= 4 << 20);
    }
}
