//! Where a rollout's progress is shown: live on a terminal, plain lines elsewhere, nothing for programs.

use std::{
    collections::HashMap,
    fmt,
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tradewind_api::deploy::{RegionView, RolloutView};
use tradewind_core::{
    RegionName,
    assignment::SlotPhase,
    rollout::{RegionPhase, RolloutState},
};

use super::lines::{self, Detail, Lines};
use crate::{
    failure::Failure,
    terminal::{self, Format},
};

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Progress {
    lines: Lines,
    screen: Screen,
    begun: bool,
}

#[derive(Debug)]
enum Screen {
    /// stdout is for the JSON document, stderr for an error's.
    Silent,
    Plain,
    Live(Box<Live>),
}

impl Progress {
    pub(super) fn new(format: Format) -> Self {
        let screen = match format {
            Format::Json => Screen::Silent,
            Format::Table if io::stdout().is_terminal() => Screen::Live(Box::new(Live::new())),
            Format::Table => Screen::Plain,
        };
        let detail = if matches!(screen, Screen::Live(_)) { Detail::Region } else { Detail::Step };
        Self { lines: Lines::new(detail), screen, begun: false }
    }

    pub(super) fn show(&mut self, view: &RolloutView) -> Result<(), Failure> {
        let news = self.lines.news(view);
        for line in news {
            let gap = if std::mem::replace(&mut self.begun, true) { "" } else { "\n" };
            self.screen.print(&format!("{gap}{line}"))?;
        }
        if let Screen::Live(live) = &mut self.screen {
            live.show(view);
        }
        Ok(())
    }

    /// Something about the watching itself, not about the rollout.
    pub(super) fn notice(&self, text: &str) -> Result<(), Failure> {
        match &self.screen {
            Screen::Live(_) => self.screen.print(&format!("  {text}")),
            Screen::Silent | Screen::Plain => {
                terminal::complain(&format!("{text}\n"));
                Ok(())
            }
        }
    }

    /// Leaves the lines that were printed, and nothing that moves.
    pub(super) fn close(self) {
        if let Screen::Live(live) = self.screen {
            live.bars.into_values().for_each(|bar| bar.finish_and_clear());
            live.fleet.finish_and_clear();
        }
    }
}

impl Screen {
    fn print(&self, text: &str) -> Result<(), Failure> {
        match self {
            Self::Silent => Ok(()),
            Self::Plain => terminal::say(text),
            Self::Live(live) => live
                .all
                .println(text)
                .map_err(|error| Failure::failed("cannot write to the terminal").cause(error.to_string())),
        }
    }
}

/// A moving line for each region that is worked on, and one for what concerns all of them.
struct Live {
    all: MultiProgress,
    bars: HashMap<RegionName, ProgressBar>,
    fleet: ProgressBar,
    spinner: ProgressStyle,
    transfer: ProgressStyle,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("regions", &self.bars.keys()).finish_non_exhaustive()
    }
}

impl Live {
    fn new() -> Self {
        let style = |template| ProgressStyle::with_template(template).expect("the templates are constant");
        let spinner = style("{prefix}{spinner} {msg}");
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let fleet = all.add(ProgressBar::new_spinner().with_style(spinner.clone()));
        fleet.enable_steady_tick(TICK);
        let transfer = style("{prefix}{bar:28} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}");
        Self { all, bars: HashMap::new(), fleet, spinner, transfer }
    }

    fn show(&mut self, view: &RolloutView) {
        for region in &view.regions {
            match activity(region) {
                Some(activity) => self.draw(view, region, activity),
                None => {
                    if let Some(bar) = self.bars.remove(&region.region) {
                        bar.finish_and_clear();
                    }
                }
            }
        }
        let (label, text) = fleet_activity(view);
        self.fleet.set_prefix(lines::labelled(view, label, ""));
        self.fleet.set_message(text);
    }

    fn draw(&mut self, view: &RolloutView, region: &RegionView, activity: Activity) {
        let bar = self.bars.entry(region.region.clone()).or_insert_with(|| {
            let bar = self.all.insert_before(&self.fleet, ProgressBar::new_spinner());
            bar.set_prefix(lines::labelled(view, region.region.as_str(), ""));
            bar.enable_steady_tick(TICK);
            bar
        });
        match activity {
            Activity::Fetching { done, total } => {
                bar.set_style(self.transfer.clone());
                bar.set_length(total);
                bar.set_position(done);
            }
            Activity::Doing(what) => {
                bar.set_style(self.spinner.clone());
                bar.set_message(what);
            }
        }
    }
}

/// What a region is busy with.
enum Activity {
    Fetching { done: u64, total: u64 },
    Doing(String),
}

fn activity(region: &RegionView) -> Option<Activity> {
    let observed = region.observed.as_ref().map(|slot| &slot.phase);
    let words = match (region.phase, observed) {
        (RegionPhase::Deploying, Some(&SlotPhase::Fetching { bytes_done, bytes_total })) if bytes_total > 0 => {
            return Some(Activity::Fetching { done: bytes_done, total: bytes_total });
        }
        (RegionPhase::Deploying, Some(SlotPhase::Starting)) => "starting replicas".to_owned(),
        (RegionPhase::Deploying, Some(SlotPhase::Fetching { .. })) => "fetching".to_owned(),
        (RegionPhase::Deploying, _) => "deploying".to_owned(),
        (RegionPhase::ConfiguringMonitoring, _) => "configuring monitoring".to_owned(),
        (RegionPhase::Verifying, _) => "verifying: digest, signature, golden cases".to_owned(),
        (RegionPhase::Retrying, _) => format!("{}, trying again", lines::failed(region)),
        (RegionPhase::Pending | RegionPhase::Verified | RegionPhase::Failed | RegionPhase::Deferred, _) => return None,
    };
    Some(Activity::Doing(words))
}

fn fleet_activity(view: &RolloutView) -> (&'static str, String) {
    let acknowledged = view
        .routing
        .as_ref()
        .map(|routing| format!("epoch {}: {} of {} gateways", routing.epoch, routing.acknowledged, routing.gateways));
    match view.state {
        RolloutState::Regions => {
            let done = view.regions.iter().filter(|region| region.phase == RegionPhase::Verified).count();
            ("", format!("{done} of {} regions verified", view.regions.len()))
        }
        RolloutState::Preparing => ("routing", "preparing the gateways".to_owned()),
        RolloutState::Committing => ("routing", acknowledged.unwrap_or_else(|| "switching".to_owned())),
        RolloutState::Arming => ("monitoring", "arming".to_owned()),
        RolloutState::Soaking => {
            let users = lines::some_users(view).map(|users| format!(" with {users}")).unwrap_or_default();
            ("soak", format!("watching the new version{users}"))
        }
        RolloutState::Succeeded | RolloutState::Failed | RolloutState::Superseded => ("", String::new()),
    }
}
