//! What becomes of builds while the machine runs short of something that they have in common.
//!
//! The file system of these builds is small, so that its end is within reach; the rest of the machine is looked at by the unit tests of
//! `scarcity`, with numbers that are made up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use firn_builder::{Mark, Marks};
use firn_core::Object;
use firn_service::ports::{Builder as _, Job, Outcome, RunFailure, Scarce};
use rustix::fs::StatVfs;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::firn::Firn;
use super::lives::firn_job;
use super::nix::SHELL;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 192 * MIB;

/// A file system of 192 MiB and 8,000 files, with a builder in it.
struct Small {
    firn: Option<Firn>,
    dir: TempDir,
}

impl Small {
    fn new(disk: Mark, entries: Mark) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Path::new(SHELL).exists() {
            println!("skipped: mounting needs root, building {SHELL}");
            return None;
        }
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        mount(
            "small",
            dir.path(),
            "tmpfs",
            MountFlags::empty(),
            c"size=192m,nr_inodes=8000",
        )
        .unwrap();
        let marks = Marks::default()
            .with(Scarce::DiskSpace, disk)
            .with(Scarce::DiskEntries, entries);
        let firn = Firn::in_dir(tempfile::tempdir_in(dir.path()).unwrap());
        let firn = firn.changed(|config| {
            config.marks = marks;
            config.patience = Duration::from_millis(10);
        });
        Some(Self {
            firn: Some(firn),
            dir,
        })
    }

    fn firn(&self) -> &Firn {
        self.firn.as_ref().unwrap()
    }

    fn free(&self) -> StatVfs {
        rustix::fs::statvfs(self.dir.path()).unwrap()
    }

    fn filler(&self) -> PathBuf {
        self.dir.path().join("filler")
    }

    /// Leaves this much of it.
    fn fill(&self, kind: Scarce, left: u64) {
        std::fs::create_dir(self.filler()).unwrap();
        let free = self.free();
        if kind == Scarce::DiskSpace {
            let file = std::fs::File::create(self.filler().join("bytes")).unwrap();
            let bytes = free.f_bavail * free.f_frsize - left;
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
        } else {
            for n in left..free.f_favail - 1 {
                std::fs::File::create(self.filler().join(n.to_string())).unwrap();
            }
        }
    }

    fn empty(&self) {
        std::fs::remove_dir_all(self.filler()).unwrap();
    }

    /// Runs a job, and calls `meanwhile` when it has said something. It goes on when its file `wait` is gone.
    async fn run(&self, job: Job, meanwhile: impl AsyncFnOnce()) -> Outcome {
        let wait = self.firn().scratch().join(job.id.to_string()).join("build/wait");
        let (log, mut chunks) = mpsc::channel(4);
        let meanwhile = async {
            chunks.recv().await.unwrap();
            meanwhile().await;
            std::fs::remove_file(wait).unwrap();
            while chunks.recv().await.is_some() {}
        };
        let run = self.firn().builder.run(job, log, CancellationToken::new());
        tokio::join!(run, meanwhile).0
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        self.firn = None;
        unmount(self.dir.path(), UnmountFlags::DETACH).unwrap();
    }
}

const WAIT: &str = "echo > /build/wait; echo ready; while [ -e /build/wait ]; do BB sleep 0.02; done; ";

/// A mark that is only reached by what is seen.
fn seen(bottom: u64) -> Mark {
    Mark {
        reserve: 0,
        bottom,
        rate: 0,
    }
}

/// One by which it is certain that a shortage of a third of a second is noticed, because if there was no look meanwhile, that is one.
fn certain(bottom: u64, all: u64) -> Mark {
    Mark {
        rate: all * 3,
        ..seen(bottom)
    }
}

async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(350)).await;
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    Never,
    Before,
    During,
    AtTheEnd,
}

