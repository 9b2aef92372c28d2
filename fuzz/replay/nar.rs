//! What is read as a NAR is written back byte for byte, in whatever pieces it came.

use firn_nix::nar::{NarLimits, NarReader, NarWriter};

/// True when the bytes were read.
pub fn run(bytes: &[u8]) -> bool {
    let whole = copy(bytes, bytes.len().max(1));
    assert_eq!(copy(bytes, 7), whole);
    if let Some(copy) = &whole {
        assert_eq!(copy, bytes);
    }
    whole.is_some()
}

fn copy(bytes: &[u8], piece: usize) -> Option<Vec<u8>> {
    let limits = NarLimits {
        total_bytes: 1 << 24,
        ..NarLimits::default()
    };
    let mut reader = NarReader::new(limits);
    let mut writer = NarWriter::new(Vec::new());
    for piece in bytes.chunks(piece) {
        let taken = reader.push(piece, &mut writer).ok()?;
        if taken < piece.len() {
            return None;
        }
    }
    reader.finish().ok()?;
    Some(writer.into_inner())
}
