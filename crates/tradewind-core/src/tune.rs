//! Which configuration a model should have on a machine, by what was measured of each.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a model is run on one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Setup {
    pub replicas: u32,
    /// Of each replica, for one inference.
    pub threads: u32,
    /// Of one inference for several requests; 1: requests run one by one.
    pub max_batch_rows: u32,
}

impl Setup {
    /// What everything is compared with.
    pub const PLAIN: Self = Self { replicas: 1, threads: 1, max_batch_rows: 1 };

    /// How many cores it can keep busy.
    pub fn cores(self) -> u32 {
        self.replicas * self.threads
    }
}

/// What so many clients got from one setup, each asking again as soon as it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    #[serde(flatten)]
    pub setup: Setup,
    pub clients: u32,
    /// Answers a second.
    pub throughput: f64,
    pub p50_us: u64,
    pub p99_us: u64,
}

impl Measured {
    /// As fast and as much, and better in one of the two.
    fn beats(&self, other: &Self) -> bool {
        let no_worse = self.throughput >= other.throughput && self.p99_us <= other.p99_us;
        no_worse && (self.throughput > other.throughput || self.p99_us < other.p99_us)
    }
}

/// What growth a recommendation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Growth {
    /// One replica with one thread does as well as anything.
    None,
    /// More threads for each inference.
    Up,
    /// More replicas.
    Out,
    Both,
}

impl Growth {
    fn of(setup: Setup) -> Self {
        match (setup.replicas > 1, setup.threads > 1) {
            (false, false) => Self::None,
            (false, true) => Self::Up,
            (true, false) => Self::Out,
            (true, true) => Self::Both,
        }
    }
}

/// The setup to take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    pub best: Measured,
    pub growth: Growth,
    /// The most that one replica with one thread and without batches does within the same limit, if it does.
    pub plain: Option<Measured>,
    /// How many requests a replica should have in flight, so that it does what was measured and answers in time.
    pub concurrency: u32,
}

/// Measurements that differ by less are the same.
const NOISE: f64 = 0.05;

/// What nothing beats, from the quickest to the one that does the most.
pub fn frontier(measured: &[Measured]) -> Vec<Measured> {
    let unbeaten = |one: &&Measured| !measured.iter().any(|other| other.beats(one));
    let mut frontier: Vec<Measured> = measured.iter().filter(unbeaten).copied().collect();
    frontier.sort_by(|a, b| a.p99_us.cmp(&b.p99_us).then(a.throughput.total_cmp(&b.throughput)));
    frontier.dedup_by(|a, b| a.p99_us == b.p99_us && a.throughput == b.throughput);
    frontier
}

/// The setup that does the most within the limit of the slowest hundredth; of those that do as much, the one that takes the
/// fewest cores. `None` where nothing is quick enough.
pub fn recommend(measured: &[Measured], limit: Option<Duration>) -> Option<Recommendation> {
    let limit = limit.map_or(u64::MAX, |limit| u64::try_from(limit.as_micros()).unwrap_or(u64::MAX));
    let in_time = || measured.iter().filter(|one| one.p99_us <= limit);
    let most = in_time().map(|one| one.throughput).fold(0.0, f64::max);
    let as_good = in_time().filter(|one| one.throughput >= most * (1.0 - NOISE));
    let best = *as_good.min_by_key(|one| {
        let Setup { replicas, threads: _, max_batch_rows } = one.setup;
        (one.setup.cores(), replicas, max_batch_rows, one.clients)
    })?;
    let plain = in_time().filter(|one| one.setup == Setup::PLAIN);
    let plain = plain.max_by(|a, b| a.throughput.total_cmp(&b.throughput)).copied();
    let concurrency = best.clients.div_ceil(best.setup.replicas).max(1);
    Some(Recommendation { best, growth: Growth::of(best.setup), plain, concurrency })
}

