//! Healthy or not: how many results in a row change a verdict, and how a region takes its users back.

use std::time::Duration;

use crate::deployment::HealthPolicy;

/// A change of verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    BecameHealthy,
    BecameUnhealthy,
}

/// A verdict that changes only after enough results in a row speak against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hysteresis {
    healthy: bool,
    unhealthy_after: u32,
    healthy_after: u32,
    /// Results in a row that contradict the verdict.
    against: u32,
}

impl Hysteresis {
    /// A policy's 0 means 1: no verdict changes without a result.
    pub fn new(policy: HealthPolicy, healthy: bool) -> Self {
        Self {
            healthy,
            unhealthy_after: policy.unhealthy_after.max(1),
            healthy_after: policy.healthy_after.max(1),
            against: 0,
        }
    }

    pub fn healthy(&self) -> bool {
        self.healthy
    }

    /// Takes up another policy; the verdict and what speaks against it stay.
    pub fn adopt(&mut self, policy: HealthPolicy) {
        *self = Self { against: self.against, ..Self::new(policy, self.healthy) };
    }

    /// Takes in one result.
    pub fn observe(&mut self, ok: bool) -> Option<Transition> {
        if ok == self.healthy {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if self.healthy { self.unhealthy_after } else { self.healthy_after };
        (self.against >= needed).then(|| self.turn())
    }

    /// Something proved it down, such as a connection that could not be made: no need for a second opinion.
    pub fn condemn(&mut self) -> Option<Transition> {
        if self.healthy {
            return Some(self.turn());
        }
        self.against = 0;
        None
    }

    fn turn(&mut self) -> Transition {
        self.healthy = !self.healthy;
        self.against = 0;
        if self.healthy { Transition::BecameHealthy } else { Transition::BecameUnhealthy }
    }
}

/// The share of its own users that a region takes at once when it is healthy again.
pub const RETURN_FIRST_SHARE: f64 = 0.10;
/// After this long it takes all of them.
pub const RETURN_TIME: Duration = Duration::from_secs(10);

/// The share of its own users that a region serves so long after it became healthy again; it grows evenly from
/// [`RETURN_FIRST_SHARE`] to 1 over [`RETURN_TIME`], so that cold replicas are not flooded and a region that fails
/// again at once takes few users with it.
pub fn return_share(since: Duration) -> f64 {
    let passed = (since.as_secs_f64() / RETURN_TIME.as_secs_f64()).min(1.0);
    RETURN_FIRST_SHARE + (1.0 - RETURN_FIRST_SHARE) * passed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(unhealthy_after: u32, healthy_after: u32) -> HealthPolicy {
        HealthPolicy { unhealthy_after, healthy_after, ..HealthPolicy::default() }
    }

    /// `+` a good result, `-` a bad one, `x` a proof; upper case in the answer where the verdict changed.
    fn check(policy: HealthPolicy, script: &str, expected: &str) {
        let mut health = Hysteresis::new(policy, true);
        let seen: String = script
            .chars()
            .map(|step| {
                let transition = if step == 'x' { health.condemn() } else { health.observe(step == '+') };
                match transition {
                    Some(Transition::BecameHealthy) => 'H',
                    Some(Transition::BecameUnhealthy) => 'U',
                    None => '.',
                }
            })
            .collect();
        assert_eq!(seen, expected, "{script}");
    }

    #[test]
    fn only_results_in_a_row_change_the_verdict() {
        check(policy(2, 2), "-+-+--+-++", ".....U...H");
        check(policy(3, 1), "--+---+", ".....UH");
        check(policy(0, 0), "-+-+", "UHUH");
        check(policy(5, 2), "+x+x+++", ".U...H.");
    }

    #[test]
    fn users_return_gradually() {
        assert!((return_share(Duration::ZERO) - RETURN_FIRST_SHARE).abs() < 1e-9);
        assert!((return_share(RETURN_TIME / 2) - 0.55).abs() < 1e-9);
        assert!((return_share(Duration::MAX) - 1.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn the_share_never_shrinks(a in 0_u64..20_000, b in 0_u64..20_000) {
            let (a, b) = (a.min(b), a.max(b));
            let (a, b) = (return_share(Duration::from_millis(a)), return_share(Duration::from_millis(b)));
            prop_assert!(RETURN_FIRST_SHARE <= a && a <= b && b <= 1.0);
        }

        #[test]
        fn a_verdict_agrees_with_a_long_enough_run(
            results in proptest::collection::vec(any::<bool>(), 0..50), down in 1_u32..5, up in 1_u32..5, last in any::<bool>(),
        ) {
            let mut health = Hysteresis::new(policy(down, up), true);
            for ok in results {
                health.observe(ok);
            }
            let changes = (0..5).filter_map(|_| health.observe(last)).count();
            prop_assert!(changes <= 1);
            prop_assert_eq!(health.healthy(), last);
        }
    }
}
