//! What a drill's record learns from one look to the next.

use std::time::Duration;

use super::{Counted, Drill, DrillState, EndReason, TargetUse};
use crate::Timestamp;

/// Users are back when none of them was answered elsewhere for so long: longer than gateways take to report.
const QUIET: Duration = Duration::from_secs(3);
/// Who is not back by then is waited for no longer.
const RETURN_LIMIT: Duration = Duration::from_secs(60);

/// What is seen at one look.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    pub at: Timestamp,
    pub whereabouts: Whereabouts,
    /// `None` while not all gateways of the region are heard.
    pub counted: Option<Counted>,
    /// Answers that the region's users got from other regions, since the gateways started.
    pub elsewhere: u64,
    /// Of what the region's users got at home, and of what they got elsewhere, over the last minute or so.
    pub p99_at_home_us: Option<u64>,
    pub p99_elsewhere_us: Option<u64>,
    pub targets: Vec<TargetUse>,
}

/// Where the region's gateways send its users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    Home,
    Away,
    /// Not all say the same, or none is heard.
    Unclear,
}

/// What is to be written after a look.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    Nothing,
    /// The record has changed.
    Changed,
    /// It is complete.
    Complete,
}

/// A drill that is under way, and what has been seen of it.
#[derive(Debug, Clone)]
pub struct Measuring {
    pub drill: Drill,
    home_since: Option<Timestamp>,
    elsewhere: Option<u64>,
    /// When somebody was last answered elsewhere; only of what was seen.
    elsewhere_at: Option<Timestamp>,
    targets: Vec<TargetUse>,
}

impl Measuring {
    /// `since` is when whoever measures began to look.
    pub fn begin(mut drill: Drill, since: Timestamp) -> Self {
        drill.interrupted |= since > drill.started_at;
        let targets = drill.measured.targets.clone();
        Self { drill, home_since: None, elsewhere: None, elsewhere_at: None, targets }
    }

    /// Takes up what others have written meanwhile: that it was stopped.
    pub fn adopt(&mut self, state: DrillState, ended: Option<super::DrillEnd>) {
        (self.drill.state, self.drill.ended) = (state, ended);
    }

    pub fn look(&mut self, seen: &Sighting) -> Finding {
        if self.elsewhere.replace(seen.elsewhere).is_some_and(|before| seen.elsewhere > before) {
            self.elsewhere_at = Some(seen.at);
        }
        match self.drill.state {
            DrillState::Running => self.running(seen),
            DrillState::Returning => self.returning(seen),
            DrillState::Done => Finding::Complete,
        }
    }

    fn running(&mut self, seen: &Sighting) -> Finding {
        seen.targets.iter().for_each(|target| self.fill(target));
        let mut finding = Finding::Nothing;
        let measured = &mut self.drill.measured;
        // Whoever came later does not know when they moved.
        if measured.moved_ms.is_none() && seen.whereabouts == Whereabouts::Away && !self.drill.interrupted {
            measured.moved_ms = Some(millis(self.drill.started_at, seen.at));
            finding = Finding::Changed;
        }
        if seen.at >= self.drill.due() {
            self.drill = self.drill.clone().ending(self.drill.due(), EndReason::Time);
            self.close(seen);
            finding = Finding::Changed;
        }
        finding
    }

    fn fill(&mut self, target: &TargetUse) {
        let same = |known: &&mut TargetUse| known.model == target.model && known.region == target.region;
        match self.targets.iter_mut().find(same) {
            Some(known) if known.in_flight < target.in_flight => known.clone_from(target),
            Some(_) => {}
            None => self.targets.push(target.clone()),
        }
    }

    /// Notes what is known at the end, also when somebody else has ended it.
    fn close(&mut self, seen: &Sighting) {
        self.drill.measured.p99_during_us = seen.p99_elsewhere_us;
        self.drill.measured.targets = std::mem::take(&mut self.targets);
    }

