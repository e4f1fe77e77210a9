//! The acts of the demo, in their order: deploy, ask, replace, refuse. What breaks is in `failures.rs`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use tradewind_testkit::{Caller, Load, Report, eventually};

use super::{
    NEAREST, REGIONS, VICTIM, failures,
    screen::{Screen, Tone, count, seconds, time},
    stage::{Film, INFER, Stage},
    verdict::{Row, Verdict},
};

/// A model that is in one region only, to show what distance costs.
const FAR_MODEL: &str = "digits-eu";
const FAR_INFER: &str = "/v2/models/digits-eu/infer";
const CALLS: usize = 15;
/// Users have sent so many requests before and after something happens to them.
const SOME_REQUESTS: usize = 300;
const ASKING_LIMIT: Duration = Duration::from_secs(20);

pub(super) async fn play(stage: &mut Stage, screen: &mut Screen) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    deploy(stage, screen, &mut verdict).await?;
    ask_everywhere(stage, screen, &mut verdict).await?;
    let users = stage.users()?;
    asking(&users).await?;
    replace(stage, screen, &mut verdict, &users).await?;
    refuse(stage, screen, &mut verdict, &users).await?;
    failures::lose_replicas(stage, screen, &mut verdict, &users).await?;
    failures::lose_region(stage, screen, &mut verdict, &users).await?;
    let all = users.stop().await.tally();
    verdict.row(Row {
        what: "all of it".to_owned(),
        requests: Some(all.requests),
        failures: all.failures,
        times: String::new(),
    });
    Ok(verdict)
}

async fn deploy(stage: &Stage, screen: &mut Screen, verdict: &mut Verdict) -> Result<()> {
    screen.heading("2  One command brings a model to three regions, each verified before it gets users");
    let began = Instant::now();
    let regions = REGIONS.join(",");
    let code = stage.tradewind(screen, Film::Whole, &["deploy", "--regions", &regions, "examples/digits/v1"]).await?;
    let took = began.elapsed();
    verdict.promise(screen, code == 0, &format!("exit code {code} after {}", seconds(took)));
    verdict.row(Row {
        what: "deploy digits 1 to 3 regions".to_owned(),
        requests: None,
        failures: 0,
        times: seconds(took),
    });
    Ok(())
}

async fn ask_everywhere(stage: &Stage, screen: &mut Screen, verdict: &mut Verdict) -> Result<()> {
    screen.heading("3  Users are served by the nearest region that has the model");
    let code = stage
        .tradewind(screen, Film::Nothing, &["deploy", "--regions", NEAREST, "--name", FAR_MODEL, "examples/digits/v1"])
        .await?;
    verdict.expect(screen, code == 0, &format!("exit code {code}: {FAR_MODEL} is in {NEAREST} only"));
    screen.text("");
    screen.scene(
        Tone::Faint,
        &format!("  {:<16}  {:<38}  {FAR_MODEL}, in {NEAREST} only", "USERS IN", "digits, in all regions"),
    );
    let mut requests = 0;
    for region in REGIONS {
        let near = ask(&stage.url(region, INFER), &stage.request).await?;
        let far = ask(&stage.url(region, FAR_INFER), &stage.request).await?;
        requests += 2 * CALLS;
        let right = near.by(region) && far.by(NEAREST) && near.label == 7 && far.label == 7;
        verdict.promise(screen, right, &format!("{region:<16}  {:<38}  {}", near.to_string(), far));
    }
    verdict.row(Row {
        what: "ask through each gateway".to_owned(),
        requests: Some(requests),
        failures: 0,
        times: String::new(),
    });
    Ok(())
}

struct Asked {
    regions: Vec<String>,
    label: i64,
    median: Duration,
}

impl Asked {
    fn by(&self, region: &str) -> bool {
        self.regions == [region]
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a {} from {}, p50 {}", self.label, self.regions.join(" and "), time(self.median))
    }
}

async fn ask(url: &str, body: &str) -> Result<Asked> {
    let caller = Caller::new()?;
    let mut asked = Asked { regions: Vec::new(), label: -1, median: Duration::ZERO };
    let mut times = Vec::new();
    for _ in 0..CALLS {
        let reply = caller.ask(url, body).await?;
        asked.label = reply.document["outputs"][0]["data"][0].as_i64().unwrap_or(-1);
        times.push(reply.took);
        asked.regions.push(reply.region);
    }
    asked.regions.sort();
    asked.regions.dedup();
    times.sort_unstable();
    asked.median = times[times.len() / 2];
    Ok(asked)
}

