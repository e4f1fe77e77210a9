//! The verbs that look: tables for people, documents for programs.

use crate::{
    context::Context,
    control::{Control, Script},
};

fn context() -> Context {
    Context::with(Control::start(Script::default()))
}

#[test]
fn the_world_at_a_glance() {
    snapshot!(context().run("status"));
}

#[test]
fn a_world_without_models() {
    snapshot!(Context::with(Control::start(Script { empty: true, ..Script::default() })).run("status"));
}

#[test]
fn one_model_in_full() {
    snapshot!(context().run("status digits"));
}

#[test]
fn after_a_failed_rollout_it_says_first_what_users_get() {
    let context = Context::with(Control::start(Script { quiet: true, ..Script::default() }));
    snapshot!(context.run("status digits"));
    snapshot!(context.run("status"));
}

#[test]
fn a_model_that_is_not_deployed() {
    snapshot!(context().run("status digit"));
}

#[test]
fn where_the_users_of_a_region_would_go() {
    snapshot!(context().run("regions list"));
    snapshot!(context().run("regions drain us-east1 --dry-run"));
    snapshot!(context().run("regions drain europe-west1"));
}

#[test]
fn what_was_expected_of_a_drill_and_what_was_measured() {
    snapshot!(context().run("drill list"));
    snapshot!(context().run("drill show 1"));
    snapshot!(context().run("drill show latest"));
}

#[test]
fn the_status_document_has_what_the_contract_promises() {
    let status = context().json("status digits -o json");
    for key in [
        "schema_version",
        "regions",
        "deployment_status",
        "verification_status",
        "routing_configured",
        "monitoring_active",
        "rollout",
        "revision",
        "version",
        "epoch",
        "live_slot",
        "slots",
    ] {
        assert!(!status[key].is_null(), "{key} is missing");
    }
    assert_eq!(status["slots"]["green"]["replicas"]["europe-west1"], serde_json::json!({ "ready": 1, "desired": 2 }));
}

#[test]
fn the_steps_of_a_rollout() {
    snapshot!(context().run("rollout show digits"));
}

#[test]
fn the_rollouts_of_a_model() {
    snapshot!(context().run("rollout list digits"));
}

#[test]
fn aborting_a_rollout() {
    snapshot!(context().run("rollout abort digits"));
}

#[test]
fn the_history_of_a_model() {
    snapshot!(context().run("history digits"));
    snapshot!(context().run("history digits 3"));
    snapshot!(context().run("history digits 9"));
    let document = context().json("history digits 3 -o json");
    assert_eq!(
        (&document["revision"]["revision"], document["rollouts"].as_array().map(Vec::len)),
        (&3.into(), Some(1))
    );
}

#[test]
fn where_a_request_goes_and_why() {
    snapshot!(context().run("route explain digits --from us-east1"));
    snapshot!(context().run("route explain digits --from us-east1 --user ada"));
    let document = context().json("route explain digits --from us-east1 -o json");
    assert_eq!((&document["schema_version"], &document["goes_to"]), (&1.into(), &"asia-northeast1".into()));
}

#[test]
fn where_no_request_goes() {
    snapshot!(context().run("route explain digit --from us-east1"));
    snapshot!(context().run("route explain digits --from us-wst1"));
    snapshot!(context().run("route explain digits --from europe-west1"));
    snapshot!(context().run("route explain digits"));
}

#[test]
fn regions_in_a_table() {
    snapshot!(context().run("regions list"));
}

#[test]
fn one_region_in_full() {
    snapshot!(context().run("regions show us-east1"));
}

#[test]
fn an_unknown_region() {
    snapshot!(context().run("regions show europe-wst1"));
}

#[test]
fn adding_a_region() {
    snapshot!(context().run("regions add berlin --location 52.5,13.4"));
    snapshot!(context().run("regions add berlin --location north"));
}

#[test]
fn events_in_a_table() {
    snapshot!(context().run("events"));
    snapshot!(context().run("events --region europe-west1"));
}

#[test]
fn the_log_of_a_region() {
    snapshot!(context().run("logs digits --region us-east1"));
}

#[test]
fn every_document_names_its_schema() {
    let context = context();
    for line in [
        "status",
        "status digits",
        "rollout list digits",
        "rollout show digits",
        "history digits",
        "regions list",
        "regions show us-east1",
        "events",
    ] {
        assert_eq!(context.json(&format!("{line} -o json"))["schema_version"], 1, "{line}");
    }
}

#[test]
fn an_inference_says_who_answered() {
    let context = context();
    std::fs::write(context.home.path().join("request.json"), r#"{"inputs": []}"#).unwrap();
    snapshot!(context.run("infer digits -d @request.json"));
    snapshot!(context.run("infer digits -d @request.json -o json"));
}

#[test]
fn an_inference_that_goes_wrong() {
    let context = context();
    snapshot!(context.run("infer digits -d {}"));
    snapshot!(context.run("infer digits -d nonsense"));
    snapshot!(context.run(r#"infer other -d {"inputs":[]}"#));
    snapshot!(context.run(r#"infer digits -d {"inputs":[]} --from europe-west1"#));
    snapshot!(context.run(r#"infer digits -d {"inputs":[]} --from us-esat1"#));
}
