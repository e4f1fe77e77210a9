//! Numbers with their units, as people read them.

use std::time::Duration;

use tradewind_core::Timestamp;

/// `18 KB`, with powers of ten as disks and networks count.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 9.95 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// How long something took: `212 ms`, `3.4 s`, `2 min 5 s`.
pub(crate) fn took(duration: Duration) -> String {
    if duration < Duration::from_secs(1) { format!("{} ms", duration.as_millis()) } else { seconds(duration) }
}

/// `0.2 s`, `2 min 5 s`, `3 h 20 min`.
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs_f64().round() as u64;
    match whole {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 if whole.is_multiple_of(60) => format!("{} min", whole / 60),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86_400, whole / 3600 % 24),
    }
}

/// One unit is enough for how long ago something was: `12 s`, `3 min`, `2 h`, `5 d`.
pub(crate) fn roughly(duration: Duration) -> String {
    let whole = duration.as_secs_f64().round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min", whole / 60),
        3600..86_400 => format!("{} h", whole / 3600),
        _ => format!("{} d", whole / 86_400),
    }
}

/// `3 min ago`
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    format!("{} ago", roughly(between(at, now)))
}

/// From the earlier to the later; nothing when clocks disagree.
pub(crate) fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

/// `2026-11-03T14:32:07Z`
pub(crate) fn clock(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// Microseconds as `1.8 ms`, or `2.10 s` when they are many.
pub(crate) fn latency(us: u64) -> String {
    if us >= 1_000_000 { format!("{:.2} s", us as f64 / 1e6) } else { format!("{:.1} ms", us as f64 / 1e3) }
}

/// `812/s`, with a digit after the point for the slow ones.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second == 0.0 || per_second >= 9.95 { format!("{per_second:.0}/s") } else { format!("{per_second:.1}/s") }
}

/// `1 region`, `2 regions`
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_carry_units() {
        assert_eq!([0, 17_924, 999_600, 1_500_000_000].map(bytes), ["0 B", "18 KB", "1.0 MB", "1.5 GB"]);
        let millis = [0, 212, 3400, 125_000, 600_000, 12_000_000].map(|ms| took(Duration::from_millis(ms)));
        assert_eq!(millis, ["0 ms", "212 ms", "3.4 s", "2 min 5 s", "10 min", "3 h 20 min"]);
        assert_eq!([640, 1_830, 2_100_000].map(latency), ["0.6 ms", "1.8 ms", "2.10 s"]);
        assert_eq!([0.0, 0.25, 811.7].map(rate), ["0/s", "0.2/s", "812/s"]);
    }

    #[test]
    fn a_clock_that_runs_behind_does_not_go_negative() {
        let now = Timestamp::from_second(1_000).unwrap();
        assert_eq!(ago(Timestamp::from_second(1_005).unwrap(), now), "0 s ago");
        assert_eq!(ago(Timestamp::from_second(700).unwrap(), now), "5 min ago");
        assert_eq!(clock(now), "1970-01-01T00:16:40Z");
    }
}
