//! Which users belong to a share of the traffic: the same user falls in the same bucket on every gateway.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{ModelName, RolloutNumber};

/// A place on the unit interval, in steps of 2^-64. As a share grows, those who are in it stay in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u64);

/// What spreads the users of one rollout otherwise than those of another, so that it is not always the same who try first.
pub fn salt(model: &ModelName, rollout: RolloutNumber) -> u64 {
    xxh3_64(format!("{model}/{rollout}").as_bytes())
}

impl Bucket {
    /// The bucket of a key, such as a user's. Spreads evenly; no defence against keys chosen to collide.
    pub fn of_key(salt: u64, key: &[u8]) -> Self {
        Self(xxh3_64_with_seed(key, salt))
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
            let users =
                (0..100_000).filter(|n| Bucket::of_key(7, format!("user-{n}").as_bytes()).within(share)).count();
            assert!((users as f64 / 100_000.0 - share).abs() < 0.005, "{share} of users: {users}");
        }
    }

    #[test]
    fn buckets_stay_what_they_are() {
        // Gateways of different builds must agree.
        assert_eq!(Bucket::of_request(0), Bucket(0xe220_a839_7b1d_cdaf));
        assert_eq!(Bucket::of_key(0, b"ada"), Bucket(7_574_285_342_802_214_959));
        assert_eq!(salt(&"digits".parse().unwrap(), RolloutNumber(3)), 8_177_008_640_708_593_687);
        assert_ne!(Bucket::of_key(0, b"ada"), Bucket::of_key(0, b"bob"));
        assert_ne!(Bucket::of_key(0, b"ada"), Bucket::of_key(1, b"ada"), "another rollout, other users");
    }

    proptest! {
        #[test]
        fn who_is_in_a_share_stays_in_a_larger_one(
            salt: u64,
            user in ".*",
            a in 0.0..=1.0,
            b in 0.0..=1.0,
        ) {
            let bucket = Bucket::of_key(salt, user.as_bytes());
            let (small, large) = (f64::min(a, b), f64::max(a, b));
            prop_assert!(!bucket.within(small) || bucket.within(large));
        }
    }
}
