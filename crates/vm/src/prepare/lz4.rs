//! The format in which Debian's cloud kernels are packed: LZ4, "legacy frame" and "block" (lz4_Frame_format.md, lz4_Block_format.md of
//! the LZ4 project).

/// Start of a legacy frame.
const MAGIC: [u8; 4] = 0x184c_2102_u32.to_le_bytes();
/// What one block holds at most.
const BLOCK: usize = 8 << 20;
const SHORTEST_MATCH: usize = 4;

/// Unpacks a frame. `None`: it is none, or it is damaged, or larger than `limit`.
///
/// It ends with its last whole block; the kernel has its own size after it.
pub(super) fn unpack(packed: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut rest = packed.strip_prefix(&MAGIC)?;
    let mut out = Vec::new();
    while let Some((size, after)) = rest.split_first_chunk::<4>()
        && let Some((data, after)) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*size)).ok()?)
    {
        let start = out.len();
        block(data, &mut out, start.checked_add(BLOCK)?.min(limit))?;
        rest = after;
    }
    (!out.is_empty()).then_some(out)
}

/// Appends one block to `out`, up to `limit` bytes in all. Nothing before the block is referred to.
fn block(data: &[u8], out: &mut Vec<u8>, limit: usize) -> Option<()> {
    let start = out.len();
    let mut rest = data;
    loop {
        let (&token, after) = rest.split_first()?;
        rest = after;
        let literals = length(usize::from(token >> 4), &mut rest)?;
        let (bytes, after) = rest.split_at_checked(literals)?;
        rest = after;
        if out.len().checked_add(literals)? > limit {
            return None;
        }
        out.extend_from_slice(bytes);
        // The last sequence has no match.
        if rest.is_empty() {
            return Some(());
        }
        let (offset, after) = rest.split_first_chunk::<2>()?;
        rest = after;
        let offset = usize::from(u16::from_le_bytes(*offset));
        let count = length(usize::from(token & 15), &mut rest)?.checked_add(SHORTEST_MATCH)?;
        let mut from = out
            .len()
            .checked_sub(offset)
            .filter(|&from| from >= start && offset > 0)?;
        if out.len().checked_add(count)? > limit {
            return None;
        }
        // What is copied may include what the copy makes.
        let mut left = count;
        while left > 0 {
            let now = left.min(out.len() - from);
            out.extend_from_within(from..from + now);
            from += now;
            left -= now;
        }
    }
}

/// A length of 15 goes on in the following bytes, up to the first that is not 255.
fn length(start: usize, rest: &mut &[u8]) -> Option<usize> {
    let mut length = start;
    if start == 15 {
        loop {
            let (&more, after) = rest.split_first()?;
            *rest = after;
            length = length.checked_add(usize::from(more))?;
            if more != 255 {
                break;
            }
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(blocks: &[&[u8]]) -> Vec<u8> {
        let mut frame = MAGIC.to_vec();
        for block in blocks {
            frame.extend((block.len() as u32).to_le_bytes());
            frame.extend_from_slice(block);
        }
        frame
    }

    #[test]
    fn literals_and_matches() {
        // "abcd", then 4 + 15 + 3 bytes from 2 back, then "xyz".
        let packed = b"\x4fabcd\x02\x00\x03\x30xyz";
        let mut expected = b"abcd".to_vec();
        expected.extend(b"cd".repeat(11));
        expected.extend(b"xyz");
        assert_eq!(unpack(&frame(&[packed]), 1000), Some(expected.clone()));
        // Two blocks, and the kernel's size after them.
        let mut two = frame(&[packed, packed]);
        two.extend([58, 0, 0, 0]);
        assert_eq!(unpack(&two, 1000), Some(expected.repeat(2)));
        assert_eq!(unpack(&two, 40), None);
    }

    #[test]
    fn damage_is_noticed() {
        assert_eq!(unpack(b"", 1000), None);
        assert_eq!(unpack(b"\x7fELF", 1000), None);
        assert_eq!(unpack(&frame(&[]), 1000), None);
        // Nothing to copy from, and cut off in three places.
        for block in [
            &b"\x10a\x02\x00\x00"[..],
            b"\x10a\x00\x00\x00",
            b"\x40abc",
            b"\x10a\x01",
            b"\xf0\xff",
        ] {
            assert_eq!(unpack(&frame(&[block]), 1000), None, "{block:?}");
        }
    }
}