    fn returning(&mut self, seen: &Sighting) -> Finding {
        let mut finding = Finding::Nothing;
        if !self.targets.is_empty() && self.drill.measured.targets != self.targets {
            self.close(seen);
            finding = Finding::Changed;
        }
        self.home_since = match seen.whereabouts {
            Whereabouts::Home => self.home_since.or(Some(seen.at)),
            Whereabouts::Away | Whereabouts::Unclear => None,
        };
        let ended_at = self.drill.ended.map_or(self.drill.started_at, |end| end.at);
        let back_at = self.home_since.map(|home| self.elsewhere_at.map_or(home, |last| last.max(home)));
        let is_back = back_at.is_some_and(|back| between(back, seen.at) >= QUIET);
        if !is_back && between(ended_at, seen.at) < RETURN_LIMIT {
            return finding;
        }
        // Who began to look when they were back already does not know since when.
        let known = !self.drill.interrupted || self.elsewhere_at.is_some();
        let measured = &mut self.drill.measured;
        measured.returned_ms = back_at.filter(|_| is_back && known).map(|back| millis(ended_at, back));
        measured.counted = seen.counted.zip(self.drill.before).and_then(|(counted, before)| counted.since(before));
        measured.p99_after_us = seen.p99_at_home_us;
        self.drill.state = DrillState::Done;
        Finding::Complete
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

fn millis(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(between(from, to).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        DrillNumber,
        capacity::Failover,
        drill::{DrillEnd, DrillEstimate, Measured},
        duration::Span,
    };

    const HERE: Whereabouts = Whereabouts::Home;
    const AWAY: Whereabouts = Whereabouts::Away;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
    }

    fn drill() -> Drill {
        Drill {
            number: DrillNumber(1),
            region: "us-east1".parse().unwrap(),
            lasts: Span::from_secs(30),
            started_at: at(0),
            started_by: "ada@engine".to_owned(),
            forced: false,
            state: DrillState::Running,
            ended: None,
            estimate: DrillEstimate::of(Failover::of(Vec::new()), None, None, &[]),
            before: Some(Counted { requests: 100, failed: 1, ..Counted::default() }),
            measured: Measured::default(),
            interrupted: false,
        }
    }

    fn seen(millis: i64, whereabouts: Whereabouts, elsewhere: u64) -> Sighting {
        let counted = Counted { requests: 100 + elsewhere, failed: 1, ..Counted::default() };
        let target = TargetUse {
            model: "digits".parse().unwrap(),
            region: "europe-west1".parse().unwrap(),
            in_flight: elsewhere as f64,
            utilisation: None,
        };
        let targets = vec![target];
        let (p99_at_home_us, p99_elsewhere_us) = (Some(7), Some(9));
        let at = at(millis);
        Sighting { at, whereabouts, counted: Some(counted), elsewhere, p99_at_home_us, p99_elsewhere_us, targets }
    }

    fn watch(measuring: &mut Measuring, steps: &[(i64, Whereabouts, u64)]) -> Vec<Finding> {
        steps.iter().map(|(millis, place, elsewhere)| measuring.look(&seen(*millis, *place, *elsewhere))).collect()
    }

    #[test]
    fn a_drill_is_measured_from_its_start_to_the_last_return() {
        let mut measuring = Measuring::begin(drill(), at(-1000));
        let steps = [
            (100, HERE, 0),
            (200, AWAY, 0),
            (15_000, AWAY, 900),
            (30_050, AWAY, 1000),
            (30_200, HERE, 1010),
            (38_000, HERE, 1100),
            (40_000, HERE, 1100),
            (41_100, HERE, 1100),
        ];
        let findings = watch(&mut measuring, &steps);
        let (nothing, changed) = (Finding::Nothing, Finding::Changed);
        let expected = [&nothing, &changed, &nothing, &changed, &nothing, &nothing, &nothing, &Finding::Complete];
        assert_eq!(findings.iter().collect::<Vec<_>>(), expected);
        let Drill { state, ended, measured, interrupted, .. } = measuring.drill;
        assert_eq!((state, interrupted), (DrillState::Done, false));
        assert_eq!(ended, Some(DrillEnd { at: at(30_000), reason: EndReason::Time }));
        assert_eq!((measured.moved_ms, measured.returned_ms), (Some(200), Some(8000)));
        assert_eq!(measured.counted.map(|counted| (counted.requests, counted.failed)), Some((1100, 0)));
        assert_eq!(measured.targets.iter().map(|target| target.in_flight).collect::<Vec<_>>(), [1000.0]);
        assert_eq!((measured.p99_during_us, measured.p99_after_us), (Some(9), Some(7)));
    }

    #[test]
    fn one_that_is_stopped_is_measured_too() {
        let mut measuring = Measuring::begin(drill(), at(-1000));
        watch(&mut measuring, &[(200, AWAY, 0), (5000, AWAY, 40)]);
        let stopped = drill().ending(at(5100), EndReason::Stopped);
        measuring.adopt(stopped.state, stopped.ended);
        let findings = watch(&mut measuring, &[(5200, HERE, 41), (5300, HERE, 41), (8200, HERE, 41)]);
        assert_eq!(findings, [Finding::Changed, Finding::Nothing, Finding::Complete]);
        assert_eq!(measuring.drill.measured.returned_ms, Some(100));
        assert_eq!(measuring.drill.measured.targets.len(), 1);
    }

    #[test]
    fn who_came_later_says_only_what_it_saw() {
        let mut measuring = Measuring::begin(drill(), at(12_000));
        assert!(measuring.drill.interrupted);
        watch(&mut measuring, &[(12_100, AWAY, 50), (30_100, AWAY, 80), (30_200, HERE, 80)]);
        assert_eq!(measuring.drill.measured.moved_ms, None);
        // It saw somebody answered elsewhere, so it knows when that ended.
        let findings = watch(&mut measuring, &[(32_000, HERE, 81), (35_100, HERE, 81)]);
        assert_eq!(findings.last(), Some(&Finding::Complete));
        assert_eq!(measuring.drill.measured.returned_ms, Some(2000));

        let long_over = drill();
        let mut measuring = Measuring::begin(long_over, at(90_000));
        let findings = watch(&mut measuring, &[(90_100, HERE, 80), (90_200, HERE, 80)]);
        assert_eq!(findings, [Finding::Changed, Finding::Complete], "it is not waited for");
        assert_eq!((measuring.drill.measured.returned_ms, measuring.drill.state), (None, DrillState::Done));
        assert_eq!(measuring.drill.ended.map(|end| end.at), Some(at(30_000)), "gateways ended it by themselves then");
    }

    #[test]
    fn users_who_do_not_return_are_waited_for_so_long_and_no_longer() {
        let mut measuring = Measuring::begin(drill(), at(-1000));
        let findings = watch(&mut measuring, &[(30_000, AWAY, 5), (89_000, AWAY, 99), (90_000, AWAY, 101)]);
        assert_eq!(findings, [Finding::Changed, Finding::Nothing, Finding::Complete]);
        assert_eq!(measuring.drill.measured.returned_ms, None);
    }

    #[test]
    fn a_gateway_that_counts_anew_leaves_the_number_unknown() {
        let mut measuring = Measuring::begin(drill(), at(-1000));
        let restarted = Sighting { counted: Some(Counted { requests: 3, ..Counted::default() }), ..seen(0, HERE, 0) };
        for millis in [30_000, 30_100, 33_200] {
            measuring.look(&Sighting { at: at(millis), ..restarted.clone() });
        }
        assert_eq!((measuring.drill.state, measuring.drill.measured.counted), (DrillState::Done, None));
    }

    #[test]
    fn earlier_drills_say_how_long_it_takes() {
        let took = |moved_ms| Drill { measured: Measured { moved_ms, ..Measured::default() }, ..drill() };
        let of = |earlier: &[Drill]| crate::drill::moving_ms(&earlier.iter().collect::<Vec<_>>());
        assert_eq!(of(&[]), 1000);
        assert_eq!(of(&[took(None)]), 1000);
        assert_eq!(of(&[took(Some(90)), took(Some(240)), took(None)]), 480);
        let mut many = vec![took(Some(5000))];
        many.extend([1, 2, 3, 4, 5].map(|ms| took(Some(ms))));
        assert_eq!(of(&many), 10, "of the last ones");
    }
}
