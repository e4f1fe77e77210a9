//! A world that is never left alone: users of every region ask without end, over HTTP/1.1, HTTP/2 and gRPC, and have
//! streams open, while versions are deployed and processes are told to end or killed. Only who was on what was killed
//! may notice.
//!
//! Twenty seconds of it, always the same; `cargo xtask test --long` goes on for three minutes, in an order that follows
//! from a seed. `TRADEWIND_TEST_SEED` repeats one.

mod calls;
mod crowd;
mod script;
mod streams;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use tradewind_testkit::{Load, Users, World};

use super::{INFER, ok, options, request};
use script::{Disturbance, Script};

const SHORT: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(10);
/// Users of a region over HTTP/1.1; over HTTP/2 and gRPC there is one each.
const USERS: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_notice_nothing_of_what_goes_on() -> Result<()> {
    let long = std::env::var_os("TRADEWIND_TEST_LONG").is_some();
    let seed = seed(long)?;
    let (regions, time) = if long {
        (&["us-east1", "europe-west1", "asia-northeast1"][..], LONG)
    } else {
        (&["us-east1", "europe-west1"][..], SHORT)
    };
    say(&format!("seed {seed}"));
    endure(regions, time, seed).await.with_context(|| format!("TRADEWIND_TEST_SEED={seed}"))
}

fn seed(random: bool) -> Result<u64> {
    if let Ok(seed) = std::env::var("TRADEWIND_TEST_SEED") {
        return seed.parse().context("TRADEWIND_TEST_SEED is a number");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(if random { u64::from(now.subsec_nanos()) } else { 1 })
}

#[expect(clippy::print_stderr, reason = "whoever runs a long test wants to know how it goes")]
fn say(text: &str) {
    eprintln!("{text}");
}

async fn endure(regions: &[&str], time: Duration, seed: u64) -> Result<()> {
    let world = World::start(options(regions)).await?;
    let mut script = Script::begin(&world, regions, seed).await?;
    let gateways = world.gateways()?;
    // Who is cut off asks the same gateway again: there is no other of its region.
    let users = gateways.iter().map(|(region, gateway)| Users {
        region: region.clone(),
        gateways: vec![gateway.clone(); 3],
        count: USERS,
    });
    let load = Load::of(&users.collect::<Vec<_>>(), PAUSE, INFER, &request()?)?;
    let calls = calls::start(&gateways, PAUSE, &request()?)?;
    let streams = streams::start(&gateways)?;

    let end = Instant::now() + time;
    while Instant::now() < end {
        script.disturb(&world, &load).await?;
    }
    let disturbances = script.end(&world).await?;
    let (report, calls, streams) = (load.stop().await, calls.stop().await?, streams.stop().await?);
    ok(&world, "status").await?;

    let answers = &report.answers;
    let broken = |count: usize, of: usize, what: &str| format!("{count} of {of} {what} were cut off and asked again");
    say(&broken(answers.iter().filter(|answer| answer.broken.is_some()).count(), answers.len(), "requests"));
    say(&broken(calls.iter().filter(|call| call.broken.is_some()).count(), calls.len(), "calls"));
    let cut = streams.iter().filter(|stream| stream.cut.is_some()).count();
    say(&format!("{cut} of {} streams were cut; the slowest answer took {:?}", streams.len(), report.quantile(1.0)));

    let mut faults: Vec<String> = Vec::new();
    let mut judge = |what: &str, region: &str, at: (Instant, Instant), why: &str, excused: bool| {
        if !excused {
            let during: Vec<_> = disturbances.iter().filter(|each| each.during(at)).map(|each| &each.what).collect();
            faults.push(format!("{what} of {region} after {:?}: {why}; during {during:?}", at.1 - at.0));
        }
    };
    for answer in answers {
        let (at, region) = ((answer.at - answer.took, answer.at), answer.asked.as_str());
        let excused = answer.failure.is_none() && disturbances.iter().any(|each| each.excuses_request(region, at));
        if let Some(why) = answer.failure.as_ref().or(answer.broken.as_ref()) {
            judge("a request", region, at, why, excused);
        }
    }
    for call in &calls {
        let at = (call.at - call.took, call.at);
        let excused = call.failure.is_none() && disturbances.iter().any(|each| each.excuses_request(&call.region, at));
        if let Some(why) = call.failure.as_ref().or(call.broken.as_ref()) {
            judge("a call", &call.region, at, why, excused);
        }
    }
    for stream in &streams {
        let at = (stream.began, stream.ended);
        if let Some(why) = &stream.cut {
            let excused = disturbances.iter().any(|each| each.excuses_stream(&stream.region, &stream.server, at));
            judge("a stream", &stream.region, at, why, excused);
        }
    }
    ensure!(faults.is_empty(), "{} faults:\n{}\n{}", faults.len(), faults.join("\n"), Disturbance::list(&disturbances));
    ensure!(answers.len() > 100 && calls.len() > 100 && streams.len() > 2, "hardly anybody asked");
    Ok(())
}
