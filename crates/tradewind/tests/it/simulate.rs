//! `tradewind simulate`: no control plane, no network, and the same story every time.

use crate::context::{Context, show};

const FILE: &str = r#"
model = "digits:2"
regions = ["us-east1", "europe-west1", "asia-northeast1"]
[strategy]
retries = 1
"#;

/// A user with a deployment file.
fn context(strategy: &str) -> Context {
    let context = Context::new();
    std::fs::write(context.home.path().join("deployment.toml"), format!("{FILE}{strategy}")).unwrap();
    context
}

fn told(strategy: &str, flags: &str) -> String {
    context(strategy).run(&format!("simulate -f deployment.toml {flags}"))
}

#[test]
fn a_rollout_that_goes_well() {
    snapshot!(told("", ""));
}

#[test]
fn a_region_that_goes_down_stops_it() {
    snapshot!(told("", "--faults region-down:europe-west1@30s,slow:us-east1x2"));
}

#[test]
fn a_canary_that_is_condemned() {
    snapshot!(told("switch = \"canary\"\nmax_parallel = \"all\"\n", "--faults bad:us-east1@70s"));
}

#[test]
fn a_person_is_asked() {
    snapshot!(told("on_failure = \"pause\"\n", "--faults fails:europe-west1 --decide pause@5s,resume@1m"));
}

#[test]
fn what_is_condemned_after_everybody_has_it_is_rolled_back() {
    let output = context("").output("simulate -f deployment.toml --faults bad:us-east1");
    assert_eq!(output.status.code(), Some(1), "{}", show(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("revision 2 would be rolled back"), "{}", show(&output));
}

#[test]
fn the_first_revision_has_nothing_to_go_back_to() {
    snapshot!(told("", "--first --faults bad:us-east1"));
}

#[test]
fn the_story_as_a_document() {
    let document = context("").json("simulate -f deployment.toml --faults slow:us-east1 -o json");
    assert_eq!(document["schema_version"], 1);
    assert_eq!(document["faults"], serde_json::json!(["slow:us-east1x10"]));
    assert_eq!(document["timeline"][0]["region"], "us-east1");
    assert_eq!((&document["ending"]["outcome"], &document["ending"]["revision"]), (&"succeeded".into(), &2.into()));
    assert_eq!(document["users"], "users everywhere get revision 2");
}

#[test]
fn a_seed_is_the_same_scenario_each_time() {
    let play = || Context::new().run("simulate --seed 7");
    assert_eq!(play(), play());
    let own = |seed: u64| context("").run(&format!("simulate -f deployment.toml --seed {seed}"));
    assert_eq!(own(3), own(3));
    assert_ne!(own(3), own(4));
}

#[test]
fn what_cannot_be_simulated_is_told() {
    let refused = |strategy: &str, flags: &str| {
        let output = context(strategy).output(&format!("simulate {flags}"));
        assert_eq!(output.status.code(), Some(2), "{}", show(&output));
        assert!(output.stdout.is_empty(), "{}", show(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let file = "-f deployment.toml";
    snapshot!(
        [
            refused("", &format!("{file} --faults region-down:europe-wst1@30s")),
            refused("", &format!("{file} --faults region-dwn:europe-west1@30s")),
            refused("", &format!("{file} --faults region-down:europe-west1")),
            refused("", &format!("{file} --decide stop@30s")),
            refused("min_regions = 4\n", file),
            refused("", "--faults unclear --seed 3"),
        ]
        .join("\n")
    );
}
