//! Wrong usage: exit code 2, one sentence, a hint, and nothing happened.

use crate::{
    context::{Context, show},
    control::{Control, Script},
};

/// Runs what is wrong, and makes sure that control was not asked for anything.
fn refused(line: &str) -> String {
    let context = Context::with(Control::start(Script::default()));
    let output = context.output(line);
    assert_eq!(output.status.code(), Some(2), "{}", show(&output));
    assert!(output.stdout.is_empty(), "{}", show(&output));
    assert_eq!(context.control().seen(|seen| seen.deploys.len()), 0);
    show(&output)
}

#[test]
fn regions_with_spaces_between_them() {
    snapshot!(refused("deploy --regions us-west1 europe-west1 model_v2"));
}

#[test]
fn regions_in_brackets() {
    snapshot!(refused("deploy --regions [us-west1 europe-west1] model_v2"));
}

#[test]
fn the_flag_in_the_singular() {
    snapshot!(refused("deploy --region us-west1 europe-west1"));
}

#[test]
fn a_bad_region_name() {
    snapshot!(refused("deploy --regions us-east1,../etc digits"));
}

#[test]
fn a_bad_duration() {
    snapshot!(refused("deploy digits --soak 60"));
}

#[test]
fn nothing_to_deploy() {
    snapshot!(refused("deploy --regions us-east1"));
}

#[test]
fn contradicting_flags() {
    snapshot!(refused("deploy digits --wait --detach"));
}

#[test]
fn a_removal_without_a_version() {
    snapshot!(refused("models rm digits"));
}

#[test]
fn a_question_without_a_terminal() {
    let context = Context::with(Control::start(Script::default()));
    snapshot!(context.run("undeploy digits"));
    assert!(context.control().seen(|seen| seen.undeployed.is_empty()));
}

#[test]
fn a_deployment_file_with_an_unknown_key() {
    let context = Context::with(Control::start(Script::default()));
    std::fs::write(context.home.path().join("d.toml"), "model = \"digits\"\n[strategy]\nmax_paralel = 2\n").unwrap();
    snapshot!(context.run("deploy -f d.toml"));
}
