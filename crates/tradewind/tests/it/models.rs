//! The registry's verbs.

use tradewind_core::bundle::Lineage;

use crate::{
    context::Context,
    control::{Control, Script},
    fixtures,
};

fn context() -> Context {
    Context::with(Control::start(Script::default()))
}

fn example(version: &str) -> String {
    fixtures::example(version).display().to_string()
}

#[test]
fn models_are_listed() {
    snapshot!(context().run("models list"));
}

#[test]
fn an_empty_registry_says_what_comes_next() {
    let control = Control::start(Script { empty: true, ..Script::default() });
    snapshot!(Context::with(control).run("models list"));
}

#[test]
fn the_versions_of_a_model() {
    snapshot!(context().run("models show digits"));
}

#[test]
fn one_version_in_full() {
    snapshot!(context().run("models show digits:2"));
}

#[test]
fn a_version_that_nobody_has_said_more_of() {
    let text = context().run("models show digits:1");
    assert!(text.contains("golden cases  1\n\n") && !text.contains("made by"), "{text}");
}

#[test]
fn a_document_of_a_version_says_where_it_comes_from() {
    let document = context().json("models show digits:2 -o json");
    assert_eq!(document["lineage"], serde_json::json!(fixtures::lineage()));
}

#[test]
fn where_a_version_comes_from_is_published_with_it() {
    let context = context();
    let path = context.home.path().join("run.json");
    let push = format!("models push {} --lineage run.json", example("v1"));
    std::fs::write(&path, serde_json::to_vec_pretty(&fixtures::lineage()).unwrap()).unwrap();
    assert_eq!(context.json(&format!("{push} -o json"))["lineage"], serde_json::json!(fixtures::lineage()));
    let there_already = context.run(&format!("{push} --name other"));
    assert!(there_already.contains("what is kept of where it comes from stays as it was"), "{there_already}");
}

#[test]
fn what_does_not_say_where_a_version_comes_from() {
    let context = context();
    let push = format!("models push {} --lineage run.json", example("v1"));
    snapshot!(context.run(&push));
    let path = context.home.path().join("run.json");
    std::fs::write(&path, "{\"pipeline\": \"digits\", \"metric\": {}}").unwrap();
    snapshot!(context.run(&push));
    let unnamed = Lineage { by: String::new(), ..fixtures::lineage() };
    std::fs::write(&path, serde_json::to_vec(&unnamed).unwrap()).unwrap();
    snapshot!(context.run(&push));
    std::fs::write(&path, vec![b' '; 2 << 20]).unwrap();
    snapshot!(context.run(&push));
    assert!(context.control().seen(|seen| seen.blobs.is_empty()), "it is read before anything is sent");
}

#[test]
fn an_unknown_model() {
    snapshot!(context().run("models show digit"));
}

#[test]
fn removing_a_version() {
    let context = context();
    snapshot!(context.run("models rm digits:1 --yes"));
    snapshot!(context.run("models rm digits:2 --yes"));
}

#[test]
fn documents_name_their_schema() {
    let context = context();
    for line in ["models list", "models show digits", "models show digits:2"] {
        assert_eq!(context.json(&format!("{line} -o json"))["schema_version"], 1, "{line}");
    }
}

#[test]
fn pushing_a_bundle_sends_each_blob_once() {
    let context = context();
    let first = context.json(&format!("models push {} -o json", example("v1")));
    assert_eq!((&first["name"], &first["created"]), (&"digits".into(), &true.into()));
    let files = first["index"]["files"].as_object().unwrap().len();
    assert!(files > 20, "{first}");
    assert_eq!(context.control().seen(|seen| seen.blobs.len()), files);
    context.json(&format!("models push {} -o json", example("v1")));
    assert_eq!(context.control().seen(|seen| seen.blobs.len()), files);
}

#[test]
fn pushing_what_is_there_says_so() {
    snapshot!(context().run(&format!("models push {}/model.onnx --name other", example("v1"))).replace(
        // Only the size of the example may change without this test.
        &first_line_size(),
        "[SIZE]"
    ));
}

fn first_line_size() -> String {
    let bytes = std::fs::metadata(format!("{}/model.onnx", example("v1"))).unwrap().len();
    format!("{:.1} KB", bytes as f64 / 1000.0)
}

#[test]
fn pushing_what_is_not_there() {
    snapshot!(context().run("models push ./nothing.onnx"));
}

#[test]
fn pushing_a_pickle_in_disguise() {
    let context = context();
    std::fs::write(context.home.path().join("model.onnx"), b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00").unwrap();
    snapshot!(context.run("models push ./model.onnx"));
}

#[test]
fn a_model_is_fetched_by_url_also_through_a_redirect() {
    let context = context();
    for place in ["files", "moved"] {
        let url = format!("{}/{place}/digits.onnx", context.control().url());
        let published = context.json(&format!("models push {url} -o json"));
        assert_eq!((&published["name"], &published["created"]), (&"digits".into(), &true.into()), "{place}");
    }
    let digest = blake3::hash(&fixtures::model_file());
    assert!(context.control().seen(|seen| seen.blobs.iter().any(|blob| blob.as_bytes() == digest.as_bytes())));
}

#[test]
fn urls_that_lead_nowhere() {
    let context = context();
    let url = context.control().url();
    snapshot!(context.run(&format!("models push {url}/gone/digits.onnx")));
    snapshot!(context.run(&format!("models push {url}/elsewhere/digits.onnx")));
    snapshot!(context.run("models push https://models.example/digits.tar.gz"));
    assert!(context.control().seen(|seen| seen.blobs.is_empty()));
}
