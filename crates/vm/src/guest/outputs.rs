//! What the command made, as archives.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use firn_content::{Stopped, WalkError, WalkLimits, WalkPolicy, WalkProblem, walk};
use firn_nix::nar::NarWriter;

use super::port::Port;
use crate::conversation::MAX_REJECTED;
use crate::job::Job;
use crate::record::{GuestRecord, MAX_BODY, Pieces};

/// Sends all outputs in `store`, all of which must belong to `owner`; or which are missing, or what is wrong with each that cannot be taken, up to [`MAX_REJECTED`].
pub(super) fn send(port: &Port, job: &Job, store: &Path, owner: u32) -> Result<(), String> {
    let failed = |e: io::Error| format!("the port: {e}");
    let path = |name: &str| store.join(name);
    let number = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    let mut missing = Vec::new();
    for (index, name) in job.outputs.iter().enumerate() {
        match path(name).symlink_metadata() {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => missing.push(index),
            Err(e) => return Err(format!("output {name}: {e}")),
        }
    }
    for &index in &missing {
        port.send(&GuestRecord::Missing(number(index))).map_err(failed)?;
    }
    if !missing.is_empty() {
        return Ok(());
    }
    let mut left = job.nar_bytes;
    let mut rejected = 0;
    for (index, name) in job.outputs.iter().enumerate() {
        port.send(&GuestRecord::Output(number(index))).map_err(failed)?;
        let last = match archive(port, &path(name), owner, &mut left, job.nar_bytes) {
            Ok(()) => GuestRecord::End,
            Err(Stopped::Walk(error)) => GuestRecord::Rejected(number(index), error),
            Err(Stopped::Visitor(e)) => return Err(failed(e)),
        };
        rejected += usize::from(last != GuestRecord::End);
        port.send(&last).map_err(failed)?;
        if rejected == MAX_REJECTED {
            break;
        }
    }
    Ok(())
}

fn archive(
    port: &Port,
    path: &Path,
    owner: u32,
    left: &mut u64,
    limit: u64,
) -> Result<(), Stopped<io::Error>> {
    let policy = WalkPolicy::BuildOutput { owner };
    let limits = WalkLimits {
        bytes: *left,
        ..WalkLimits::default()
    };
    let sender = Sender {
        port,
        left,
        full: false,
    };
    let mut writer = NarWriter::new(BufWriter::with_capacity(MAX_BODY, sender));
    let walked = walk(path, policy, limits, &mut writer);
    let mut buffer = writer.into_inner();
    let flushed = buffer.flush();
    let full = buffer.get_ref().full;
    // Not to be flushed again when it is dropped.
    let _ = buffer.into_parts();
    let full = full
        || matches!(&walked, Err(Stopped::Walk(error)) if matches!(error.problem, WalkProblem::Bytes(_)));
    match walked {
        // What is left does not interest anybody.
        _ if full => Err(Stopped::Walk(WalkError {
            path: Vec::new(),
            problem: WalkProblem::Bytes(limit),
        })),
        Err(stopped) => Err(stopped),
        Ok(()) => flushed.map_err(Stopped::Visitor),
    }
}

/// Sends what is written to it, as much as may be.
struct Sender<'a> {
    port: &'a Port,
    left: &'a mut u64,
    full: bool,
}

