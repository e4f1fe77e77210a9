//! A rollout played through on a virtual clock: the real planner, and a world whose regions are slow, fail or fall silent
//! as they are told to.
//!
//! Nothing here knows how to roll out: [`plan`](crate::rollout::plan::plan) decides, and what it must never do is checked
//! after each step ([`Broken`]). The same scenario always gives the same story.

use crate::{ModelName, RegionName, duration::Span, rollout::strategy::Strategy};

mod control;
mod ending;
pub mod faults;
pub mod people;
mod promises;
mod region;
pub mod seed;
mod words;
mod work;
mod world;

pub use ending::{Ending, Gets, Outcome, RegionEnding, SomeUsers};
use faults::Fault;
use people::Told;
pub use promises::Broken;
use promises::Promises;
use region::later;
use world::{BEGINNING, World};

/// No simulation goes on for longer than this.
pub const HORIZON: Span = Span::from_secs(48 * 3600);
/// Nor does it take more steps than this.
pub const STEPS_LIMIT: usize = 200_000;

/// What is played through.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    pub model: ModelName,
    /// In the order of the rollout.
    pub regions: Vec<RegionName>,
    pub strategy: Strategy,
    /// Revision 1 serves in all of the regions, and revision 2 replaces it.
    pub replaces: bool,
    pub gateways_per_region: u32,
    pub durations: Durations,
    pub faults: Vec<Fault>,
    /// In the order of their times.
    pub decisions: Vec<Told>,
}

/// How long things take where nothing is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durations {
    /// Fetching the bundle and starting replicas.
    pub deploy: Span,
    pub monitor: Span,
    pub verify: Span,
    /// A gateway's taking up of a route.
    pub take_up: Span,
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            deploy: Span::from_secs(20),
            monitor: Span::from_secs(1),
            verify: Span::from_secs(2),
            take_up: Span::from_millis(100),
        }
    }
}

/// What happened, and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Story {
    pub timeline: Vec<Moment>,
    pub ending: Ending,
    /// What must never happen, and has.
    pub broken: Option<Broken>,
}

/// One line of the time line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Since the rollout began.
    pub at: Span,
    /// `None`: it concerns all.
    pub region: Option<RegionName>,
    pub text: String,
}

impl Scenario {
    /// A deploy of a new version where another one serves, one gateway in each region, and nothing goes wrong.
    pub fn new(model: ModelName, regions: Vec<RegionName>, strategy: Strategy) -> Self {
        Self {
            model,
            regions,
            strategy,
            replaces: true,
            gateways_per_region: 1,
            durations: Durations::default(),
            faults: Vec::new(),
            decisions: Vec::new(),
        }
    }
}

/// Plays a scenario through, to its end or to the limits of a simulation.
pub fn simulate(scenario: &Scenario) -> Story {
    let mut world = World::new(scenario);
    let mut promises = Promises::new(&world);
    let mut pace = Pace::of(scenario);
    // Whether anything but control has something to do now, and when it has next.
    let (mut due, mut ahead) = (true, None);
    let broken = loop {
        let happened = due && world.happen();
        if due {
            ahead = world.next_event();
        }
        let worked = world.work();
        if happened || worked.wrote {
            if let Some(broken) = promises.broken(&world) {
                break Some(broken);
            }
            pace.news();
        }
        if pace.is_over() {
            break None;
        }
        if worked.wrote {
            if pace.goes_in_circles() {
                break Some(promises.no_rest(&world));
            }
            due = true;
            continue;
        }
        let Some(next) = worked.wake_at.into_iter().chain(ahead).min() else {
            break promises.does_not_end(&world);
        };
        if ahead.is_none() && pace.is_quiet() {
            break promises.does_not_end(&world);
        }
        if next > later(BEGINNING, HORIZON.duration()) {
            pace.cut_off();
            break None;
        }
        // Whoever wants to look again at once does so in the next millisecond.
        world.now = next.max(later(world.now, Span::from_millis(1).duration()));
        due = ahead.is_some_and(|at| at <= world.now);
        pace.step();
    };
    let ending = Ending::of(&world, pace.is_over());
    Story { timeline: world.timeline, ending, broken }
}

/// How many steps were taken, and in how many of them nothing happened.
struct Pace {
    steps: usize,
    /// Steps since the clock last moved.
    rounds: usize,
    rounds_limit: usize,
    quiet: usize,
    /// Looks that the planner may take while it waits for a time that only it knows.
    quiet_limit: usize,
}

impl Pace {
    fn of(scenario: &Scenario) -> Self {
        let Strategy { soak, progress_deadline, .. } = scenario.strategy;
        // It looks four times a second at most, and waits for these at longest.
        let waits = soak.max(progress_deadline).as_millis() / 250;
        let quiet_limit = usize::try_from(waits).unwrap_or(usize::MAX).saturating_add(200);
        Self { steps: 0, rounds: 0, rounds_limit: 64 + 4 * scenario.regions.len(), quiet: 0, quiet_limit }
    }

    fn news(&mut self) {
        self.quiet = 0;
        self.rounds += 1;
        self.steps += 1;
    }

    fn step(&mut self) {
        self.quiet += 1;
        self.rounds = 0;
        self.steps += 1;
    }

    fn cut_off(&mut self) {
        self.steps = STEPS_LIMIT;
    }

    fn is_over(&self) -> bool {
        self.steps >= STEPS_LIMIT
    }

    fn goes_in_circles(&self) -> bool {
        self.rounds > self.rounds_limit
    }

    fn is_quiet(&self) -> bool {
        self.quiet > self.quiet_limit
    }
}
