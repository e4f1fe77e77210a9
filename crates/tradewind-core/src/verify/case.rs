//! A golden case as its file holds it: an inference with its outputs, or an HTTP request with its answer.

use serde::{Deserialize, de::IgnoredAny};

use super::{GoldenCase, HttpCase, check_against};
use crate::bundle::{Runtime, Signature};

/// A golden case in either form.
#[derive(Debug, Clone, PartialEq)]
pub enum Case {
    Inference(GoldenCase),
    Http(HttpCase),
}

impl Case {
    /// Reads a case. One that has the key `http` is an HTTP case, so that a mistake in it is told in its own terms.
    pub fn parse(content: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Kind {
            http: Option<IgnoredAny>,
        }
        match serde_json::from_slice::<Kind>(content)?.http {
            Some(_) => serde_json::from_slice(content).map(Self::Http),
            None => serde_json::from_slice(content).map(Self::Inference),
        }
    }

    /// Whether it can hold for a model of this runtime and signature. The signature of a command is what its manifest
    /// states, if it does.
    pub fn check(&self, runtime: Runtime, signature: Option<&Signature>) -> Result<(), String> {
        match (self, runtime, signature) {
            (Self::Http(case), Runtime::Command, _) => case.check(),
            (Self::Http(_), Runtime::Onnx, _) => Err("an HTTP case is for the runtime `command`; \
                write an inference `request` and the outputs that it must give"
                .to_owned()),
            (Self::Inference(case), _, Some(signature)) => check_against(case, signature),
            (Self::Inference(_), _, None) => Err("a case with an inference `request` needs a `signature` in the \
                manifest; write an `http` request otherwise"
                .to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_of_the_kind_that_its_runtime_takes() {
        let http = br#"{"http": {"path": "/"}, "expect": {"status": 200}}"#;
        let inference = br#"{"request": {"inputs": []}, "expect": {"outputs": [
            {"name": "y", "datatype": "INT64", "shape": [1], "data": [1]}]}}"#;
        let signature: Signature =
            serde_json::from_str(r#"{"inputs": [], "outputs": [{"name": "y", "datatype": "INT64", "shape": [1]}]}"#)
                .unwrap();
        let check = |content: &[u8], runtime, signature, expected: Result<(), &str>| {
            let checked = Case::parse(content).unwrap().check(runtime, signature);
            match expected {
                Ok(()) => assert_eq!(checked, Ok(())),
                Err(part) => assert!(checked.as_ref().is_err_and(|error| error.contains(part)), "{checked:?}"),
            }
        };
        check(http, Runtime::Command, None, Ok(()));
        check(http, Runtime::Onnx, Some(&signature), Err("an HTTP case is for the runtime `command`"));
        check(inference, Runtime::Onnx, Some(&signature), Ok(()));
        check(inference, Runtime::Command, Some(&signature), Ok(()));
        check(inference, Runtime::Command, None, Err("needs a `signature` in the manifest"));
        let error = Case::parse(br#"{"http": {"pth": "/"}, "expect": {}}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `pth`"), "{error}");
    }
}
