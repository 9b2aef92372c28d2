//! What a guest says to its host: read the same in whatever pieces it comes, written back byte for byte, and held to its bounds.

use firn_vm::record::{Decoder, GuestRecord};
use firn_vm::{Bounds, Conversation, Step};

const BOUNDS: Bounds = Bounds {
    outputs: 2,
    log_bytes: 100,
    nar_bytes: 1000,
};

/// True when the bytes were a whole conversation.
pub fn run(bytes: &[u8]) -> bool {
    let (records, clean) = read(bytes, bytes.len().max(1));
    assert_eq!(read(bytes, 7), (records.clone(), clean));
    let again: Vec<u8> = records.iter().flat_map(GuestRecord::encode).collect();
    assert!(bytes.starts_with(&again));

    let mut conversation = Conversation::new(BOUNDS);
    let (mut log, mut nar, mut next) = (0, 0, 0);
    let mut last = None;
    for record in records {
        let Ok(step) = conversation.take(record) else {
            return false;
        };
        match &step {
            Step::Ready => conversation.job_sent(),
            Step::Log(bytes) | Step::LogLimit(bytes) => log += bytes.len() as u64,
            Step::Data(bytes) => nar += bytes.len() as u64,
            Step::Begin(output) => {
                assert!(*output >= next);
                next = *output + 1;
            }
            Step::Rejected(output, _) => {
                assert!(*output + 1 >= next);
                next = *output + 1;
            }
            Step::Exited(report) => assert_eq!(report.exit.log_bytes, log),
            _ => {}
        }
        assert!(log <= BOUNDS.log_bytes && nar <= BOUNDS.nar_bytes && next <= BOUNDS.outputs);
        last = Some(step);
    }
    clean && last == Some(Step::Done)
}

/// The records, and whether there was nothing else.
fn read(bytes: &[u8], piece: usize) -> (Vec<GuestRecord>, bool) {
    let mut decoder = Decoder::default();
    let mut records = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.room().extend_from_slice(piece);
        loop {
            match decoder.next() {
                Ok(Some(record)) => records.push(record),
                Ok(None) => break,
                Err(_) => return (records, false),
            }
        }
    }
    let clean = decoder.is_empty();
    (records, clean)
}
