//! A drill that takes the own region for lost. It ends when its time is over, whatever becomes of control: the time is
//! counted here, from when this gateway first hears of the drill, and what is on its disk begins none.

use tokio::time::{Instant, sleep_until};
use tradewind_api::gateway::RegionDrill;
use tradewind_core::{DrillNumber, drill::LONGEST};

#[derive(Debug, Default)]
pub(crate) struct Drill {
    /// The last one that was heard of, and until when it runs; it never begins again.
    heard: Option<(DrillNumber, Instant)>,
    /// Whether it is still to be ended.
    running: bool,
}

impl Drill {
    /// Takes in what control says now; whether that begins a drill or ends one.
    pub(crate) fn hear(&mut self, told: Option<RegionDrill>, now: Instant) -> bool {
        let ran = self.running;
        match told {
            None => self.running = false,
            Some(RegionDrill { number, lasts }) => {
                if self.heard.is_none_or(|(known, _)| known != number) {
                    let until = now + lasts.min(LONGEST).duration();
                    tracing::warn!(%number, "a drill takes this region for lost for {} ms", (until - now).as_millis());
                    self.heard = Some((number, until));
                    self.running = true;
                }
            }
        }
        if ran && !self.running {
            tracing::warn!("the drill was ended: this region serves again");
        }
        ran != self.running
    }

    pub(crate) fn runs(&self, now: Instant) -> bool {
        self.running && self.heard.is_some_and(|(_, until)| now < until)
    }

    /// Returns when the time of the drill that runs is over; never without one. Cancel-safe.
    pub(crate) async fn over(&mut self) {
        match self.heard.filter(|_| self.running) {
            Some((_, until)) => sleep_until(until).await,
            None => std::future::pending().await,
        }
        self.running = false;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tradewind_core::duration::Span;

    use super::*;

    fn told(number: u64, secs: u64) -> Option<RegionDrill> {
        Some(RegionDrill { number: DrillNumber(number), lasts: Span::from_secs(secs) })
    }

    #[tokio::test(start_paused = true)]
    async fn a_drill_ends_by_itself_and_never_begins_again() {
        let mut drill = Drill::default();
        assert!(drill.over().now_or_never().is_none(), "there is none to end");
        let begun = Instant::now();
        assert!(drill.hear(told(1, 30), begun));
        assert!(!drill.hear(told(1, 30), begun + Duration::from_secs(20)), "it is the same one");
        drill.over().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(30));
        assert!(!drill.runs(Instant::now()));
        assert!(!drill.hear(told(1, 30), Instant::now()), "control says it still");
        assert!(!drill.runs(Instant::now()));
        assert!(drill.hear(told(2, 30), Instant::now()) && drill.runs(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn control_may_end_it_before_and_never_make_it_longer_than_may_be() {
        let mut drill = Drill::default();
        drill.hear(told(1, 30), Instant::now());
        assert!(drill.hear(None, Instant::now()) && !drill.runs(Instant::now()));
        assert!(drill.over().now_or_never().is_none());
        let begun = Instant::now();
        drill.hear(told(2, 1_000_000), begun);
        drill.over().await;
        assert_eq!(begun.elapsed(), LONGEST.duration());
    }
}
