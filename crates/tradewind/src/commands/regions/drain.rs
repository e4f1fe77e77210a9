//! `tradewind regions drain/undrain`

use std::time::Duration;

use tokio::time::{self, Instant};
use tradewind_api::drain::{DrainAnswer, DrainRequest, UndrainRequest};
use tradewind_core::{RegionName, capacity::Fit, health::RETURN_TIME};

use crate::{
    commands::capacity,
    failure::Failure,
    session::{Session, requested_by},
    terminal::{self, Format, OutputArgs, Paint, units},
};

/// How often it is looked whether requests are still in flight.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Gateways have told by then what was in flight when they sent their users elsewhere.
const REPORTED_WITHIN: Duration = Duration::from_millis(1500);

#[derive(Debug, clap::Args)]
pub(crate) struct DrainArgs {
    region: RegionName,
    /// Say where its users would go, whether they fit and how long it takes; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Also when the users do not fit elsewhere
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UndrainArgs {
    region: RegionName,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

pub(super) async fn drain(args: DrainArgs, session: &Session) -> Result<(), Failure> {
    let DrainArgs { region, dry_run, force, output } = args;
    let began = Instant::now();
    let request = DrainRequest { dry_run, force, requested_by: requested_by() };
    let answer = session.client.drain(&region, &request).await?;
    if output.format == Format::Json {
        return terminal::print_json(&answer);
    }
    if !answer.changed && !dry_run {
        return terminal::say(&format!("{region} is drained already"));
    }
    terminal::print(&plan(&answer, Paint::for_stdout()))?;
    if dry_run {
        let force = if answer.failover.fit == Fit::DoesNotFit { " --force" } else { "" };
        return terminal::say(&format!("  nothing was changed. To do it: tradewind regions drain {region}{force}"));
    }
    let limit = Duration::from_millis(answer.estimate.moved_ms + answer.estimate.limit_ms);
    tokio::select! {
        ended = until_idle(session, &region, began, limit) => ended,
        _ = tokio::signal::ctrl_c() => terminal::say(&format!(
            "\n  {region} is drained; what is in flight there goes on: see it with tradewind status MODEL"
        )),
    }
}

fn plan(answer: &DrainAnswer, paint: Paint) -> String {
    let DrainAnswer { region, failover, estimate, .. } = answer;
    if failover.models.is_empty() {
        return format!("  {region} serves no users now\n");
    }
    let would = if answer.drained { "" } else { "would " };
    let mut text = format!("  users of {region} {would}go to {}\n\n", capacity::phrase(failover));
    text += &capacity::table(failover).render(paint);
    let moved = units::took(Duration::from_millis(estimate.moved_ms));
    text += &format!("\n  users are elsewhere within {moved}; ");
    text += &match estimate.answered_ms {
        Some(ms) => format!(
            "99 of 100 requests in flight here are answered {} later, any inference within {}\n",
            units::took(Duration::from_millis(ms)),
            units::seconds(Duration::from_millis(estimate.limit_ms)),
        ),
        None => "nothing is in flight here now\n".to_owned(),
    };
    text
}

/// Waits until the region's replicas have answered everything.
async fn until_idle(session: &Session, region: &RegionName, began: Instant, limit: Duration) -> Result<(), Failure> {
    let mut idle_since: Option<Instant> = None;
    loop {
        let world = session.client.world().await?;
        let health: Vec<_> = world.models.iter().filter_map(|model| model.health.get(region)).collect();
        let in_flight: u32 = health.iter().filter_map(|health| health.capacity).map(|known| known.in_flight_now).sum();
        let elsewhere = health.iter().all(|health| health.users_go_to.as_ref() != Some(region));
        idle_since = if in_flight == 0 && elsewhere { idle_since.or_else(|| Some(Instant::now())) } else { None };
        if let Some(since) = idle_since.filter(|since| since.elapsed() >= REPORTED_WITHIN) {
            let took = units::took(since - began);
            terminal::say(&format!("  {region} is drained: nothing is in flight there after {took}"))?;
            return terminal::say(&format!("  to let users back: tradewind regions undrain {region}"));
        }
        if began.elapsed() > limit {
            let detail = format!(
                "{region} is drained, and {} still in flight there",
                units::count(in_flight as usize, "request")
            );
            return Err(Failure::unfinished(detail)
                .hint("streams may go on for as long as their users listen; see `tradewind status MODEL`"));
        }
        time::sleep(LOOK_INTERVAL).await;
    }
}

pub(super) async fn undrain(args: UndrainArgs, session: &Session) -> Result<(), Failure> {
    let UndrainArgs { region, output } = args;
    let answer = session.client.undrain(&region, &UndrainRequest { requested_by: requested_by() }).await?;
    match output.format {
        Format::Json => terminal::print_json(&answer),
        Format::Table if answer.changed => terminal::say(&format!(
            "{region} takes users again: they return within {}. See it with tradewind status",
            units::seconds(RETURN_TIME)
        )),
        Format::Table => terminal::say(&format!("{region} is not drained")),
    }
}
