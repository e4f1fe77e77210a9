//! Worlds of real processes: each test starts its own with `tradewind up`, uses the command line as people do, and kills
//! what may be killed.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tradewind_testkit::{Caller, Options, Output, Reply, World, eventually_ok};

mod alerts;
mod budgets;
mod closed;
mod deploys;
mod drills;
mod endurance;
mod failover;
mod journey;
mod lifecycle;
mod looks;
mod optimizing;
mod outage;
mod pins;
mod registry;
mod rollbacks;
mod scaling;
mod servers;
mod stages;
mod sync;
mod tuning;
mod wan;
mod words;

/// Ten times what any of the waits here takes on an idle machine.
const SOON: Duration = Duration::from_secs(60);
const INFER: &str = "/v2/models/digits/infer";

fn options(regions: &[&str]) -> Options {
    Options::new(env!("CARGO_BIN_EXE_tradewind")).regions(regions)
}

async fn start(regions: &[&str]) -> Result<World> {
    World::start(options(regions)).await
}

/// A world with version 1 of digits in all of its regions.
async fn serving(options: Options) -> Result<World> {
    let regions: Vec<String> = options.regions.iter().map(ToString::to_string).collect();
    let world = World::start(options).await?;
    let line = format!("deploy --max-parallel all --regions {} {}", regions.join(","), example("v1"));
    ok(&world, &line).await?;
    Ok(world)
}

fn digits() -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits");
    examples.canonicalize().expect("the examples are in the repository")
}

fn example(name: &str) -> String {
    digits().join(name).display().to_string()
}

fn request() -> Result<String> {
    Ok(std::fs::read_to_string(digits().join("request.json"))?)
}

/// Runs a verb, split at spaces, that must end well.
async fn ok(world: &World, line: &str) -> Result<Output> {
    let output = world.cli(line.split_whitespace()).await?;
    ensure!(output.code == Some(0), "`{line}` ended with {:?}:\n{}{}", output.code, output.stdout, output.stderr);
    Ok(output)
}

/// The JSON document of a verb that must end well.
async fn json(world: &World, line: &str) -> Result<Value> {
    ok(world, &format!("{line} -o json")).await?.json()
}

/// Runs a verb that must end with this exit code, one sentence and a hint. Returns what it printed on stderr.
async fn refused(world: &World, line: &str, code: i32) -> Result<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = world.cli(&words).await?;
    check_refusal(line, &output, code)?;
    Ok(output.stderr)
}

fn check_refusal(line: &str, output: &Output, code: i32) -> Result<()> {
    let text = &output.stderr;
    ensure!(output.code == Some(code), "`{line}` ended with {:?} instead of {code}:\n{text}", output.code);
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    let hints = text.lines().filter(|line| line.starts_with("hint: ")).count();
    ensure!(errors.len() == 1 && hints == 1, "`{line}` says {} errors and {hints} hints:\n{text}", errors.len());
    ensure!(!errors[0].ends_with('.'), "`{line}`: {text}");
    ensure!(!text.contains("panicked") && !text.contains("os error"), "`{line}` shows its insides:\n{text}");
    Ok(())
}

async fn status(world: &World) -> Result<Value> {
    json(world, "status digits").await
}

/// One inference of digits through a region's gateway.
async fn ask(world: &World, region: &str) -> Result<Reply> {
    Caller::new()?.ask(&format!("{}{INFER}", world.gateway(region)?), &request()?).await
}

/// Asks through a region's gateway until the answer comes from `server`.
async fn answered_by(world: &World, region: &str, server: &str) -> Result<Reply> {
    eventually_ok(&format!("users of {region} are answered by {server}"), SOON, || async {
        let reply = ask(world, region).await?;
        ensure!(reply.region == server, "answered by {}", reply.region);
        Ok(reply)
    })
    .await
}

/// Waits for an event of this kind; returns it.
async fn event(world: &World, kind: &str, region: Option<&str>) -> Result<Value> {
    eventually_ok(&format!("an event {kind} of {region:?}"), SOON, || async {
        let list = json(world, "events --limit 1000").await?;
        let events = list["events"].as_array().context("a list of events")?;
        let is_it = |event: &&Value| {
            event["kind"] == kind && region.is_none_or(|region| event["region"].as_str() == Some(region))
        };
        let found = events.iter().rfind(is_it).cloned();
        found.with_context(|| format!("{:?}", events.iter().map(|event| &event["kind"]).collect::<Vec<_>>()))
    })
    .await
}

/// The pid of the only process in a place.
fn pid(world: &World, role: &str, region: Option<&str>) -> Result<u32> {
    let processes = world.processes(role, region)?;
    ensure!(processes.len() == 1, "{role} of {region:?}: {processes:?}");
    Ok(processes[0].pid)
}

/// Waits until another process has taken the place of `old`; returns its pid.
async fn successor(world: &World, role: &str, region: Option<&str>, old: u32) -> Result<u32> {
    eventually_ok(&format!("another {role} of {region:?} runs"), SOON, || async {
        let new = pid(world, role, region)?;
        ensure!(new != old, "still {old}");
        Ok(new)
    })
    .await
}

/// Waits until a process of the world says that it is ready.
async fn ready(world: &World, role: &str, region: Option<&str>) -> Result<()> {
    eventually_ok(&format!("{role} of {region:?} is ready"), SOON, || async {
        let processes = world.processes(role, region)?;
        let process = processes.first().context("not there yet")?;
        let client = tradewind_api::Client::new(&format!("http://{}", process.address), None);
        ensure!(client.ready().await, "not ready");
        Ok(())
    })
    .await
}