/// The setups to try on so many cores: none that wants more cores than there are.
pub fn setups(cores: u32, batches: &[u32]) -> Vec<Setup> {
    let counts = || (0..32).map(|power| 1_u32 << power).take_while(|count| *count <= cores.max(1));
    let pairs = counts().flat_map(|replicas| counts().map(move |threads| (replicas, threads)));
    let fitting = pairs.filter(|(replicas, threads)| replicas * threads <= cores.max(1));
    let setups = fitting.flat_map(|(replicas, threads)| {
        batches.iter().map(move |&max_batch_rows| Setup { replicas, threads, max_batch_rows })
    });
    setups.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn setup(replicas: u32, threads: u32, max_batch_rows: u32) -> Setup {
        Setup { replicas, threads, max_batch_rows }
    }

    fn measured(setup: Setup, clients: u32, throughput: f64, p99_us: u64) -> Measured {
        Measured { setup, clients, throughput, p50_us: p99_us / 2, p99_us }
    }

    #[test]
    fn the_most_within_the_limit_is_recommended_and_compared_with_one_plain_replica() {
        let all = [
            measured(Setup::PLAIN, 1, 100.0, 10_000),
            measured(Setup::PLAIN, 8, 110.0, 80_000),
            measured(setup(1, 2, 1), 1, 180.0, 6_000),
            measured(setup(2, 1, 1), 8, 220.0, 45_000),
            measured(setup(2, 1, 64), 8, 400.0, 60_000),
        ];
        let of = |millis: Option<u64>| recommend(&all, millis.map(Duration::from_millis));
        let quick = of(Some(20)).unwrap();
        assert_eq!((quick.best.setup, quick.growth, quick.concurrency), (setup(1, 2, 1), Growth::Up, 1));
        assert_eq!(quick.plain.unwrap().throughput, 100.0);
        let relaxed = of(Some(50)).unwrap();
        assert_eq!((relaxed.best.setup, relaxed.growth, relaxed.concurrency), (setup(2, 1, 1), Growth::Out, 4));
        assert_eq!(of(None).unwrap().best.throughput, 400.0);
        assert_eq!(of(Some(1)), None);
        let places: Vec<f64> = frontier(&all).iter().map(|one| one.throughput).collect();
        assert_eq!(places, [180.0, 220.0, 400.0]);
    }

    #[test]
    fn what_does_as_much_with_fewer_cores_is_taken() {
        let all = [
            measured(setup(2, 2, 64), 16, 1000.0, 5_000),
            measured(setup(1, 1, 8), 16, 960.0, 6_000),
            measured(setup(1, 1, 64), 16, 970.0, 6_000),
        ];
        let found = recommend(&all, None).unwrap();
        assert_eq!((found.best.setup, found.growth, found.plain), (setup(1, 1, 8), Growth::None, None));
    }

    #[test]
    fn no_setup_wants_more_cores_than_there_are() {
        assert_eq!(setups(1, &[1, 64]), [Setup::PLAIN, setup(1, 1, 64)]);
        assert_eq!(setups(2, &[1]), [Setup::PLAIN, setup(1, 2, 1), setup(2, 1, 1)]);
        assert_eq!(setups(16, &[1, 8, 64]).len(), 45);
        assert!(setups(12, &[1]).iter().all(|setup| setup.cores() <= 12));
    }

    proptest! {
        #[test]
        fn nothing_on_the_frontier_is_beaten_and_everything_else_is(
            points in prop::collection::vec((1.0..1e6_f64, 1_u64..1_000_000), 1..60),
        ) {
            let all: Vec<_> = points.iter().map(|&(throughput, p99)| measured(Setup::PLAIN, 1, throughput, p99)).collect();
            let frontier = frontier(&all);
            prop_assert!(!frontier.is_empty());
            prop_assert!(frontier.is_sorted_by(|a, b| a.p99_us < b.p99_us && a.throughput < b.throughput));
            for one in &all {
                prop_assert!(frontier.contains(one) || frontier.iter().any(|other| other.beats(one)));
            }
        }
    }
}
