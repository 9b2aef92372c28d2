//! Numbers as nlohmann's library prints them: the digits of the Grisu2 algorithm (F. Loitsch, "Printing floating-point numbers
//! quickly and accurately with integers", 2010), which in one of some 200 cases are not the shortest ones.

use super::powers::{FIRST, POWERS, STEP};

/// Bounds of the binary exponent after scaling.
const ALPHA: i32 = -60;
/// Most digits before the point without an exponent.
const MAX_POINT: i32 = 15;
/// Fewest, counting zeros after the point as negative.
const MIN_POINT: i32 = -4;

/// Appends a number; `null` when it is not finite.
pub(super) fn write(out: &mut String, value: f64) {
    if !value.is_finite() {
        out.push_str("null");
        return;
    }
    if value.is_sign_negative() {
        out.push('-');
    }
    if value == 0.0 {
        out.push_str("0.0");
        return;
    }
    let (digits, exponent) = shortest(value.abs());
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // Where the point stands, counted in digits from the first.
    let point = count + exponent;
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    let split = |at: i32| digits.split_at(usize::try_from(at).unwrap_or(0).min(digits.len()));
    if count <= point && point <= MAX_POINT {
        out.push_str(&format!("{digits}{}.0", zeros(point - count)));
    } else if 0 < point && point <= MAX_POINT {
        let (whole, fraction) = split(point);
        out.push_str(&format!("{whole}.{fraction}"));
    } else if MIN_POINT < point && point <= 0 {
        out.push_str(&format!("0.{}{digits}", zeros(-point)));
    } else {
        let (first, rest) = split(1);
        let dot = if rest.is_empty() { "" } else { "." };
        let sign = if point <= 0 { '-' } else { '+' };
        out.push_str(&format!("{first}{dot}{rest}e{sign}{:02}", (point - 1).abs()));
    }
}

/// `f * 2^e`
#[derive(Clone, Copy)]
struct Scaled {
    f: u64,
    e: i32,
}

impl Scaled {
    fn normalized(self) -> Self {
        let shift = self.f.leading_zeros();
        Self {
            f: self.f << shift,
            e: self.e - shift.cast_signed(),
        }
    }

    /// The upper half of the product, rounded.
    fn times(self, (f, e): (u64, i32)) -> Self {
        let product = u128::from(self.f) * u128::from(f) + (1 << 63);
        Self {
            f: u64::try_from(product >> 64).unwrap_or(u64::MAX),
            e: self.e + e + 64,
        }
    }
}

/// Digits and decimal exponent of a positive finite number.
fn shortest(value: f64) -> (String, i32) {
    const HIDDEN: u64 = 1 << 52;
    let bits = value.to_bits();
    let (fraction, biased) = (bits & (HIDDEN - 1), i32::try_from(bits >> 52).unwrap_or(0));
    let (f, e) = match biased {
        0 => (fraction, -1074),
        biased => (fraction | HIDDEN, biased - 1075),
    };
    // Halfway to the neighbours; below a power of two the neighbours are nearer.
    let upper = Scaled {
        f: 2 * f + 1,
        e: e - 1,
    }
    .normalized();
    let lower = if fraction == 0 && biased > 1 {
        Scaled {
            f: 4 * f - 1,
            e: e - 2,
        }
    } else {
        Scaled {
            f: 2 * f - 1,
            e: e - 1,
        }
    };
    let lower = Scaled {
        f: lower.f << (lower.e - upper.e),
        e: upper.e,
    };
    let (power, k) = power_for(upper.e);
    let value = Scaled { f, e }.normalized().times(power);
    let (lower, upper) = (lower.times(power), upper.times(power));
    digits(lower.f + 1, value.f, upper.f - 1, upper.e, -k)
}

/// A power of ten that brings the binary exponent between -60 and -32, and its decimal exponent.
fn power_for(e: i32) -> ((u64, i32), i32) {
    let f = ALPHA - e - 1;
    // Times log10(2), rounded up.
    let k = f * 78913 / (1 << 18) + i32::from(f > 0);
    let index = (k - FIRST + STEP - 1) / STEP;
    let power = usize::try_from(index).ok().and_then(|i| POWERS.get(i).copied());
    (power.unwrap_or((1 << 63, -63)), FIRST + index * STEP)
}

/// Digits of `upper * 2^e` until what is left lies between `lower` and `upper`, then the last one moved towards `value`.
fn digits(lower: u64, value: u64, upper: u64, e: i32, mut exponent: i32) -> (String, i32) {
    let shift = e.unsigned_abs();
    let mask = (1u64 << shift) - 1;
    let mut delta = upper - lower;
    let mut distance = upper - value;
    let mut whole = upper >> shift;
    let mut part = upper & mask;
    let mut out = Vec::new();
    let mut left = whole.checked_ilog10().unwrap_or(0);
    let mut unit = 10u64.pow(left);
    loop {
        out.push(whole / unit);
        whole %= unit;
        let rest = (whole << shift) + part;
        if rest <= delta {
            exponent += left.cast_signed();
            round(&mut out, distance, delta, rest, unit << shift);
            return (text(&out), exponent);
        }
        if left == 0 {
            break;
        }
        left -= 1;
        unit /= 10;
    }
    loop {
        part *= 10;
        out.push(part >> shift);
        part &= mask;
        exponent -= 1;
        delta *= 10;
        distance *= 10;
        if part <= delta {
            round(&mut out, distance, delta, part, mask + 1);
            return (text(&out), exponent);
        }
    }
}

fn round(digits: &mut [u64], distance: u64, delta: u64, mut rest: u64, unit: u64) {
    let Some(last) = digits.last_mut() else { return };
    while rest < distance
        && delta - rest >= unit
        && (rest + unit < distance || distance - rest > rest + unit - distance)
    {
        *last -= 1;
        rest += unit;
    }
}

fn text(digits: &[u64]) -> String {
    let digit = |&d: &u64| u32::try_from(d).ok().and_then(|d| char::from_digit(d, 10));
    digits.iter().filter_map(digit).collect()
}