impl Write for Sender<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len() as u64;
        if length > *self.left {
            self.full = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        *self.left -= length;
        self.port.send_pieces(Pieces::Nar, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::{Bounds, Conversation, Step};
    use crate::record::Decoder;
    use firn_nix::nar::{NarLimits, NarReader, Skip};
    use std::fs::{self, File};
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt, symlink};

    /// What the host makes of what a guest sends for outputs `a` and `b`: sizes of archives, and the rest in words.
    fn sent(nar_bytes: u64, make: impl FnOnce(&Path)) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        fs::DirBuilder::new().mode(0o755).create(&store).unwrap();
        make(&store);
        let wire = dir.path().join("wire");
        let port = Port::of(File::create(&wire).unwrap());
        let mut job = crate::job::tests::job();
        job.outputs = vec!["a".to_owned(), "b".to_owned()];
        job.nar_bytes = nar_bytes;
        send(&port, &job, &store, rustix::process::geteuid().as_raw()).unwrap();
        port.send(&GuestRecord::Done).unwrap();

        let mut host = Conversation::new(Bounds {
            outputs: 2,
            log_bytes: 0,
            nar_bytes,
        });
        host.take(GuestRecord::Ready {
            version: crate::record::VERSION,
        })
        .unwrap();
        host.job_sent();
        host.take(GuestRecord::Exit(crate::record::tests::success()))
            .unwrap();
        let mut decoder = Decoder::default();
        decoder.room().extend(fs::read(wire).unwrap());
        let mut seen = Vec::new();
        let mut reader = NarReader::new(NarLimits::default());
        while let Some(record) = decoder.next().unwrap() {
            match host.take(record).unwrap() {
                Step::Begin(_) => reader = NarReader::new(NarLimits::default()),
                Step::Data(bytes) => {
                    assert_eq!(reader.push(&bytes, &mut Skip).unwrap(), bytes.len());
                }
                Step::End => {
                    reader.finish().unwrap();
                    seen.push(format!("{} bytes", reader.bytes_read()));
                }
                Step::Rejected(output, error) => seen.push(format!("{output} {error}")),
                Step::Missing(output) => seen.push(format!("{output} missing")),
                Step::Done => seen.push("done".to_owned()),
                step => panic!("{step:?}"),
            }
        }
        assert!(decoder.is_empty());
        seen
    }

    fn file(path: &Path, bytes: usize) {
        fs::write(path, vec![b'x'; bytes]).unwrap();
    }

    #[test]
    fn all_outputs_are_sent() {
        let seen = sent(1 << 30, |store| {
            file(&store.join("a"), 1_000_000);
            symlink("a", store.join("b")).unwrap();
        });
        assert_eq!(seen, ["1000112 bytes", "120 bytes", "done"]);
    }

    #[test]
    fn those_that_are_missing_are_told_and_the_others_not_sent() {
        let seen = sent(1 << 30, |store| file(&store.join("a"), 1));
        assert_eq!(seen, ["1 missing", "done"]);
        assert_eq!(sent(1 << 30, |_| ()), ["0 missing", "1 missing", "done"]);
    }

    #[test]
    fn what_cannot_be_taken_is_told() {
        let seen = sent(1 << 30, |store| {
            fs::DirBuilder::new().mode(0o755).create(store.join("a")).unwrap();
            file(&store.join("a/a"), 500_000);
            let _socket = std::os::unix::net::UnixListener::bind(store.join("a/b")).unwrap();
            file(&store.join("b"), 1);
        });
        assert_eq!(seen, ["0 'b': a socket cannot be stored", "120 bytes", "done"]);
        let seen = sent(1 << 30, |store| {
            fs::DirBuilder::new().mode(0o777).create(store.join("a")).unwrap();
            fs::set_permissions(store.join("a"), PermissionsExt::from_mode(0o777)).unwrap();
            File::create(store.join("b")).unwrap().set_len(1 << 40).unwrap();
        });
        let refused = [
            "0 suspicious permission: mode 777",
            "1 larger than 1073741824 bytes",
            "done",
        ];
        assert_eq!(seen, refused);
    }

    #[test]
    fn no_more_is_sent_than_is_wanted() {
        let both = |store: &Path| {
            file(&store.join("a"), 1000);
            file(&store.join("b"), 1000);
        };
        assert_eq!(sent(2224, both), ["1112 bytes", "1112 bytes", "done"]);
        for limit in [2223, 2112, 1113, 1112] {
            let larger = format!("1 larger than {limit} bytes");
            assert_eq!(sent(limit, both), ["1112 bytes", &larger, "done"]);
        }
    }
}
