//! How large a batch should be, from what batches of two sizes cost.
//!
//! A batch costs something to begin and something for each row. Small batches waste time on beginnings; large ones leave
//! workers idle at the end, and lose more when one fails.

/// What beginning a batch may cost, as a part of all of it.
const OVERHEAD: f64 = 0.05;
/// The least that a batch should take, in seconds.
const LEAST_SECONDS: f64 = 2.0;
/// The most that a batch should take, in seconds, unless beginning one costs more than its part.
const MOST_SECONDS: f64 = 10.0;
/// Batches of each worker with which the end is even.
const ROUNDS: f64 = 4.0;

/// What a batch of so many rows took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    pub rows: u64,
    pub seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Of each batch, at least one.
    pub rows: u64,
    /// For people: why so many.
    pub reason: String,
}

/// The number of rows of a batch; `unit` says what they are called, "rows" or "files".
///
/// Beginning a batch costs 5 % of it at most, and a batch takes 2 to 10 s; where that leaves fewer than four batches for
/// each worker they are made smaller, as far as the time that workers are idle at the end outweighs more beginnings.
pub fn decide(samples: [Measured; 2], workers: usize, total: u64, unit: &str) -> Decision {
    let [begin, each] = line(samples);
    let cost = |rows: f64| begin + each * rows;
    let seconds = (begin / OVERHEAD).clamp(LEAST_SECONDS, MOST_SECONDS.max(begin / OVERHEAD));
    let wanted = if each > 0.0 { (seconds - begin) / each } else { f64::INFINITY };

    let share = total as f64 / workers.max(1) as f64;
    // The time of a worker with n batches, the last of which ends half a batch after the others on average, is
    // n * begin + work + (begin + work / n) / 2: least where n is the square root of work / (2 * begin).
    let rounds = if begin > 0.0 { (each * share / (2.0 * begin)).sqrt().clamp(1.0, ROUNDS).floor() } else { ROUNDS };
    let even = (share / rounds).ceil();

    let rows = wanted.min(even).max(1.0).min(total.max(1) as f64).floor();
    let so = format!(
        "a batch takes {} to begin and {} for 1000 {unit}: with {rows} it takes {}",
        shown(begin),
        shown(each * 1000.0),
        shown(cost(rows))
    );
    let because = if rows < wanted.floor() {
        format!(", and each of {workers} workers gets {rounds}")
    } else if rows > 1.0 && seconds > LEAST_SECONDS {
        format!(", {:.0} % of it to begin", 100.0 * begin / cost(rows))
    } else {
        String::new()
    };
    Decision { rows: rows as u64, reason: so + &because }
}

/// What a batch costs to begin and for each row, in seconds, neither of them negative.
fn line([a, b]: [Measured; 2]) -> [f64; 2] {
    let (small, large) = if a.rows <= b.rows { (a, b) } else { (b, a) };
    let is_time = |seconds: f64| if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    let (first, second) = (is_time(small.seconds), is_time(large.seconds));
    let apart = large.rows - small.rows;
    let each = if apart == 0 { 0.0 } else { ((second - first) / apart as f64).max(0.0) };
    let begin = first - each * small.rows as f64;
    if begin >= 0.0 {
        return [begin, each];
    }
    // The larger one took more than its part longer: nothing is seen of the beginning.
    [0.0, second / large.rows as f64]
}