async fn replace(stage: &Stage, screen: &mut Screen, verdict: &mut Verdict, users: &Load) -> Result<()> {
    screen.heading(&format!(
        "4  A better version replaces it while {} keep asking",
        count(REGIONS.len() * super::USERS_PER_GATEWAY, "user")
    ));
    let began = Instant::now();
    let code = stage.tradewind(screen, Film::Command, &["deploy", "examples/digits/v2"]).await?;
    asking(users).await?;
    let report = users.since(began);
    let tally = report.tally();
    let when = |revision: &'static str| {
        report.answers.iter().filter(move |answer| answer.revision.as_deref() == Some(revision))
    };
    let first_new = when("2").map(|answer| answer.at).min();
    let last_old = when("1").map(|answer| answer.at).max();
    let (Some(first_new), Some(last_old)) = (first_new, last_old) else {
        verdict.promise(screen, false, &format!("users saw revisions {:?}, not 1 and then 2", tally.by_revision));
        return Ok(());
    };
    let mixed = last_old.saturating_duration_since(first_new);
    let back = went_back(&report);
    let clean = code == 0 && tally.failures == 0;
    verdict.promise(screen, clean, &format!("{} meanwhile, {}", count(tally.requests, "request"), failures(&report)));
    verdict.promise(
        screen,
        back == 0,
        &format!(
            "answers changed from revision 1 to 2 after {}, everywhere within {}; {} saw revision 1 again",
            seconds(first_new - began),
            time(mixed),
            if back == 0 { "nobody".to_owned() } else { count(back, "user") },
        ),
    );
    verdict.row(Row {
        what: "replace it by digits 2".to_owned(),
        requests: Some(tally.requests),
        failures: tally.failures,
        times: format!("switched everywhere within {}", time(mixed)),
    });
    Ok(())
}

async fn refuse(stage: &Stage, screen: &mut Screen, verdict: &mut Verdict, users: &Load) -> Result<()> {
    screen.heading("5  A version that answers wrongly is refused in the first region, and nobody ever sees it");
    let began = Instant::now();
    let code = stage.tradewind(screen, Film::Command, &["deploy", "examples/digits/v3-broken"]).await?;
    let took = began.elapsed();
    asking(users).await?;
    let report = users.since(began);
    let tally = report.tally();
    let only_the_good: Vec<&str> = tally.by_revision.keys().map(String::as_str).collect();
    verdict.promise(screen, code == 1, &format!("exit code {code} after {}", seconds(took)));
    verdict.promise(
        screen,
        tally.failures == 0 && only_the_good == ["2"],
        &format!(
            "{} meanwhile, {}, all from revision {}",
            count(tally.requests, "request"),
            failures(&report),
            only_the_good.join(" and ")
        ),
    );
    verdict.row(Row {
        what: "refuse digits 3".to_owned(),
        requests: Some(tally.requests),
        failures: tally.failures,
        times: format!("refused after {}", seconds(took)),
    });
    Ok(())
}

/// `0 failures`, or how many with the first one's words.
pub(super) fn failures(report: &Report) -> String {
    let failures = report.failures();
    let first = failures.first().and_then(|answer| answer.failure.as_deref());
    let words = first.map(|failure| format!(", the first in {}: {failure}", failures[0].asked)).unwrap_or_default();
    format!("{}{words}", count(failures.len(), "failure"))
}

/// Users who got an answer of an older revision after one of a newer.
fn went_back(report: &Report) -> usize {
    let mut newest: BTreeMap<usize, (u64, bool)> = BTreeMap::new();
    for answer in &report.answers {
        let Some(revision) = answer.revision.as_ref().and_then(|revision| revision.parse::<u64>().ok()) else {
            continue;
        };
        let (seen, back) = newest.entry(answer.user).or_default();
        *back |= revision < *seen;
        *seen = revision.max(*seen);
    }
    newest.values().filter(|(_, back)| *back).count()
}

/// Waits until users of every region have had some more answers.
pub(super) async fn asking(users: &Load) -> Result<()> {
    let began = Instant::now();
    eventually("users are answered", ASKING_LIMIT, || async {
        let tally = users.since(began);
        (tally.answers.len() >= SOME_REQUESTS && !tally.of(VICTIM).answers.is_empty()).then_some(())
    })
    .await
}
