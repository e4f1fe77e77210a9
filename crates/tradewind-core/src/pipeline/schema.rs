//! The JSON Schema of `pipeline.toml`, for editors: made of the types that read the file, so that it is never behind
//! them. What it lets through [`Pipeline::check`] may still refuse.

use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

use super::file::{LIST_LIMIT, Pipeline, RETRIES_LIMIT, STEPS_LIMIT};

/// The name by which others may refer to it.
const ID: &str = "urn:tradewind:pipeline";
/// Of JSON Schema.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Where utoipa has the types that others refer to.
const COMPONENTS: &str = "#/components/schemas/";

/// The schema, whole.
pub fn document() -> Value {
    let mut types = Vec::new();
    Pipeline::schemas(&mut types);
    let types: Map<String, Value> = types.into_iter().map(|(name, schema)| (name, json!(schema))).collect();
    let mut document = json!(Pipeline::schema());
    document["$defs"] = Value::Object(types);
    as_json_schema(&mut document);
    add_bounds(&mut document);
    document["$schema"] = DIALECT.into();
    document["$id"] = ID.into();
    document["title"] = "pipeline.toml".into();
    document
}

/// Turns what OpenAPI has into what is meant in a file: types refer to each other within the document, what is left out
/// is left out and never null, and an object has no other keys than those named.
fn as_json_schema(schema: &mut Value) {
    match schema {
        Value::Array(parts) => parts.iter_mut().for_each(as_json_schema),
        Value::Object(keys) => {
            without_null(keys);
            if let Some(Value::String(target)) = keys.get_mut("$ref") {
                *target = target.replace(COMPONENTS, "#/$defs/");
            }
            if let Some(Value::Array(types)) = keys.get_mut("type") {
                types.retain(|one| one != "null");
                if let [one] = types.as_mut_slice() {
                    let one = one.take();
                    keys["type"] = one;
                }
            }
            // Kinds of numbers, which JSON does not tell apart.
            if keys.get("format").is_some_and(Value::is_string) {
                keys.remove("format");
            }
            if keys.get("properties").is_some_and(Value::is_object) {
                keys.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            keys.values_mut().for_each(as_json_schema);
        }
        _ => {}
    }
}

/// Of a choice between null and one other, the other.
fn without_null(keys: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = keys.get_mut("oneOf") else { return };
    choices.retain(|choice| choice["type"] != "null");
    if let [Value::Object(only)] = choices.as_mut_slice() {
        let only = std::mem::take(only);
        keys.remove("oneOf");
        keys.extend(only);
    }
}

/// Adds what [`Pipeline::check`] asks for and types do not say.
fn add_bounds(document: &mut Value) {
    let list = json!({ "minItems": 1, "maxItems": LIST_LIMIT });
    let unnamed = json!({ "properties": { "name": false } });
    let held_out = json!({ "properties": { "holdout": { "exclusiveMinimum": 0 } }, "required": ["holdout"] });
    let held_out = json!({ "properties": { "data": held_out } });
    for (place, keys) in [
        ("", json!({ "dependentRequired": { "deploy": ["publish"] } })),
        (
            "",
            json!({ "dependentSchemas": { "evaluate": held_out }, "if": held_out, "then": { "required": ["evaluate"] } }),
        ),
        ("/properties/step", json!({ "minItems": 1, "maxItems": STEPS_LIMIT })),
        ("/properties/step/items", json!({ "required": ["name"] })),
        ("/properties/evaluate", unnamed.clone()),
        ("/$defs/Aggregate/oneOf/1", unnamed),
        ("/properties/min_success_ratio", json!({ "exclusiveMinimum": 0, "maximum": 1 })),
        ("/$defs/Data/properties/source", list.clone()),
        ("/$defs/Data/properties/holdout", json!({ "minimum": 0, "exclusiveMaximum": 1 })),
        ("/$defs/Cut/oneOf/2/properties/rows", json!({ "minimum": 1 })),
        ("/$defs/Step", json!({ "oneOf": [{ "required": ["run"] }, { "required": ["function"] }] })),
        ("/$defs/Step", only_if("worker", &true.into(), "run")),
        ("/$defs/Step/properties/name", json!({ "pattern": "^[a-z0-9_-]{1,64}$" })),
        ("/$defs/Step/properties/run", list),
        ("/$defs/Step/properties/function", json!({ "pattern": r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$" })),
        ("/$defs/Step/properties/inputs", json!({ "uniqueItems": true })),
        ("/$defs/Step/properties/retries", json!({ "maximum": RETRIES_LIMIT })),
        ("/$defs/ReadyMade", only_if("use", &"best".into(), "metric")),
        ("/$defs/Gate", json!({ "minProperties": 2 })),
        ("/$defs/Deploy/properties/regions", json!({ "minItems": 1 })),
    ] {
        let schema = document.pointer_mut(place).and_then(Value::as_object_mut);
        let Value::Object(keys) = keys else { unreachable!("bounds are objects") };
        schema.expect("each place is that of a key or a type").extend(keys);
    }
}

/// This key may have this value only beside that other one.
fn only_if(key: &str, value: &Value, other: &str) -> Value {
    json!({
        "if": { "properties": { key: { "const": value } }, "required": [key] },
        "then": { "required": [other] },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_keys_are_for_and_takes_no_others() {
        let document = document();
        let text = document.to_string();
        for absent in ["null", "components", "int64"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
        let description = |place: &str| document.pointer(place).and_then(|schema| schema["description"].as_str());
        assert_eq!(description(""), Some("A pipeline, as its author wrote it."));
        assert_eq!(description("/properties/step"), Some("What is done with each batch, in this order."));
        assert_eq!(description("/$defs/Cut/oneOf/1"), Some("Each file is one."));
        assert_eq!(document["$defs"]["Step"]["properties"]["timeout"]["default"], "1h");
        let is_closed = |schema: &Value| schema["type"] != "object" || schema["additionalProperties"] == false;
        for (name, schema) in document["$defs"].as_object().unwrap() {
            assert!(is_closed(schema), "{name} takes any key");
        }
    }
}