fn shown(seconds: f64) -> String {
    if seconds >= 1.0 { format!("{seconds:.1} s") } else { format!("{:.1} ms", seconds * 1000.0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decides by samples that lie on a line.
    fn decided(begin: f64, each: f64, workers: usize, total: u64) -> Decision {
        let measured = |rows: u64| Measured { rows, seconds: begin + each * rows as f64 };
        decide([measured(1000), measured(10_000)], workers, total, "rows")
    }

    #[test]
    fn batches_take_seconds_and_beginnings_are_a_small_part() {
        for (begin, each, workers, total, rows) in [
            // Nothing to begin: two seconds.
            (0.0, 1e-4, 2, 10_000_000, 20_000),
            // 0.1 s to begin is 5 % of 2 s.
            (0.1, 1e-4, 2, 10_000_000, 19_000),
            // 0.3 s to begin asks for 6 s.
            (0.3, 1e-4, 2, 10_000_000, 57_000),
            // A second asks for 20 s, more than a batch takes otherwise.
            (1.0, 1e-4, 2, 100_000_000, 190_000),
            // Four for each worker.
            (0.001, 1e-4, 2, 16_000, 2000),
            // Beginnings cost as much as all of the work: one for each worker.
            (1.0, 1e-4, 4, 40_000, 10_000),
            // Each row takes a minute.
            (0.0, 60.0, 2, 1000, 1),
            // Cost does not depend on rows.
            (1.0, 0.0, 2, 1000, 500),
            // Nothing is left of the data.
            (0.1, 1e-4, 2, 0, 1),
            (0.1, 1e-4, 0, 1, 1),
        ] {
            let decision = decided(begin, each, workers, total);
            let off = (decision.rows as f64 - f64::from(rows)).abs();
            assert!(off <= 1.0, "{begin} {each} {workers} {total}: {decision:?}, not {rows}");
        }
    }

    #[test]
    fn the_reason_is_a_sentence() {
        for (decision, reason) in [
            (
                decided(0.0, 1e-4, 2, 10_000_000),
                "a batch takes 0.0 ms to begin and 100.0 ms for 1000 rows: with 20000 it takes 2.0 s",
            ),
            (
                decided(0.5, 1e-3, 2, 10_000_000),
                "a batch takes 500.0 ms to begin and 1.0 s for 1000 rows: with 9500 it takes 10.0 s, 5 % of it to begin",
            ),
            (
                decided(0.0, 1e-3, 2, 8000),
                "a batch takes 0.0 ms to begin and 1.0 s for 1000 rows: with 1000 it takes 1.0 s, \
                 and each of 2 workers gets 4",
            ),
        ] {
            assert_eq!(decision.reason, reason);
        }
    }

    #[test]
    fn a_line_is_found_in_measurements_that_are_off() {
        let measured = |rows, seconds| Measured { rows, seconds };
        for (samples, expected) in [
            ([measured(10, 2.0), measured(20, 3.0)], [1.0, 0.1]),
            ([measured(20, 3.0), measured(10, 2.0)], [1.0, 0.1]),
            // The larger one was faster.
            ([measured(10, 2.0), measured(20, 1.0)], [2.0, 0.0]),
            // More than in proportion.
            ([measured(10, 1.0), measured(20, 4.0)], [0.0, 0.2]),
            ([measured(10, 1.0), measured(10, 4.0)], [1.0, 0.0]),
            ([measured(0, f64::NAN), measured(10, -1.0)], [0.0, 0.0]),
        ] {
            assert_eq!(line(samples), expected, "{samples:?}");
        }
    }

    proptest! {
        /// Whatever was measured: a number of rows that can be, and no batch that is longer than its limits say.
        #[test]
        fn there_is_always_an_answer(
            first in (0_u64..1_000_000, 0.0_f64..1000.0), second in (0_u64..1_000_000, 0.0_f64..1000.0),
            workers in 0_usize..100, total in 0_u64..1_000_000_000,
        ) {
            let samples = [first, second].map(|(rows, seconds)| Measured { rows, seconds });
            let decision = decide(samples, workers, total, "rows");
            prop_assert!((1..=total.max(1)).contains(&decision.rows));
            let [begin, each] = line(samples);
            let seconds = begin + each * decision.rows as f64;
            let most = MOST_SECONDS.max(begin / OVERHEAD).max(begin + each);
            prop_assert!(seconds <= most * 1.001, "{} s with {:?}", seconds, decision);
        }
    }
}
