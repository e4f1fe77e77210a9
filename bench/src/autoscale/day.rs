//! A day of users: how many ask in each quarter of an hour, where it is that time. No clock is read here.

/// One after the other around the world: how many hours its day is ahead.
pub(super) const REGIONS: [(&str, usize); 3] = [("us-east1", 0), ("europe-west1", 8), ("asia-northeast1", 16)];
pub(super) const QUARTERS: usize = 24 * 4;
/// Inferences that a replica does at once, and how many of them it does in a second.
pub(super) const AT_ONCE: u32 = 2;
const PER_SECOND: u32 = 20;

/// Requests per second by the hour: a night without any, a morning, a noon, an afternoon, an evening.
const HOURS: [u32; 24] = [0, 0, 0, 0, 0, 4, 12, 24, 40, 56, 60, 60, 36, 48, 60, 60, 56, 48, 40, 32, 24, 12, 4, 1];
/// At 15:00 twice as many ask, from one second to the next, for half an hour.
const SPIKE: std::ops::Range<usize> = 15 * 4..15 * 4 + 2;

/// Requests per second of a region's users in a quarter of the day.
pub(super) fn rate(ahead: usize, quarter: usize) -> u32 {
    let local = (quarter + ahead * 4) % QUARTERS;
    let (this, next) = (HOURS[local / 4], HOURS[(local / 4 + 1) % 24]);
    let within = u32::try_from(local % 4).unwrap_or(0);
    let usual = (this * (4 - within) + next * within) / 4;
    if SPIKE.contains(&local) { usual * 2 } else { usual }
}

/// The fewest replicas that do that work, each of them without a pause.
pub(super) fn ideal(rate: u32) -> u32 {
    rate.div_ceil(PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_a_night_a_ramp_and_a_spike_in_every_region() {
        for (_, ahead) in REGIONS {
            let local = |hour: usize| rate(ahead, (hour * 4 + QUARTERS - ahead * 4) % QUARTERS);
            assert_eq!((local(2), local(6), local(14), local(15), local(16)), (0, 12, 60, 120, 56));
        }
        let rates: Vec<u32> = (0..QUARTERS).map(|quarter| rate(0, quarter)).collect();
        assert!(rates.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) > 10).count() == 2, "{rates:?}");
        assert_eq!([0, 1, 20, 21, 120].map(ideal), [0, 1, 1, 2, 6]);
    }
}
