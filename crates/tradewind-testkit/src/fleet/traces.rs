//! What a fleet's life leaves behind, without the times: two lives that had the same effects leave the same.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;
use tradewind_core::Timestamp;
use tradewind_store::Store;

use super::{Begun, Fleet};

const EVENTS: &str = "events/";
const PREFIXES: &[&str] =
    &["assignments/", "deployments/", "records/", "revisions/", "rollouts/", "routes/", "undeployed/"];

#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// By key: the value, and how often it was put. An effect that happened twice was put once too often.
    pub state: BTreeMap<String, (u64, Value)>,
    /// Sorted, since several may share a moment.
    pub events: Vec<String>,
    /// Sorted.
    pub begun: Vec<Begun>,
}

impl Traces {
    /// What these have that the others have not, a line each.
    pub fn beyond(&self, others: &Self) -> Vec<String> {
        let state = self.state.iter().filter(|(key, kept)| others.state.get(*key) != Some(kept));
        let events = self.events.iter().filter(|event| !others.events.contains(event));
        let begun = self.begun.iter().filter(|begun| !others.begun.contains(begun));
        let state = state.map(|(key, (puts, value))| format!("{key}, put {puts} times: {value}"));
        let counts = format!("{} events, {} attempts begun", self.events.len(), self.begun.len());
        state.chain(events.cloned()).chain(begun.map(|begun| format!("{begun:?}"))).chain([counts]).collect()
    }
}

impl Fleet {
    pub async fn traces(&self) -> Result<Traces> {
        let mut state = BTreeMap::new();
        for prefix in PREFIXES {
            for kv in self.store().list(prefix).await?.kvs {
                state.insert(kv.key, (kv.version, timeless(&kv.value)?));
            }
        }
        let mut events = Vec::new();
        for kv in self.store().list(EVENTS).await?.kvs {
            events.push(timeless(&kv.value)?.to_string());
        }
        events.sort();
        let mut begun = self.begun();
        begun.sort();
        Ok(Traces { state, events, begun })
    }
}

fn timeless(value: &[u8]) -> Result<Value> {
    let mut value = serde_json::from_slice(value).context("a stored value is JSON")?;
    strip(&mut value);
    Ok(value)
}

/// Makes all times the same, and generations, which grow from wherever the store was. That there is one still shows.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(strip);
            if let Some(generation) = fields.get_mut("generation") {
                *generation = Value::from("a generation");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::String(text) if text.parse::<Timestamp>().is_ok() => *value = Value::from("a time"),
        _ => {}
    }
}
