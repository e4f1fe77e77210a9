//! Which of several replicas gets a request.
//!
//! Few are looked at all: the one with the fewest requests in flight wins. Of many, two are drawn and compared by the
//! hot-cold rule of Prequal (Wydrowski and others, NSDI 2024): requests in flight tell who is overloaded, latency who
//! is fast, and load averages tell neither.

/// Groups up to this size are looked at whole.
pub const SCAN_LIMIT: usize = 8;
/// A replica is hot when it has more requests in flight than this share of those seen lately. The paper's 0.84 lets
/// too many pile up on the fast ones; 0.6 herds less.
const HOT_QUANTILE: f64 = 0.6;
/// So many counts of requests in flight are remembered.
const SEEN_LIMIT: usize = 32;
/// The threshold is taken anew after so many.
const RECOUNT: usize = 8;

/// What is known of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub in_flight: u32,
    /// Of its last answers, smoothed; 0: unknown.
    pub latency_us: u64,
}

/// The candidate with the fewest requests in flight. Ties go to the `turn`-th of the tied.
pub fn least_loaded(loads: &[Load], turn: usize) -> Option<usize> {
    let least = loads.iter().map(|load| load.in_flight).min()?;
    let tied = || loads.iter().enumerate().filter(|(_, load)| load.in_flight == least).map(|(index, _)| index);
    tied().nth(turn % tied().count())
}

/// Two distinct places of `count`, from 64 random bits; `count` is at least 2.
pub fn two_of(count: usize, random: u64) -> (usize, usize) {
    let first = (random as u32 as usize) % count;
    let second = ((random >> 32) as usize) % (count - 1);
    (first, if second >= first { second + 1 } else { second })
}

/// Remembers what is a usual number of requests in flight.
#[derive(Debug, Clone, Default)]
pub struct Heat {
    seen: Vec<u32>,
    next: usize,
    threshold: u32,
}

impl Heat {
    /// Takes the cold one of two; of two cold ones the faster, of two hot ones the less loaded.
    pub fn colder(&mut self, one: Load, other: Load) -> bool {
        self.observe(one.in_flight);
        self.observe(other.in_flight);
        match (one.in_flight <= self.threshold, other.in_flight <= self.threshold) {
            (true, true) => (one.latency_us, one.in_flight) <= (other.latency_us, other.in_flight),
            (true, false) => true,
            (false, true) => false,
            (false, false) => (one.in_flight, one.latency_us) <= (other.in_flight, other.latency_us),
        }
    }

    fn observe(&mut self, in_flight: u32) {
        if self.seen.len() < SEEN_LIMIT {
            self.seen.push(in_flight);
        } else {
            self.seen[self.next % SEEN_LIMIT] = in_flight;
        }
        self.next = self.next.wrapping_add(1);
        if self.seen.len() < SEEN_LIMIT || self.next.is_multiple_of(RECOUNT) {
            let mut sorted = self.seen.clone();
            sorted.sort_unstable();
            self.threshold = sorted[((sorted.len() - 1) as f64 * HOT_QUANTILE) as usize];
        }
    }
}

/// The share of an average that a newcomer's first answers count for: it starts at the median of its group, so that
/// it is neither flooded for being idle nor starved for being unknown.
pub fn median(values: impl IntoIterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.into_iter().collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// One more answer into a smoothed latency; a weight of 1/8 follows a change within about twenty answers.
pub fn smoothed(latency_us: u64, answer_us: u64) -> u64 {
    if latency_us == 0 { answer_us.max(1) } else { (latency_us - latency_us / 8 + answer_us / 8).max(1) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load(in_flight: u32, latency_us: u64) -> Load {
        Load { in_flight, latency_us }
    }

    #[test]
    fn the_least_loaded_wins_and_ties_go_round() {
        let loads = [load(3, 1), load(1, 9), load(2, 1), load(1, 1)];
        let chosen: Vec<_> = (0..4).map(|turn| least_loaded(&loads, turn).unwrap()).collect();
        assert_eq!(chosen, [1, 3, 1, 3]);
        assert_eq!(least_loaded(&[], 0), None);
    }

    #[test]
    fn the_fast_one_wins_until_it_is_hot() {
        let mut heat = Heat::default();
        for in_flight in [0, 1, 2, 3, 4].repeat(7) {
            heat.observe(in_flight);
        }
        assert!(heat.colder(load(2, 10), load(0, 90)), "both are cold: the fast one");
        assert!(!heat.colder(load(9, 10), load(0, 90)), "the fast one is hot");
        assert!(!heat.colder(load(9, 10), load(8, 90)), "both are hot: the one with fewer in flight");
    }

    #[test]
    fn a_latency_follows_its_answers() {
        let after = (0..40).fold(1000, |latency, _| smoothed(latency, 5000));
        assert!((4800..=5000).contains(&after), "{after}");
        assert_eq!(smoothed(0, 70), 70);
        assert_eq!(median([9, 1, 5]), 5);
        assert_eq!(median([]), 0);
    }

    proptest! {
        #[test]
        fn two_are_always_two(count in 2_usize..50, random in any::<u64>()) {
            let (one, other) = two_of(count, random);
            prop_assert!(one < count && other < count && one != other);
        }

        #[test]
        fn load_stays_close_together_over_many_choices(seed in any::<u64>()) {
            // Nothing ends: with two choices the fullest of 16 stays near the average (3200 / 16 = 200).
            let mut loads = [load(0, 100); 16];
            let mut heat = Heat::default();
            let mut random = crate::traffic::Sequence::new(seed);
            for _ in 0..3200 {
                let (one, other) = two_of(loads.len(), random.next());
                let chosen = if heat.colder(loads[one], loads[other]) { one } else { other };
                loads[chosen].in_flight += 1;
            }
            let most = loads.iter().map(|load| load.in_flight).max().unwrap();
            prop_assert!(most < 240, "{most}");
        }
    }
}
