//! Nix's base-32: alphabet without `e o t u`, bits little-endian, most significant digit first.

/// The digits, in order of value.
pub const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Number of digits that `n` bytes take.
#[must_use]
pub const fn encoded_len(n: usize) -> usize {
    (n * 8).div_ceil(5)
}

/// Marks a byte that is no digit.
pub(crate) const NO_DIGIT: u8 = 0xff;

/// Value of each byte as a digit, or [`NO_DIGIT`].
static DIGITS: [u8; 256] = digit_table();

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated at compile time; the digits are below 256"
)]
const fn digit_table() -> [u8; 256] {
    let mut table = [NO_DIGIT; 256];
    let mut value = 0u8;
    while value < 32 {
        table[ALPHABET[value as usize] as usize] = value;
        value += 1;
    }
    table
}

/// Value of a digit, or [`NO_DIGIT`].
#[inline]
pub(crate) fn raw_digit(byte: u8) -> u8 {
    DIGITS.get(usize::from(byte)).copied().unwrap_or(NO_DIGIT)
}

/// Value of a digit, or `None` when the byte is not in the alphabet.
#[must_use]
#[inline]
pub fn digit(byte: u8) -> Option<u8> {
    Some(raw_digit(byte)).filter(|&value| value != NO_DIGIT)
}

/// Encodes bytes; the result has [`encoded_len`] digits.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(encoded_len(bytes.len()));
    for n in (0..encoded_len(bytes.len())).rev() {
        let (i, shift) = (n * 5 / 8, n * 5 % 8);
        let low = u16::from(bytes.get(i).copied().unwrap_or(0));
        let high = u16::from(bytes.get(i + 1).copied().unwrap_or(0));
        let value = ((low | (high << 8)) >> shift) & 0x1f;
        out.push(char::from(
            ALPHABET.get(usize::from(value)).copied().unwrap_or(b'0'),
        ));
    }
    out
}

/// Decodes exactly `N` bytes; `None` on a wrong length, a foreign digit or bits beyond the last byte.
#[must_use]
pub fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut out = [0u8; N];
    decode_into(text, &mut out).then_some(out)
}

/// Decodes into `out`, which sets the expected length; false when the text does not fit it exactly.
#[must_use]
pub fn decode_into(text: &[u8], out: &mut [u8]) -> bool {
    if text.len() != encoded_len(out.len()) {
        return false;
    }
    out.fill(0);
    for (n, &c) in text.iter().rev().enumerate() {
        let Some(value) = digit(c) else { return false };
        let (i, shift) = (n * 5 / 8, n * 5 % 8);
        let wide = u16::from(value) << shift;
        let [low, high] = wide.to_le_bytes();
        if let Some(b) = out.get_mut(i) {
            *b |= low;
        } else if low != 0 {
            return false;
        }
        if let Some(b) = out.get_mut(i + 1) {
            *b |= high;
        } else if high != 0 {
            return false;
        }
    }
    true
}
