//! How long to wait before trying again.

use std::time::Duration;

use crate::fault::Fault;

/// Longest pause that is our own choice.
const LONGEST: Duration = Duration::from_secs(10);

/// The pause before attempt `attempt + 1`: doubles, up to half of it again by chance, and not shorter than the cache asks for.
pub(crate) fn before_next(first: Duration, attempt: u32, fault: &Fault) -> Duration {
    let factor = 1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    let pause = first.saturating_mul(factor).min(LONGEST);
    let chance = getrandom::u32().unwrap_or(0);
    let jitter = pause.mul_f64(f64::from(chance) / f64::from(u32::MAX) / 2.0);
    let asked = match fault {
        Fault::Passing {
            after: Some(after), ..
        } => *after,
        _ => Duration::ZERO,
    };
    (pause + jitter).max(asked)
}

#[cfg(test)]
mod tests {
    use firn_service::ports::Trouble;

    use super::*;

    #[test]
    fn pauses() {
        let ms = Duration::from_millis;
        let fault = Fault::passing("");
        for (attempt, least, most) in [
            (1, 250, 375),
            (2, 500, 750),
            (3, 1000, 1500),
            (99, 10_000, 15_000),
        ] {
            let pause = before_next(ms(250), attempt, &fault);
            assert!(pause >= ms(least) && pause <= ms(most), "{attempt}: {pause:?}");
        }
        let asked = Fault::Passing {
            trouble: Trouble::Unreachable(String::new()),
            after: Some(ms(20_000)),
        };
        assert_eq!(before_next(ms(1), 1, &asked), ms(20_000));
    }
}
