//! The name of a result: a digest of everything that it depends on.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use tradewind_core::{
    Digest,
    pipeline::{contract, file::Step},
};

/// Changes when results of the same step would be others than before.
const VERSION: u32 = 1;

/// What a step depends on, beside its inputs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Recipe {
    version: u32,
    contract: u32,
    run: Option<Vec<String>>,
    function: Option<String>,
    env: BTreeMap<String, String>,
    parameters: BTreeMap<String, Value>,
    /// By path.
    code: BTreeMap<String, Digest>,
    /// Of the environment of Python.
    python: Option<String>,
}

impl Recipe {
    /// `parameters` are the step's own and the pipeline's together.
    pub(crate) fn new(
        step: &Step,
        parameters: BTreeMap<String, Value>,
        code: BTreeMap<String, Digest>,
        python: Option<String>,
    ) -> Self {
        Self {
            version: VERSION,
            contract: contract::SCHEMA_VERSION,
            run: step.run.clone(),
            function: step.function.clone(),
            env: step.env.clone(),
            parameters,
            code,
            python,
        }
    }

    /// Of an aggregate that comes with Tradewind.
    pub(crate) fn ready_made(
        function: String,
        parameters: BTreeMap<String, Value>,
        code: BTreeMap<String, Digest>,
        python: String,
    ) -> Self {
        Self {
            version: VERSION,
            contract: contract::SCHEMA_VERSION,
            run: None,
            function: Some(function),
            env: BTreeMap::new(),
            parameters,
            code,
            python: Some(python),
        }
    }

    pub(crate) fn parameters(&self) -> &BTreeMap<String, Value> {
        &self.parameters
    }

    pub(crate) fn code(&self) -> &BTreeMap<String, Digest> {
        &self.code
    }

    /// Of what it makes of these inputs, each a name and what its parts hold, in their order.
    pub(crate) fn key(&self, step: &str, batch: Option<&str>, inputs: &[(&str, Vec<Part<'_>>)]) -> Digest {
        digest(&(self, step, batch, inputs))
    }
}

/// A batch's name, and a digest of what is read of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Part<'a> {
    pub(crate) batch: &'a str,
    pub(crate) content: Digest,
}

/// Of a value as JSON, whose keys are sorted.
pub(crate) fn digest(value: &impl Serialize) -> Digest {
    let mut hasher = blake3::Hasher::new();
    serde_json::to_writer(&mut hasher, value)
        .expect("what is hashed has names for keys, and a hasher takes everything");
    Digest::from_bytes(*hasher.finalize().as_bytes())
}

/// A number below 2^53 that is the same for the same key: what JSON and every language keep exactly.
pub(crate) fn seed(key: Digest) -> u64 {
    let [a, b, c, d, e, f, g, ..] = *key.as_bytes();
    u64::from_be_bytes([0, a, b, c, d, e, f, g]) >> 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str) -> Step {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn whatever_a_result_depends_on_changes_its_key() {
        let content = |byte| Digest::from_bytes([byte; 32]);
        let recipe = |text: &str, code: u8, parameter: i64, python: Option<&str>| {
            let code = BTreeMap::from([("steps.py".to_owned(), content(code))]);
            let parameters = BTreeMap::from([("rate".to_owned(), Value::from(parameter))]);
            Recipe::new(&step(text), parameters, code, python.map(str::to_owned))
        };
        let train = "function = \"steps:train\"";
        let key = |recipe: &Recipe, batch, input: u8| {
            recipe.key("train", Some(batch), &[("batch", vec![Part { batch, content: content(input) }])])
        };
        let first = key(&recipe(train, 1, 1, None), "a", 1);
        assert_eq!(first, key(&recipe(train, 1, 1, None), "a", 1));
        assert_eq!(first, key(&recipe(&format!("{train}\nretries = 9\ntimeout = \"1s\""), 1, 1, None), "a", 1));
        let others = [
            key(&recipe("function = \"steps:other\"", 1, 1, None), "a", 1),
            key(&recipe("run = [\"steps:train\"]", 1, 1, None), "a", 1),
            key(&recipe(&format!("{train}\nenv = {{ A = \"b\" }}"), 1, 1, None), "a", 1),
            key(&recipe(train, 2, 1, None), "a", 1),
            key(&recipe(train, 1, 2, None), "a", 1),
            key(&recipe(train, 1, 1, Some("x")), "a", 1),
            key(&recipe(train, 1, 1, None), "b", 1),
            key(&recipe(train, 1, 1, None), "a", 2),
        ];
        for (at, other) in others.iter().enumerate() {
            assert!(*other != first && !others[..at].contains(other), "{at}");
        }
        assert!(seed(first) < 1 << 53);
        assert_ne!(seed(first), seed(others[0]));
    }
}
