//! What a verb that watches does while control does not answer: tries again with back-off, says so after a while,
//! and gives up in the end.

use std::time::Duration;

use tokio::time::Instant;
use tradewind_core::backoff::Backoff;

/// Shorter outages, such as a restart of control, are not worth a word.
pub(crate) const SAY_AFTER: Duration = Duration::from_secs(3);
/// After this long the verb gives up; what it watched goes on.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// One outage, or none.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    since: Option<Instant>,
    failures: u32,
    said: bool,
}

/// What to do about a failed attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Retry { after: Duration, say: bool },
    GiveUp,
}

impl Outage {
    pub(crate) fn failed(&mut self) -> Next {
        let now = Instant::now();
        let lasted = now - *self.since.get_or_insert(now);
        if lasted >= GIVE_UP_AFTER {
            return Next::GiveUp;
        }
        self.failures += 1;
        let say = lasted >= SAY_AFTER && !self.said;
        self.said |= say;
        Next::Retry { after: Backoff::RECONNECT.after(self.failures), say }
    }

    /// Control answers. True when people were told that it did not.
    pub(crate) fn over(&mut self) -> bool {
        std::mem::take(self).said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_once_and_given_up_in_the_end() {
        let mut outage = Outage::default();
        let started = Instant::now();
        let mut told = Vec::new();
        let gave_up = loop {
            match outage.failed() {
                Next::GiveUp => break started.elapsed(),
                Next::Retry { after, say } => {
                    if say {
                        told.push(started.elapsed());
                    }
                    tokio::time::sleep(after).await;
                }
            }
        };
        assert_eq!(told.len(), 1);
        assert!((SAY_AFTER..SAY_AFTER + Backoff::RECONNECT.limit).contains(&told[0]), "{told:?}");
        assert!((GIVE_UP_AFTER..GIVE_UP_AFTER + Backoff::RECONNECT.limit).contains(&gave_up), "{gave_up:?}");
        assert!(outage.over());
        assert!(!outage.over());
    }
}
