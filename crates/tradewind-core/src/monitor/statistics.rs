//! How much counts prove. Few requests prove little, however bad they look.
//!
//! Evidence is measured by the likelihood ratio: how much more likely the counts are under what they show than under what is to
//! be disproved, as a natural logarithm. By Chernoff's bound that is also how rare they would be by chance, also where the
//! counts are few and the shares small, which is where the usual intervals of the normal distribution fail.

/// So much evidence is a proof: by chance alone, once in two thousand looks at most (e^-7.6). Looks at sliding windows overlap, so
/// false alarms are rarer than looks would suggest.
pub const PROOF: f64 = 7.6;

/// How much `hits` of `total` speak against a true share of `share`.
fn evidence(hits: u64, total: u64, share: f64) -> f64 {
    let term = |count: u64, expected: f64| match count {
        0 => 0.0,
        // Infinite where it was said to be impossible.
        count => count as f64 * (count as f64 / (expected * total as f64)).ln(),
    };
    let hits = hits.min(total);
    term(hits, share) + term(total - hits, 1.0 - share)
}

fn share((hits, total): (u64, u64)) -> f64 {
    if total == 0 { 0.0 } else { hits.min(total) as f64 / total as f64 }
}

/// Whether the counts prove a share above `limit`.
pub fn exceeds(hits: u64, total: u64, limit: f64) -> bool {
    share((hits, total)) > limit && evidence(hits, total, limit) > PROOF
}

/// Whether the first share is proved to be larger than the second: their counts speak against one share of both.
pub fn larger(one: (u64, u64), other: (u64, u64)) -> bool {
    let both = (one.0.saturating_add(other.0), one.1.saturating_add(other.1));
    let against = |counts: (u64, u64)| evidence(counts.0, counts.1, share(both));
    one.1 > 0 && other.1 > 0 && share(one) > share(other) && against(one) + against(other) > PROOF
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn few_counts_prove_little() {
        assert!(!exceeds(1, 1, 0.1));
        assert!(!exceeds(1, 10, 0.0144));
        assert!(exceeds(4, 10, 0.0144));
        assert!(exceeds(10, 10, 0.4));
        assert!(!exceeds(10, 1000, 0.0144));
        assert!(exceeds(40, 1000, 0.0144));
        assert!(!exceeds(0, 0, 0.0) && exceeds(1, 1, 0.0) && !exceeds(5, 5, 1.0));
    }

    #[test]
    fn shares_differ_only_if_their_counts_say_so() {
        assert!(larger((50, 1000), (10, 1000)));
        assert!(!larger((12, 1000), (10, 1000)));
        assert!(!larger((10, 1000), (50, 1000)));
        assert!(larger((9, 10), (0, 10)));
        assert!(!larger((2, 10), (0, 10)));
        assert!(!larger((5, 5), (0, 0)) && !larger((0, 0), (0, 0)));
    }

    fn drawn(draws: &mut StdRng, total: u64, share: f64) -> u64 {
        (0..total).filter(|_| draws.random_bool(share)).count() as u64
    }

    #[test]
    fn chance_alone_is_hardly_ever_taken_for_a_proof() {
        for (share, total) in [(0.001, 3000), (0.01, 300), (0.0144, 60), (0.0144, 6), (0.2, 20)] {
            let mut draws = StdRng::seed_from_u64(total);
            let wrong = (0..4000).filter(|_| exceeds(drawn(&mut draws, total, share), total, share)).count();
            assert!(wrong <= 4, "{wrong} of 4000 for {share} of {total}");
            let told =
                |draws: &mut StdRng| larger((drawn(draws, total, share), total), (drawn(draws, total, share), total));
            let wrong = (0..4000).filter(|_| told(&mut draws)).count();
            assert!(wrong <= 4, "{wrong} of 4000 comparisons for {share} of {total}");
        }
    }

    proptest! {
        #[test]
        fn more_hits_never_prove_less(total in 1_u64..10_000, hits in 0_u64..10_000, limit in 0.0..1.0) {
            let hits = hits % total;
            prop_assert!(!exceeds(hits, total, limit) || exceeds(hits + 1, total, limit));
        }

        #[test]
        fn more_of_the_same_proves_more(total in 1_u64..1000, hits in 0_u64..1000, limit in 0.001..0.999) {
            let hits = hits % (total + 1);
            prop_assert!(!exceeds(hits, total, limit) || exceeds(hits * 10, total * 10, limit));
        }

        #[test]
        fn of_two_shares_at_most_one_is_larger(a in 0_u64..1000, b in 0_u64..1000) {
            prop_assert!(!(larger((a, 1000), (b, 1000)) && larger((b, 1000), (a, 1000))));
        }
    }
}
