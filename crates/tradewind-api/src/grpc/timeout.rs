//! `grpc-timeout`: how long the client will wait, as at most eight digits and a unit.

use std::time::Duration;

pub const TIMEOUT_HEADER: &str = "grpc-timeout";
const DIGITS_LIMIT: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("grpc-timeout is up to eight digits and a unit of H, M, S, m, u or n")]
pub struct Malformed;

pub fn read(value: &[u8]) -> Result<Duration, Malformed> {
    let (unit, digits) = value.split_last().ok_or(Malformed)?;
    if digits.is_empty() || digits.len() > DIGITS_LIMIT || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    let number = digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Ok(Duration::from_secs(number * 3600)),
        b'M' => Ok(Duration::from_secs(number * 60)),
        b'S' => Ok(Duration::from_secs(number)),
        b'm' => Ok(Duration::from_millis(number)),
        b'u' => Ok(Duration::from_micros(number)),
        b'n' => Ok(Duration::from_nanos(number)),
        _ => Err(Malformed),
    }
}

/// In the finest unit that eight digits can say it in, rounded down; what no unit can say is the longest that one can.
pub fn write(timeout: Duration) -> String {
    const LIMIT: u128 = 10_u128.pow(DIGITS_LIMIT as u32);
    let seconds = u128::from(timeout.as_secs());
    let finest = [
        (timeout.as_nanos(), 'n'),
        (timeout.as_micros(), 'u'),
        (timeout.as_millis(), 'm'),
        (seconds, 'S'),
        (seconds / 60, 'M'),
    ];
    let said = finest.into_iter().find(|&(number, _)| number < LIMIT);
    let (number, unit) = said.unwrap_or(((seconds / 3600).min(LIMIT - 1), 'H'));
    format!("{number}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read() {
        for (value, expected) in [
            ("1S", Ok(Duration::from_secs(1))),
            ("99999999H", Ok(Duration::from_secs(99_999_999 * 3600))),
            ("2M", Ok(Duration::from_secs(120))),
            ("250m", Ok(Duration::from_millis(250))),
            ("1000u", Ok(Duration::from_millis(1))),
            ("0n", Ok(Duration::ZERO)),
            ("", Err(Malformed)),
            ("S", Err(Malformed)),
            ("5", Err(Malformed)),
            ("-5S", Err(Malformed)),
            ("1.5S", Err(Malformed)),
            ("100000000S", Err(Malformed)),
            ("5s", Err(Malformed)),
        ] {
            assert_eq!(read(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn timeouts_are_written_as_fine_as_they_fit() {
        for (timeout, expected) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::from_secs(60), "60000000u"),
            (Duration::from_secs(3600), "3600000m"),
            (Duration::from_secs(200_000), "200000S"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(write(timeout), expected);
            assert!(read(expected.as_bytes()).is_ok_and(|read| read <= timeout), "{expected}");
        }
    }
}
