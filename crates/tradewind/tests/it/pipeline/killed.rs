//! A run whose process is killed at any moment, or whose workers are: the next one goes on, to the same result.

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command},
    time::Instant,
};

use serde_json::Value;
use tradewind_process::Identity;

use super::Project;
use crate::context::{DEADLINE, wait};

const BATCHES: u32 = 40;
/// How often a runner is killed before it may end.
const KILLS: u64 = 4;

fn seeds() -> u64 {
    if std::env::var_os("TRADEWIND_TEST_LONG").is_some() { 40 } else { 4 }
}

/// The lines of all journals.
fn journals(project: &Project) -> Vec<Value> {
    let mut lines = Vec::new();
    let runs = fs::read_dir(project.home("sums").join("runs")).into_iter().flatten().filter_map(Result::ok);
    for run in runs {
        let text = fs::read_to_string(run.path().join("journal.ndjson")).unwrap_or_default();
        // The last line may be half written.
        lines.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
    }
    lines
}

fn finished(lines: &[Value]) -> usize {
    lines.iter().filter(|line| line["event"] == "finished" && line["reused"] != true).count()
}

/// Waits until so many steps are finished, or the run has ended.
fn wait_for(project: &Project, runner: &mut Child, steps: usize) {
    let began = Instant::now();
    while finished(&journals(project)) < steps && runner.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < DEADLINE, "{steps} steps are finished");
        std::thread::yield_now();
    }
}

fn kill(pid: u32) {
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
}

/// The workers of a runner.
fn workers(runner: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{runner}/task/{runner}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
fn a_run_that_is_killed_at_any_moment_is_resumed_without_repeating_what_is_done() {
    let expected = Project::sums(BATCHES).run("").result("model.txt");
    for seed in 0..seeds() {
        let project = Project::sums(BATCHES);
        for kill_number in 0..KILLS {
            let mut runner = project.command("run").spawn().unwrap();
            // A few steps further each time, to another place for each seed.
            let steps = finished(&journals(&project)) + 1 + ((seed * 7 + kill_number * 3) % 16) as usize;
            wait_for(&project, &mut runner, steps);
            kill(runner.id());
            runner.wait().unwrap();
        }
        let report = project.run("");
        assert_eq!(report.result("model.txt"), expected, "seed {seed}");
        // By key: how often it was finished. What was kept a moment before the kill was not told, and is found later.
        let mut times = BTreeMap::<String, u32>::new();
        for line in journals(&project).iter().filter(|line| line["event"] == "finished") {
            *times.entry(line["key"].to_string()).or_default() += u32::from(line["reused"] != true);
        }
        assert_eq!(times.len() as u32, 2 * BATCHES + 1);
        let repeated: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
        assert!(repeated.is_empty(), "seed {seed}: finished twice: {repeated:?}");
        // What ran and was not finished when its runner died: no more than the workers had in hand.
        let ran = project.ran().len();
        let most = (2 * BATCHES + 1 + KILLS as u32 * 2 * cores()) as usize;
        assert!(ran <= most, "seed {seed}: {ran} steps ran, of {most}");
        assert_eq!(fs::read_dir(project.home("sums").join("work")).unwrap().count(), 0, "nothing is left half done");
    }
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
}

#[test]
fn workers_that_are_killed_cost_an_attempt() {
    let project = Project::sums(BATCHES);
    project.write("pipeline.toml", &super::PIPELINE.replace("retries = 0", "retries = 9"));
    let expected = Project::sums(BATCHES).run("").result("model.txt");
    let mut runner = project.command("run -o json").spawn().unwrap();
    for steps in [3, 9, 20, 31] {
        wait_for(&project, &mut runner, steps);
        workers(runner.id()).into_iter().for_each(kill);
    }
    let output = wait(runner);
    assert!(output.status.success(), "{}", crate::context::show(&output));
    let report = super::Report(serde_json::from_slice(&output.stdout).unwrap());
    assert_eq!((report.result("model.txt"), &report.0["failed"]), (expected, &0.into()));
}

#[test]
fn ctrl_c_ends_it_and_the_next_run_goes_on() {
    let project = Project::sums(BATCHES);
    let mut runner = project.command("run").spawn().unwrap();
    wait_for(&project, &mut runner, 3);
    let started = workers(runner.id());
    let _ = Command::new("kill").args(["-INT", &runner.id().to_string()]).status();
    let output = wait(runner);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("it was stopped"), "{said}");
    let alive = started.iter().filter(|pid| Identity::of(**pid).is_some_and(|identity| identity.is_alive())).count();
    assert_eq!(alive, 0, "its workers have ended");
    let report = project.run("");
    assert!(report.reused("double") >= 1);
    assert_eq!(project.ran().iter().filter(|line| line.starts_with("join")).count(), 1);
}
