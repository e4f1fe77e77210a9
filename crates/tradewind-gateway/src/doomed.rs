//! Requests that kill replicas. One that was in flight on two of them as they died is refused for a while, so that it
//! does not walk through the fleet.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use crate::clock::Millis;

/// A fingerprint is refused for this long.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// The most fingerprints that are remembered.
const REMEMBERED: usize = 1024;

type Fingerprint = [u8; 32];

#[derive(Debug, Default)]
pub(crate) struct Doomed {
    until: ArcSwap<HashMap<Fingerprint, Millis>>,
}

impl Doomed {
    /// Whether such a request is refused now. Costs nothing as long as there is none.
    pub(crate) fn contains(&self, model: &str, body: &[u8]) -> bool {
        let known = self.until.load();
        !known.is_empty() && known.get(&fingerprint(model, body)).is_some_and(|until| *until > Millis::now())
    }

    pub(crate) fn add(&self, model: &str, body: &[u8]) {
        let now = Millis::now();
        let fingerprint = fingerprint(model, body);
        self.until.rcu(|known| {
            let mut next: HashMap<_, _> =
                known.iter().filter(|(_, until)| **until > now).map(|(f, u)| (*f, *u)).collect();
            if next.len() < REMEMBERED {
                next.insert(fingerprint, now.after(REFUSED_FOR));
            }
            Arc::new(next)
        });
    }

    /// Lets go of what is no longer refused.
    pub(crate) fn sweep(&self) {
        let now = Millis::now();
        if self.until.load().values().any(|until| *until <= now) {
            self.until.rcu(|known| {
                let left = known.iter().filter(|(_, until)| **until > now);
                Arc::new(left.map(|(fingerprint, until)| (*fingerprint, *until)).collect::<HashMap<_, _>>())
            });
        }
    }
}

fn fingerprint(model: &str, body: &[u8]) -> Fingerprint {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(model.len() as u64).to_le_bytes()).update(model.as_bytes()).update(body);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_request_for_the_same_model_is_refused() {
        let doomed = Doomed::default();
        assert!(!doomed.contains("digits", b"{}"));
        doomed.add("digits", b"{}");
        assert!(doomed.contains("digits", b"{}"));
        assert!(!doomed.contains("digits", b"{ }"));
        assert!(!doomed.contains("digit", b"s{}"));
        for n in 0..2 * REMEMBERED {
            doomed.add("m", n.to_string().as_bytes());
        }
        assert!(doomed.until.load().len() <= REMEMBERED && doomed.contains("digits", b"{}"));
    }
}
