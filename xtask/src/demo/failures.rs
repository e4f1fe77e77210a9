//! The acts in which something is killed: a region's agent and replicas, then everything of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tradewind_testkit::{Answer, Fallen, Load, Report, eventually};

use super::{
    NEAREST, USERS_PER_GATEWAY, VICTIM,
    acts::failures,
    screen::{Screen, Tone, count, seconds, time},
    stage::{Film, Stage},
    verdict::{Row, Verdict},
};

/// `status` knows of a lost region long before this.
const NOTICE_LIMIT: Duration = Duration::from_secs(30);
/// A region that is gone as a whole stays so for this long.
const DEAD_TIME: Duration = Duration::from_secs(4);
/// The design's target for moving users.
const MOVE_TARGET: Duration = Duration::from_secs(1);
/// Several times what users need to come back.
const RETURN_LIMIT: Duration = Duration::from_secs(60);
/// Users are back when all answers of this long came from their own region.
const SETTLED_TIME: Duration = Duration::from_millis(700);
/// How often the way back is looked at.
const SHARE_STEP: Duration = Duration::from_secs(2);
/// A return that is faster than this is a jump.
const GRADUAL_TIME: Duration = Duration::from_secs(3);

pub(super) async fn lose_replicas(
    stage: &mut Stage,
    screen: &mut Screen,
    verdict: &mut Verdict,
    users: &Load,
) -> Result<()> {
    screen.heading(&format!("6  kill -9: the agent and the replicas of {VICTIM} die under its users' hands"));
    let felled = stage.world.fell(VICTIM, &["agent"]).await?;
    screen.scene(Tone::Command, &format!("  $ kill -9    # {} processes", felled.processes));
    eventually("status says where the users go", NOTICE_LIMIT, || stage.users_went(VICTIM, NEAREST)).await?;
    stage.tradewind(screen, Film::Nothing, &["status"]).await?;
    let report = users.since(felled.at);
    let moved = first_from_elsewhere(&report).context("no user was moved")?;
    let took = moved.at - felled.at;
    let where_to = places(&report.of(VICTIM), VICTIM);
    verdict.promise(
        screen,
        took <= MOVE_TARGET && where_to == [NEAREST],
        &format!("users of {VICTIM} were answered by {} after {}", where_to.join(" and "), time(took)),
    );
    let fine = report.failures().is_empty();
    verdict.promise(
        screen,
        fine,
        &format!("{} meanwhile, {}", count(report.answers.len(), "request"), failures(&report)),
    );
    verdict.row(Row {
        what: format!("kill -9 agent, replicas of {VICTIM}"),
        requests: Some(report.answers.len()),
        failures: report.failures().len(),
        times: format!("moved after {}", time(took)),
    });
    come_back(stage, screen, verdict, users, &felled.fallen, "its agent").await
}

pub(super) async fn lose_region(
    stage: &mut Stage,
    screen: &mut Screen,
    verdict: &mut Verdict,
    users: &Load,
) -> Result<()> {
    screen.heading(&format!("7  kill -9: everything of {VICTIM}, the gateway too; its users have lost their entry"));
    let felled = stage.world.fell(VICTIM, &["gateway", "agent"]).await?;
    screen.scene(Tone::Command, &format!("  $ kill -9    # {} processes", felled.processes));
    tokio::time::sleep(DEAD_TIME).await;
    let report = users.since(felled.at);
    let own = report.of(VICTIM);
    let elsewhere = Report { answers: report.answers.iter().filter(|a| a.asked.as_str() != VICTIM).cloned().collect() };
    let broken: Vec<&Answer> = own.answers.iter().filter(|answer| answer.broken.is_some()).collect();
    let in_flight = broken.iter().filter(|answer| answer.at - answer.took <= felled.at).count();
    // `up` holds the gateway's socket until it sees that its process has ended.
    let at_the_door = broken.len() - in_flight;
    let late = broken.iter().filter(|answer| answer.at > felled.at + MOVE_TARGET).count();
    let moved = own.answers.iter().find(|answer| answer.failure.is_none() && answer.entry > 0);
    let took = moved.context("no user went to another gateway")?.at - felled.at;
    verdict.promise(
        screen,
        elsewhere.failures().is_empty(),
        &format!("users elsewhere: {}, {}", count(elsewhere.answers.len(), "request"), failures(&elsewhere)),
    );
    verdict.promise(
        screen,
        in_flight <= USERS_PER_GATEWAY && late == 0,
        &format!(
            "users of {VICTIM}: {} in flight broke off, {at_the_door} more at the door before it was shut",
            count(in_flight, "request")
        ),
    );
    let where_to = places(&own, VICTIM);
    verdict.promise(
        screen,
        own.failures().is_empty() && where_to == [NEAREST],
        &format!(
            "through the second address that they know: {}, {}, by {} from {} on",
            count(own.answers.len(), "request"),
            failures(&own),
            where_to.join(" and "),
            time(took)
        ),
    );
    verdict.row(Row {
        what: format!("kill -9 everything of {VICTIM}"),
        requests: Some(report.answers.len()),
        failures: report.failures().len(),
        times: format!("at the next entry after {}, {in_flight} in flight broke off", time(took)),
    });
    come_back(stage, screen, verdict, users, &felled.fallen, "its gateway and its agent").await
}