#[tokio::test]
async fn every_moment_and_every_end() {
    for (kind, left) in [(Scarce::DiskSpace, MIB), (Scarce::DiskEntries, 10)] {
        for when in [When::Never, When::Before, When::During, When::AtTheEnd] {
            for ending in ["echo done > $out", "exit 3"] {
                let short = matches!(when, When::During | When::AtTheEnd);
                let mark = if short { certain } else { |bottom, _| seen(bottom) };
                let Some(it) = Small::new(mark(16 * MIB, SIZE), mark(100, 8000)) else {
                    return;
                };
                let job = firn_job(it.firn(), &format!("{WAIT}{ending}")).await;
                if when == When::Before {
                    it.fill(kind, left);
                    it.empty();
                }
                let outcome = it.run(job, async || {
                    if short {
                        it.fill(kind, left);
                        a_moment().await;
                    }
                    if when == When::During {
                        it.empty();
                    }
                });
                let Outcome { result, report } = outcome.await;
                let what = format!("{kind}, {when:?}, {ending}: {result:?}");
                assert_eq!(report.shortage, short.then_some(kind), "{what}");
                match (short, ending) {
                    (true, _) => {
                        let text = match &result {
                            Err(RunFailure::Infrastructure(text)) => text,
                            _ => panic!("{what}"),
                        };
                        assert!(
                            text.contains("counts for nothing") && text.contains(&kind.to_string()),
                            "{what}"
                        );
                    }
                    (false, "exit 3") => assert!(matches!(result, Err(RunFailure::Builder(_))), "{what}"),
                    (false, _) => assert!(result.is_ok(), "{what}"),
                }
            }
        }
    }
}

/// A neighbour fills the disk while the probe of another build looks whether it can write. It is stopped before the probe could notice.
#[tokio::test]
async fn who_takes_most_is_stopped_before_others_notice() {
    let disk = Mark {
        reserve: 96 * MIB,
        bottom: 8 * MIB,
        rate: 0,
    };
    let Some(it) = Small::new(disk, seen(100)) else {
        return;
    };
    let probe = "if BB dd if=/dev/zero of=/build/probe bs=64k count=16 2>/dev/null; then echo yes; else echo no; fi > $out";
    let victim = firn_job(it.firn(), &format!("{WAIT}{probe}")).await;
    let hog = "while BB dd if=/dev/zero bs=256k count=1 >> /build/x 2>/dev/null; do BB sleep 0.02; done; echo full > $out";
    let hog = firn_job(it.firn(), hog).await;
    let mut stopped = None;
    let outcome = it.run(victim, async || {
        stopped = Some(it.firn().report(hog).await);
    });
    let outcome = outcome.await;
    let (failure, report) = stopped.unwrap();
    assert!(
        matches!(&failure, Err(RunFailure::Exhausted(text)) if text.contains("this one took most")),
        "{failure:?}"
    );
    assert_eq!(report.shortage, Some(Scarce::DiskSpace));
    assert_eq!(outcome.report.shortage, None);
    assert!(outcome.report.beside && report.beside);
    let out: &Object = &outcome.result.unwrap()["out"];
    assert_eq!(std::fs::read_to_string(it.firn().tree(out)).unwrap(), "yes\n");
}

#[tokio::test]
async fn no_build_begins_below_the_reserve() {
    let disk = Mark {
        reserve: 96 * MIB,
        ..seen(MIB)
    };
    let Some(it) = Small::new(disk, seen(100)) else {
        return;
    };
    let job = firn_job(it.firn(), "echo > $out").await;
    it.fill(Scarce::DiskSpace, 90 * MIB);
    let failure = it.firn().run(job.clone()).await.unwrap_err();
    assert!(
        matches!(&failure, RunFailure::Infrastructure(text) if text.contains("too little disk space left")),
        "{failure}"
    );
    it.empty();
    it.firn().run(job).await.unwrap();
}

/// An image with holes would fail its file system without a word when the disk is full: what was written is then something else.
#[tokio::test]
async fn an_image_has_all_its_space_or_is_not_made() {
    let Some(mut it) = Small::new(seen(MIB), seen(100)) else {
        return;
    };
    let marks = Marks::default().with(Scarce::DiskSpace, seen(MIB));
    let images = |firn: Firn| {
        firn.changed(|config| {
            config.disk_images = true;
            config.marks = marks;
        })
    };
    it.firn = it.firn.take().map(images);
    let mut job = firn_job(it.firn(), "echo > $out").await;
    job.limits.disk_entries = 1000;
    for (bytes, fits) in [(96 * MIB, true), (1024 * MIB, false)] {
        job.limits.disk_bytes = bytes;
        job.id.0[15] += 1;
        match it.firn().run(job.clone()).await {
            Ok(_) => assert!(fits),
            Err(RunFailure::Infrastructure(why)) if fits => {
                println!("skipped: no file systems in images here: {why}");
                break;
            }
            Err(failure) => assert!(
                !fits && matches!(&failure, RunFailure::Infrastructure(_)),
                "{failure}"
            ),
        }
    }
}
