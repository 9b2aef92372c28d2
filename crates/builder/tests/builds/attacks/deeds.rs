//! The destructive things: how each build must end, and what must be left.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use firn_attack::{DEEDS, Deed, Ending, host};
use firn_service::ports::{JobLimits, RunFailure};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::backend::{Attack, Backend, Ended};

/// Every deed that can be tried already.
pub async fn all(backend: &impl Backend) {
    for deed in DEEDS {
        if let Some(on) = deed.pending {
            println!("{:?} {} {}: waits for {on}", backend.column(), deed.row, deed.id);
            continue;
        }
        if let Some(need) = deed.needs.filter(|need| !backend.limits(*need)) {
            println!(
                "{:?} {} {}: skipped, {need:?} cannot be limited here",
                backend.column(),
                deed.row,
                deed.id
            );
            continue;
        }
        let since = std::time::Instant::now();
        let ended = match deed.id {
            "open-build" => from_outside(backend).await,
            _ => attack(deed).run(backend).await,
        };
        let told = match &ended.result {
            Ok(_) => "built".to_owned(),
            Err(failure) => failure.to_string().replace('\n', " "),
        };
        println!(
            "{:?} {} {}: {told} ({:.1} s)",
            backend.column(),
            deed.row,
            deed.id,
            since.elapsed().as_secs_f32()
        );
        assert!(
            is(deed.ending, &ended.result),
            "{} ({}): {:?}, and must be {:?}",
            deed.id,
            deed.what,
            ended.result,
            deed.ending
        );
        if let Ok(outputs) = &ended.result {
            look(deed.id, &outputs["out"], &ended, backend);
        }
        assert_eq!(backend.outside().touched(), Vec::<&str>::new(), "{}", deed.id);
        assert_eq!(backend.left(), Vec::<String>::new(), "{}", deed.id);
    }
}

fn attack(deed: &Deed) -> Attack {
    let limits: fn(&mut JobLimits) = match deed.ending {
        // Long enough to start, for a busy machine.
        Ending::TimedOut if deed.id == "silent" => |limits| limits.silent = Duration::from_millis(1500),
        Ending::TimedOut => |limits| limits.wall = Duration::from_millis(2500),
        Ending::Exhausted(_) => |limits| {
            limits.wall = Duration::from_secs(60);
            limits.memory_bytes = Some(96 << 20);
            limits.processes = Some(100);
            limits.disk_bytes = 32 << 20;
            limits.disk_entries = 5000;
        },
        _ => |limits| limits.wall = Duration::from_secs(60),
    };
    Attack {
        limits,
        ..Attack::new(&["do", deed.id])
    }
}

fn is(ending: Ending, result: &Result<BTreeMap<String, PathBuf>, RunFailure>) -> bool {
    match (ending, result) {
        (Ending::Built, Ok(_))
        | (Ending::Failed | Ending::RefusedOrFailed, Err(RunFailure::Builder(_)))
        | (Ending::RefusedOrFailed, Err(RunFailure::OutputRejected(_)))
        | (Ending::TimedOut, Err(RunFailure::TimedOut(_)))
        | (Ending::Cancelled, Err(RunFailure::Cancelled))
        | (Ending::LogLimit, Err(RunFailure::LogLimit(_))) => true,
        (Ending::Refused(why), Err(RunFailure::OutputRejected(text)))
        | (Ending::Exhausted(why), Err(RunFailure::Exhausted(text))) => text.contains(why),
        _ => false,
    }
}

/// What became of an output that was accepted.
pub fn look(deed: &str, out: &Path, ended: &Ended, backend: &impl Backend) {
    let meta = fs::symlink_metadata(out).unwrap();
    match deed {
        "daemon" => {
            assert_eq!(fs::read_to_string(out).unwrap(), "first");
            std::thread::sleep(Duration::from_millis(200));
            assert_eq!(fs::read_to_string(out).unwrap(), "first");
        }
        "log-odd" => {
            let has = |what: &[u8]| ended.log.windows(what.len()).any(|window| window == what);
            assert!(has(b"\x1b[2J") && has(b"\0\0\xff\xfe") && has(&[b'y'; 70_000]));
        }
        "symlink" => assert_eq!(fs::read_link(out).unwrap(), Path::new("/etc/shadow")),
        "symlinks-inside" => {
            for entry in fs::read_dir(out).unwrap() {
                assert!(entry.unwrap().file_type().unwrap().is_symlink());
            }
            let file = &backend.outside().variables()[host::FILE];
            assert_eq!(&fs::read_link(out.join("absolute")).unwrap(), Path::new(file));
        }
        "symlinks-beside" | "beside" => assert_eq!(fs::read_to_string(out).unwrap(), "x"),
        "set-id" => {
            for name in ["a", "b", "c"] {
                let mode = fs::metadata(out.join(name)).unwrap().permissions().mode();
                assert_eq!(mode & 0o7222, 0, "{name} {mode:o}");
            }
        }
        "locked" => {
            assert_eq!(fs::read_to_string(out.join("dir/file")).unwrap(), "dir/file");
            assert_eq!(meta.permissions().mode() & 0o777, 0o555);
        }
        "names" => assert_eq!(fs::read_dir(out).unwrap().count(), 9),
        "links" => {
            assert_eq!(fs::read_dir(out).unwrap().count(), 300);
            assert_eq!(fs::metadata(out.join("299")).unwrap().nlink(), 1);
        }
        "crowd" => assert_eq!(fs::read_dir(out).unwrap().count(), 2000),
        _ => {}
    }
}

/// While it runs, another user of the host looks for its files.
pub async fn from_outside(backend: &impl Backend) -> Ended {
    let attack = Attack::new(&["do", "open-build"]);
    let (log, mut chunks) = mpsc::channel::<Bytes>(4);
    let cancel = CancellationToken::new();
    let look = async {
        let mut looked = false;
        while let Some(chunk) = chunks.recv().await {
            if !looked && chunk.starts_with(b"open") {
                looked = true;
                assert_eq!(backend.exposed(), Vec::<String>::new());
                cancel.cancel();
            }
        }
        assert!(looked, "the build never said that it was open");
    };
    let (result, ()) = tokio::join!(backend.run(&attack, log, cancel.clone()), look);
    Ended {
        result,
        log: Vec::new(),
    }
}
