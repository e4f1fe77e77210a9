//! `tradewind deploy`, from the request to the verdict.

use std::io::{BufRead, BufReader, Read};

use rustix::process::{Pid, Signal, kill_process};
use tradewind_api::{Code, Problem};
use tradewind_core::rollout::strategy::{MaxParallel, OnFailure};

use crate::{
    context::{Context, show, wait},
    control::{Control, Script, Watch},
    fixtures,
};

const LINE: &str = "deploy --regions us-east1,europe-west1 digits";

fn ends_with(views: Vec<tradewind_api::deploy::RolloutView>) -> Context {
    let watch = Watch { views, stays_open: false };
    Context::with(Control::start(Script { watches: [watch].into(), ..Script::default() }))
}

fn goes_well() -> Context {
    ends_with(fixtures::going_well())
}

#[test]
fn a_deploy_that_goes_well() {
    snapshot!(goes_well().run(LINE));
}

#[test]
fn a_deploy_that_fails() {
    snapshot!(ends_with(vec![fixtures::retrying(), fixtures::verification_failed()]).run(LINE));
}

#[test]
fn a_deploy_that_fails_for_programs() {
    let context = ends_with(vec![fixtures::verification_failed()]);
    let output = context.output(&format!("{LINE} -o json"));
    assert_eq!(output.status.code(), Some(1));
    let view: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&view["state"], &view["schema_version"]), (&"failed".into(), &1.into()));
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"]["code"], "failed");
}

#[test]
fn programs_get_the_rollout_and_nothing_else() {
    assert_eq!(goes_well().json(&format!("{LINE} -o json"))["state"], "soaking");
}

#[test]
fn flags_become_the_request() {
    let context = goes_well();
    let flags = "--max-parallel all --on-failure continue --retries 1 --progress-deadline 30s --soak 5s --min-regions 1 \
                 --prune --replace --replicas 2 --threads 4";
    context.json(&format!("deploy digits:2 --regions us-east1,europe-west1 {flags} -o json"));
    let request = context.control().seen(|seen| seen.deploys[0].clone());
    assert_eq!(request.version.map(|version| version.0), Some(2));
    assert_eq!(request.regions.map(|regions| regions.len()), Some(2));
    assert_eq!((request.max_parallel, request.on_failure), (Some(MaxParallel::All), Some(OnFailure::Continue)));
    assert_eq!((request.retries, request.min_regions), (Some(1), Some(1)));
    assert_eq!(request.scale.map(|scale| (scale.replicas, scale.threads)), Some((Some(2), Some(4))));
    assert!(request.prune && request.replace && !request.dry_run);
    assert!(request.requested_by.starts_with("ada@"), "{}", request.requested_by);
}

#[test]
fn a_path_is_pushed_first() {
    let context = goes_well();
    let path = fixtures::example("v1");
    let output = context.output(&format!("deploy --regions us-east1,europe-west1 {}", path.display()));
    assert!(output.status.success(), "{}", show(&output));
    assert!(context.control().seen(|seen| seen.blobs.len()) > 20);
    assert_eq!(context.control().seen(|seen| seen.deploys[0].version.map(|version| version.0)), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("/v2/models/digits/infer -d @") && text.contains("request.json"), "{text}");
}

#[test]
fn a_dry_run_prints_the_difference() {
    snapshot!(goes_well().run(&format!("{LINE} --dry-run")));
}

#[test]
fn what_runs_already_is_left_alone() {
    let context = Context::with(Control::start(Script { unchanged: true, ..Script::default() }));
    snapshot!(context.run(LINE));
}

#[test]
fn a_detached_deploy_says_how_to_follow_it() {
    snapshot!(goes_well().run(&format!("{LINE} --detach")));
}

#[test]
fn waiting_stays_for_the_verdict() {
    let mut views = fixtures::going_well();
    views.push(fixtures::soak_passed());
    let run = ends_with(views).run(&format!("{LINE} --wait"));
    assert!(run.contains("exit: 0") && run.contains("Soak passed"), "{run}");
}

#[test]
fn waiting_stays_for_the_verdict_of_what_soaks_already() {
    let soaking = fixtures::going_well().pop();
    let watch = Watch { views: soaking.iter().cloned().chain([fixtures::soak_passed()]).collect(), stays_open: false };
    let script = Script { unchanged: true, newest: soaking, watches: [watch].into(), ..Script::default() };
    let run = Context::with(Control::start(script)).run(&format!("{LINE} --wait"));
    assert!(run.contains("exit: 0") && run.contains("Soak passed"), "{run}");
}

#[test]
fn an_unknown_region_is_not_deployed_to() {
    let problem = Problem::new(Code::NotFound, "no region is called `europe-wst1`")
        .hint("did you mean `europe-west1`? regions here: asia-northeast1, europe-west1, us-east1");
    let context = Context::with(Control::start(Script { deploy_problem: Some(problem), ..Script::default() }));
    snapshot!(context.run("deploy --regions us-east1,europe-wst1 digits"));
}

#[test]
fn an_unknown_model_may_be_a_directory_here() {
    let context = goes_well();
    std::fs::create_dir(context.home.path().join("digit")).unwrap();
    snapshot!(context.run("deploy --regions us-east1 digit"));
}

#[test]
fn a_broken_stream_is_taken_up_again() {
    let mut first = fixtures::going_well();
    let rest = first.split_off(2);
    let watch = |views| Watch { views, stays_open: false };
    let script = Script { watches: [watch(first), watch(rest)].into(), ..Script::default() };
    let run = Context::with(Control::start(script)).run(LINE);
    assert!(run.contains("exit: 0"), "{run}");
    assert_eq!(run.matches("us-east1      deployed").count(), 1, "a step is told once: {run}");
}

#[test]
fn ctrl_c_leaves_the_rollout_to_itself() {
    let views = fixtures::going_well().into_iter().take(3).collect();
    let watch = Watch { views, stays_open: true };
    let context = Context::with(Control::start(Script { watches: [watch].into(), ..Script::default() }));
    let mut child = context.command(LINE).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("verified") {
        line.clear();
        assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "the region's line comes before the end");
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    snapshot!(format!("{}{rest}", show(&wait(child))));
}
