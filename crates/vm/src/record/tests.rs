//! Both directions, in whatever pieces the bytes come.

use std::time::Duration;

use bytes::Bytes;
use firn_content::{WalkError, WalkProblem};
use firn_sandbox::{Exit, ExitKind};
use proptest::prelude::*;
use rustix::io::Errno;

use super::*;

fn status() -> impl Strategy<Value = ExitKind> {
    prop_oneof![
        (0..256).prop_map(ExitKind::Exited),
        (1..65).prop_map(ExitKind::Signalled),
        Just(ExitKind::TimedOut),
        Just(ExitKind::SilentTimedOut),
        Just(ExitKind::LogLimit),
        Just(ExitKind::Cancelled),
        ".{0,300}".prop_map(ExitKind::NotExecutable),
        ".{0,300}".prop_map(ExitKind::SetupFailed),
    ]
}

fn report() -> impl Strategy<Value = Report> {
    (status(), any::<[u64; 8]>()).prop_map(
        |(
            status,
            [
                user,
                system,
                rss,
                wall,
                log,
                oom_kills,
                refused_processes,
                disk_free,
            ],
        )| Report {
            exit: Exit {
                status,
                user: Duration::from_micros(user),
                system: Duration::from_micros(system),
                max_rss_bytes: rss,
                wall: Duration::from_micros(wall),
                log_bytes: log,
            },
            oom_kills,
            refused_processes,
            disk_free,
        },
    )
}

fn problem() -> impl Strategy<Value = WalkProblem> {
    prop_oneof![
        prop::sample::select(vec![
            "named pipe",
            "socket",
            "character device",
            "block device",
            "file of unknown type"
        ])
        .prop_map(WalkProblem::FileType),
        any::<(u32, u32)>().prop_map(|(expected, found)| WalkProblem::Owner { expected, found }),
        (0..0o10000u32).prop_map(WalkProblem::Writable),
        Just(WalkProblem::Changed),
        Just(WalkProblem::Mount),
        any::<usize>().prop_map(WalkProblem::Depth),
        any::<u64>().prop_map(WalkProblem::Entries),
        any::<u64>().prop_map(WalkProblem::Bytes),
        Just(WalkProblem::Name),
        Just(WalkProblem::Target),
        (1..4096).prop_map(|errno| WalkProblem::Io(Errno::from_raw_os_error(errno))),
    ]
}

pub(crate) fn record() -> impl Strategy<Value = GuestRecord> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..2000).prop_map(Bytes::from);
    prop_oneof![
        any::<u32>().prop_map(|version| GuestRecord::Ready { version }),
        bytes().prop_map(GuestRecord::Log),
        report().prop_map(GuestRecord::Exit),
        any::<u32>().prop_map(GuestRecord::Output),
        bytes().prop_map(GuestRecord::Nar),
        Just(GuestRecord::End),
        any::<u32>().prop_map(GuestRecord::Missing),
        (
            any::<u32>(),
            prop::collection::vec(any::<u8>(), 0..300),
            problem()
        )
            .prop_map(|(index, path, problem)| GuestRecord::Rejected(index, WalkError { path, problem })),
        Just(GuestRecord::Done),
        ".{0,300}".prop_map(GuestRecord::Failed),
    ]
}

/// The shortest report of a success.
pub(crate) fn success() -> Report {
    Report {
        exit: Exit {
            status: ExitKind::Exited(0),
            user: Duration::ZERO,
            system: Duration::ZERO,
            max_rss_bytes: 0,
            wall: Duration::ZERO,
            log_bytes: 0,
        },
        oom_kills: 0,
        refused_processes: 0,
        disk_free: 0,
    }
}

fn decode(bytes: &[u8], piece: usize) -> Result<Vec<GuestRecord>, RecordError> {
    let mut decoder = Decoder::default();
    let mut records = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.room().extend_from_slice(piece);
        while let Some(record) = decoder.next()? {
            records.push(record);
        }
    }
    Ok(records)
}

proptest! {
    #[test]
    fn what_was_said_is_heard(records in prop::collection::vec(record(), 0..20), piece in 1..5000usize) {
        let bytes: Vec<u8> = records.iter().flat_map(GuestRecord::encode).collect();
        prop_assert_eq!(decode(&bytes, piece), Ok(records));
    }

    #[test]
    fn what_is_heard_was_said_so_and_not_otherwise(
        kind in 0..12u8,
        body in prop::collection::vec(prop_oneof![Just(0u8), Just(1u8), any::<u8>()], 0..100),
    ) {
        let bytes = [&head(kind, body.len())[..], &body].concat();
        if let Ok(records) = decode(&bytes, 1000) {
            let again: Vec<u8> = records.iter().flat_map(GuestRecord::encode).collect();
            prop_assert_eq!(again, bytes);
        }
    }
}

#[test]
fn texts_are_cut_and_lengths_are_checked_at_once() {
    let long = "é".repeat(MAX_TEXT);
    let record = GuestRecord::Failed(long.clone());
    assert_eq!(
        decode(&record.encode(), 1000),
        Ok(vec![GuestRecord::Failed(long[..MAX_TEXT].to_owned())])
    );
    let mut decoder = Decoder::default();
    decoder.room().extend_from_slice(&[5, 255, 255, 255, 255]);
    assert_eq!(
        decoder.next(),
        Err(RecordError::Length {
            kind: 5,
            length: u32::MAX
        })
    );
}

#[test]
fn pieces_are_records() {
    for length in [0, 1, MAX_BODY, MAX_BODY + 1, 3 * MAX_BODY] {
        let bytes = vec![7; length];
        let mut wire = Vec::new();
        for (head, body) in Pieces::Nar.of(&bytes) {
            wire.extend(head);
            wire.extend(body);
        }
        let data = decode(&wire, 100_000)
            .unwrap()
            .into_iter()
            .flat_map(|record| match record {
                GuestRecord::Nar(bytes) => bytes,
                other => panic!("{other:?}"),
            });
        assert_eq!(data.collect::<Vec<u8>>(), bytes);
    }
}
