//! Which users belong to a share of the traffic: the same user falls in the same bucket on every gateway.

/// A place on the unit interval, in steps of 2^-64. As a share grows, those who are in it stay in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u64);

impl Bucket {
    /// The bucket of a key, such as a user's. Spreads evenly; no defence against keys chosen to collide.
    pub fn of_key(key: &[u8]) -> Self {
        // FNV-1a, whose upper bits are weak for short keys, then mixed.
        let folded = key.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(mix(folded))
    }

    /// The bucket of the n-th request of somebody without a key.
    pub fn of_request(sequence: u64) -> Self {
        Self(mix(sequence))
    }

    /// Whether this bucket is in the first `share` (0 to 1) of all buckets.
    pub fn within(self, share: f64) -> bool {
        // 2^64 is exact in floating point; the cast saturates, so a share of 1 takes all but the last bucket.
        share >= 1.0 || self.0 < (share * 2_f64.powi(64)) as u64
    }
}

/// Numbers that look random, from a seed (SplitMix64): for spreading load, never for secrets.
#[derive(Debug, Clone)]
pub struct Sequence(u64);

impl Sequence {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    #[expect(clippy::should_implement_trait, reason = "it never ends, so an Option would only be in the way")]
    pub fn next(&mut self) -> u64 {
        let value = mix(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        value
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): a
/// bijection in which every input bit changes about half of the output bits.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_share_takes_that_part_of_users_and_requests() {
        for share in [0.0, 0.01, 0.1, 0.5, 0.9, 1.0] {
            let requests = (0..100_000).filter(|n| Bucket::of_request(*n).within(share)).count() as f64;
            assert!((requests / 100_000.0 - share).abs() < 0.005, "{share} of requests: {requests}");
            let users = (0..100_000).filter(|n| Bucket::of_key(format!("user-{n}").as_bytes()).within(share)).count();
            assert!((users as f64 / 100_000.0 - share).abs() < 0.005, "{share} of users: {users}");
        }
    }

    #[test]
    fn buckets_stay_what_they_are() {
        // Gateways of different builds must agree.
        assert_eq!(Bucket::of_request(0), Bucket(0xe220_a839_7b1d_cdaf));
        assert_eq!(Bucket::of_key(b"ada"), Bucket::of_key(b"ada"));
        assert_ne!(Bucket::of_key(b"ada"), Bucket::of_key(b"bob"));
    }

    proptest! {
        #[test]
        fn who_is_in_a_share_stays_in_a_larger_one(user in ".*", a in 0.0..=1.0, b in 0.0..=1.0) {
            let bucket = Bucket::of_key(user.as_bytes());
            let (small, large) = (f64::min(a, b), f64::max(a, b));
            prop_assert!(!bucket.within(small) || bucket.within(large));
        }
    }
}
