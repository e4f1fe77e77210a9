//! A story as people read it: the time line, where everything stands at the end, and what users get.

use tradewind_core::{
    RegionName,
    duration::Span,
    rollout::RegionPhase,
    simulate::{Ending, Outcome, RegionEnding, Scenario, Story},
};

use crate::terminal::{Paint, Table, Tone, table::Cell, units};

pub(super) fn page(scenario: &Scenario, story: &Story) -> String {
    let paint = Paint::for_stdout();
    let mut text = format!("{}\n{}\n", head(scenario), timeline(story).render(paint));
    text += &format!("{}\n", table(&story.ending).render(paint));
    text + &format!("  {}\n", conclusion(&story.ending))
}

/// What is played, in one line, and what goes wrong in others.
fn head(scenario: &Scenario) -> String {
    let Scenario { model, regions, strategy, replaces, faults, decisions, .. } = scenario;
    let before = if *replaces { "revision 2 replaces revision 1" } else { "revision 1 is the first" };
    let mut text = format!(
        "{model}  {before} in {}  {}, soak {}\n",
        units::count(regions.len(), "region"),
        strategy.summary(),
        strategy.soak
    );
    let lists = [
        ("faults", faults.iter().map(ToString::to_string).collect::<Vec<_>>()),
        ("decisions", decisions.iter().map(ToString::to_string).collect()),
    ];
    for (what, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
        text += &format!("  {what}: {}\n", list.join(", "));
    }
    text
}

fn timeline(story: &Story) -> Table {
    let mut table = Table::bare();
    let times: Vec<String> = story.timeline.iter().map(|moment| clock(moment.at)).collect();
    let width = times.iter().map(String::len).max().unwrap_or(0);
    for (time, moment) in times.iter().zip(&story.timeline) {
        let region = moment.region.as_ref().map_or("", RegionName::as_str);
        table.row([Cell::new(format!("{time:>width$}"), Tone::Faint), region.into(), moment.text.as_str().into()]);
    }
    table
}

/// `+0:30`, `+1:02:03`
fn clock(at: Span) -> String {
    let seconds = at.as_millis() / 1000;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("+{hours}:{minutes:02}:{seconds:02}") } else { format!("+{minutes}:{seconds:02}") }
}

fn table(ending: &Ending) -> Table {
    let revision = format!("REVISION {}", ending.revision);
    let mut table = Table::new(&["REGION", &revision, "EPOCH", "USERS THERE GET"]);
    for RegionEnding { region, phase, gets, epoch } in &ending.regions {
        let (word, tone) = phase_word(*phase);
        let epoch = epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
        let gets = match gets {
            Some(gets) => Cell::from(gets.to_string()),
            None => Cell::new("nothing", Tone::Bad),
        };
        table.row([region.as_str().into(), Cell::new(word, tone), epoch.into(), gets]);
    }
    table
}

fn phase_word(phase: RegionPhase) -> (&'static str, Tone) {
    match phase {
        RegionPhase::Pending => ("not begun", Tone::Faint),
        RegionPhase::Deploying => ("is brought up", Tone::Notice),
        RegionPhase::ConfiguringMonitoring | RegionPhase::Verifying => ("is verified now", Tone::Notice),
        RegionPhase::Verified => ("verified", Tone::Good),
        RegionPhase::Retrying => ("is tried again", Tone::Warn),
        RegionPhase::Failed => ("failed", Tone::Bad),
        RegionPhase::Deferred => ("deferred", Tone::Warn),
    }
}

fn conclusion(ending: &Ending) -> String {
    let how = match ending.outcome {
        Outcome::Succeeded => "the rollout is done",
        Outcome::Standby => "the rollout is in standby",
        Outcome::Waits => "the rollout waits for a person",
        Outcome::Failed => "the rollout has failed",
        Outcome::RolledBack => "the rollout is rolled back",
        Outcome::Unfinished => "the simulation was cut off",
    };
    format!("{how} after {}: {}", units::seconds(ending.after.duration()), ending.sentence())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_off_a_clock() {
        let check = |seconds, expected| assert_eq!(clock(Span::from_secs(seconds)), expected);
        check(0, "+0:00");
        check(30, "+0:30");
        check(754, "+12:34");
        check(86_523, "+24:02:03");
    }
}
