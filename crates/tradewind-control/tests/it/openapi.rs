//! The document that describes the API.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::control::{Control, reqwest_get};

/// Every `$ref` in the document.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(reference) if key == "$ref" => drop(found.insert(reference.clone())),
                    value => references(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn it_is_whole_and_describes_every_route() {
    let control = Control::start().await;
    let body = reqwest_get(&format!("{}/openapi.json", control.url)).await.bytes().await.unwrap();
    let document: Value = serde_json::from_slice(&body).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));

    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 40, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }

    for route in tradewind_control::routes() {
        let operation = &document["paths"][&route.path][route.method.as_str().to_lowercase()];
        assert!(operation["responses"].as_object().is_some_and(|responses| !responses.is_empty()), "{route:?}");
        assert_eq!(operation["security"].is_array(), !route.open, "{route:?}");
        for parameter in route.path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
            let declared = operation["parameters"].as_array().unwrap();
            assert!(declared.iter().any(|known| known["name"] == parameter), "{parameter} of {route:?}");
        }
    }
    control.stop().await;
}

#[tokio::test]
async fn its_routes_are_these() {
    let mut routes: Vec<String> =
        tradewind_control::routes().iter().map(|route| format!("{} {}", route.path, route.method)).collect();
    routes.sort();
    insta::assert_snapshot!(routes.join("\n"));
}
