//! What `--help` says, and the generated reference.

use crate::context::Context;

#[test]
fn verbs_are_grouped_by_intent() {
    snapshot!(Context::new().run("--help"));
}

#[test]
fn deploy_explains_itself() {
    snapshot!(Context::new().run("deploy --help"));
}

#[test]
fn help_of_a_nested_verb() {
    snapshot!(Context::new().run("models push --help"));
}

#[test]
fn the_version_is_printed() {
    let output = Context::new().output("--version");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("tradewind {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_reference_names_every_verb_and_nothing_of_this_machine() {
    let context = Context::new();
    let output = context.command("reference cli").env("TRADEWIND_URL", "http://somewhere:1").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for verb in ["deploy", "models push", "rollout abort", "regions add", "token issue", "completion"] {
        assert!(text.contains(&format!("## `tradewind {verb}`\n")), "{verb} is missing");
    }
    assert!(!text.contains("somewhere"), "the environment shows");
    assert!(!text.contains("tradewind reference`\n"), "a hidden command shows");
}

#[test]
fn the_reference_of_metrics_names_what_every_role_shows() {
    let output = Context::new().output("reference metrics");
    let text = String::from_utf8(output.stdout).unwrap();
    for role in ["Control", "Agent", "Gateway", "Replica"] {
        let name = format!("`tradewind_{}_", role.to_lowercase());
        assert!(text.contains(&format!("\n## {role}\n")) && text.contains(&name), "{role} is missing");
    }
}

#[test]
fn the_reference_of_pipeline_files_is_a_json_schema() {
    let output = Context::new().output("reference pipeline");
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema["properties"]["step"].is_object(), "{schema}");
}

#[test]
fn completions_know_the_verbs() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Context::new().output(&format!("completion {shell}"));
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("undeploy"), "{shell}");
    }
}
