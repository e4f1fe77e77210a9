//! Durations as people write them: `500ms`, `1s`, `10m`, `2h`, `7d`, and sums such as `1m30s`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write 500ms, 1s, 10m, 2h or 7d")]
pub struct InvalidDuration(String);

/// A duration that reads and prints as `500ms`, `1s`, `10m`. Millisecond precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, ToSchema)]
#[schema(value_type = String, pattern = "^([0-9]+(d|h|m|s|ms))+$", examples("10m"))]
pub struct Span(u64);

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Span {
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1000)
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }

    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.duration()
    }
}

impl FromStr for Span {
    type Err = InvalidDuration;
    fn from_str(value: &str) -> Result<Self, InvalidDuration> {
        let invalid = || InvalidDuration(value.chars().take(40).collect());
        let mut rest = value;
        let mut total = 0_u64;
        while !rest.is_empty() || total == 0 && rest == value {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let count: u64 = rest[..digits].parse().map_err(|_| invalid())?;
            let after = &rest[digits..];
            let unit_length = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let (_, millis) = UNITS.iter().find(|(name, _)| *name == &after[..unit_length]).ok_or_else(invalid)?;
            total = count.checked_mul(*millis).and_then(|part| total.checked_add(part)).ok_or_else(invalid)?;
            rest = &after[unit_length..];
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (name, millis) in UNITS {
            if rest >= millis {
                write!(f, "{}{name}", rest / millis)?;
                rest %= millis;
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, millis) in
            [("500ms", 500), ("1s", 1000), ("10m", 600_000), ("1m30s", 90_000), ("7d", 604_800_000), ("0s", 0)]
        {
            assert_eq!(text.parse::<Span>().unwrap().as_millis(), millis, "{text}");
        }
        for bad in ["", "5", "s", "1 s", "-1s", "1x", "1s2", "99999999999999999999s", "18446744073709551615d", "1.5s"] {
            assert!(bad.parse::<Span>().is_err(), "{bad:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn prints_what_it_reads(millis in 0_u64..10_000_000_000) {
            prop_assert_eq!(Span(millis).to_string().parse::<Span>().unwrap(), Span(millis));
        }
    }
}