/// Starts what was killed, and watches the users return.
async fn come_back(
    stage: &mut Stage,
    screen: &mut Screen,
    verdict: &mut Verdict,
    users: &Load,
    fallen: &[Fallen],
    what: &str,
) -> Result<()> {
    screen.scene(Tone::Plain, &format!("  {VICTIM} comes back: {what} started again, by the same command lines"));
    let began = Instant::now();
    stage.start_again(VICTIM, fallen).await?;
    let home = |answer: &Answer| answer.region.as_deref() == Some(VICTIM);
    eventually("users are back in their region", RETURN_LIMIT, || async {
        let now = Instant::now();
        let recent = users.since(now.checked_sub(SETTLED_TIME)?).of(VICTIM);
        (now > began + SETTLED_TIME && !recent.answers.is_empty() && recent.answers.iter().all(home)).then_some(())
    })
    .await?;
    let report = users.since(began);
    let own = report.of(VICTIM);
    let first = own.answers.iter().find(|answer| home(answer)).context("nobody came back")?.at;
    let last = own.answers.iter().rfind(|answer| !home(answer)).map_or(first, |answer| answer.at);
    let returning = last.saturating_duration_since(first);
    verdict.promise(
        screen,
        returning >= GRADUAL_TIME && report.failures().is_empty(),
        &format!(
            "first users back after {}, the last {} later; {}, {}",
            seconds(first - began),
            seconds(returning),
            count(report.answers.len(), "request"),
            failures(&report)
        ),
    );
    let shares = shares(&own.since(first), first, home);
    screen
        .measured(true, &format!("share that {VICTIM} served, each {} s: {}", SHARE_STEP.as_secs(), shares.join(" ")));
    verdict.row(Row {
        what: format!("{VICTIM} comes back"),
        requests: Some(report.answers.len()),
        failures: report.failures().len(),
        times: format!("first users after {}, all after {}", seconds(first - began), seconds(last.max(first) - began)),
    });
    Ok(())
}

fn first_from_elsewhere(report: &Report) -> Option<&Answer> {
    let elsewhere = |answer: &&Answer| {
        answer.asked.as_str() == VICTIM && answer.region.as_deref().is_some_and(|region| region != VICTIM)
    };
    report.answers.iter().find(elsewhere)
}

/// The regions that answered, but this one, whose last answers were under way.
fn places(report: &Report, except: &str) -> Vec<String> {
    report.tally().by_region.into_keys().filter(|region| region != except).collect()
}

fn shares(report: &Report, from: Instant, home: impl Fn(&Answer) -> bool) -> Vec<String> {
    let mut steps: Vec<(usize, usize)> = Vec::new();
    for answer in &report.answers {
        let step = ((answer.at - from).as_secs_f64() / SHARE_STEP.as_secs_f64()) as usize;
        steps.resize(steps.len().max(step + 1), (0, 0));
        steps[step].0 += usize::from(home(answer));
        steps[step].1 += 1;
    }
    steps.iter().map(|(home, all)| format!("{} %", home * 100 / (*all).max(1))).collect()
}
