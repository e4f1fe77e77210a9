//! Golden cases of a server whose paths are its own: a request as any client sends it, and what the answer must have.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Tolerance, element::Element};
use crate::inference::Datatype;

/// Of an answer that is not as expected, so much is shown, in characters.
const SHOWN_LIMIT: usize = 200;
/// The most headers of a request.
const HEADERS_LIMIT: usize = 64;
/// A pattern that needs more memory than this, in bytes, is refused.
const PATTERN_BYTES_LIMIT: usize = 1 << 20;
/// What whoever sends the request sets.
const RESERVED_HEADERS: [&str; 5] = ["host", "content-length", "transfer-encoding", "connection", "x-tradewind-probe"];

/// A golden case that speaks HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpCase {
    pub http: HttpRequest,
    pub expect: HttpExpectation,
    /// For the numbers of `expect.json` that are not whole.
    #[serde(default)]
    pub tolerance: Tolerance,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpRequest {
    /// Default: `POST` with a body, else `GET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    pub path: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A string is sent as it is, anything else as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

/// What the answer must have; at least one of these.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpExpectation {
    /// Default: any 2xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Every key that stands here is in the answer, with this value; the answer may have more keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// This text stands somewhere in the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// This regular expression matches somewhere in the body; `.` does not match the end of a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
}

impl HttpRequest {
    pub fn method(&self) -> &str {
        let default = if self.body.is_some() { "POST" } else { "GET" };
        self.method.as_deref().unwrap_or(default)
    }

    /// The bytes of the body, and their type unless a header says it.
    pub fn body(&self) -> Option<(Vec<u8>, &'static str)> {
        match self.body.as_ref()? {
            Value::String(text) => Some((text.clone().into_bytes(), "text/plain; charset=utf-8")),
            json => Some((json.to_string().into_bytes(), "application/json")),
        }
    }

    fn check(&self) -> Result<(), String> {
        let is_token = |text: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            !text.is_empty() && text.bytes().all(plain)
        };
        if !is_token(self.method()) {
            return Err("http.method is a word such as POST".to_owned());
        }
        if !self.path.starts_with('/') || !self.path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err("http.path is a path of the server such as /v1/completions".to_owned());
        }
        if self.headers.len() > HEADERS_LIMIT {
            return Err(format!("http.headers has more than {HEADERS_LIMIT} headers"));
        }
        for (name, value) in &self.headers {
            if !is_token(name) || RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(format!("http.headers: `{name}` cannot be set"));
            }
            if !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                return Err(format!("http.headers: the value of `{name}` is not plain text"));
            }
        }
        Ok(())
    }
}

impl HttpCase {
    /// Whether the case can hold at all.
    pub fn check(&self) -> Result<(), String> {
        self.http.check()?;
        self.tolerance.check()?;
        if let Some(pattern) = &self.expect.matches {
            compile(pattern)?;
        }
        match &self.expect {
            HttpExpectation { status: None, json: None, contains: None, matches: None } => {
                Err("nothing is expected: a case without expectation proves nothing".to_owned())
            }
            HttpExpectation { status: Some(status), .. } if !(200..=599).contains(status) => {
                Err(format!("expect.status: {status} is no status of an answer"))
            }
            _ => Ok(()),
        }
    }

    /// Compares an answer with what is expected; the error says what differs first.
    pub fn compare(&self, status: u16, body: &[u8]) -> Result<(), String> {
        let HttpExpectation { status: expected, json, contains, matches } = &self.expect;
        let text = String::from_utf8_lossy(body);
        match expected {
            Some(expected) if *expected != status => {
                return Err(format!("expected status {expected}, got {status}: {}", shown(&text)));
            }
            None if !(200..300).contains(&status) => return Err(format!("got status {status}: {}", shown(&text))),
            _ => {}
        }
        if let Some(expected) = json {
            let actual: Value = serde_json::from_slice(body)
                .map_err(|error| format!("the answer is no JSON: {error}: {}", shown(&text)))?;
            self.compare_json("", expected, &actual)?;
        }
        if let Some(part) = contains
            && !text.contains(part.as_str())
        {
            return Err(format!("the answer does not contain `{}`: {}", shown(part), shown(&text)));
        }
        match matches {
            Some(pattern) if !compile(pattern)?.is_match(&text) => {
                Err(format!("the answer does not match `{}`: {}", shown(pattern), shown(&text)))
            }
            _ => Ok(()),
        }
    }

    fn compare_json(&self, at: &str, expected: &Value, actual: &Value) -> Result<(), String> {
        let differs = || {
            let at = if at.is_empty() { "the answer" } else { at };
            Err(format!("{at}: expected {}, got {}", shown(&expected.to_string()), shown(&actual.to_string())))
        };
        match (expected, actual) {
            (Value::Object(expected), Value::Object(actual)) => expected.iter().try_for_each(|(key, expected)| {
                let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                match actual.get(key) {
                    Some(actual) => self.compare_json(&at, expected, actual),
                    None => Err(format!("{at} is missing")),
                }
            }),
            (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
                let pairs = expected.iter().zip(actual).enumerate();
                let mut compared = pairs.map(|(n, (one, other))| self.compare_json(&format!("{at}[{n}]"), one, other));
                compared.find(Result::is_err).unwrap_or(Ok(()))
            }
            (Value::Number(one), Value::Number(other)) if one.is_f64() || other.is_f64() => {
                let allowed = self.tolerance.of(Datatype::Fp64);
                match one.as_f64().zip(other.as_f64()) {
                    Some((one, other)) if Element::Float(other).is_close(Element::Float(one), allowed) => Ok(()),
                    _ => differs(),
                }
            }
            _ if expected == actual => Ok(()),
            _ => differs(),
        }
    }
}

/// Such expressions take time that grows with the text alone, so that a pattern cannot hold up a deploy.
fn compile(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_LIMIT).build();
    built.map_err(|error| {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("expect.matches: `{}` is no regular expression: {why}", shown(pattern))
    })
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_LIMIT) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn case(expect: Value) -> HttpCase {
        serde_json::from_value(json!({"http": {"path": "/v1/x", "body": {"n": 1}}, "expect": expect})).unwrap()
    }

    #[test]
    fn an_answer_must_have_what_is_expected_and_may_have_more() {
        let check = |expect: Value, status, body: &str, expected: Option<&str>| {
            let result = case(expect).compare(status, body.as_bytes());
            assert_eq!(result.err().as_deref(), expected, "{body}");
        };
        let answer = r#"{"id": 7, "choices": [{"text": "sea", "score": 0.25}], "model": "m"}"#;
        check(json!({"status": 200}), 200, "", None);
        check(json!({"status": 200}), 500, "broken", Some("expected status 200, got 500: broken"));
        check(json!({"contains": "sea"}), 503, "loading", Some("got status 503: loading"));
        check(json!({"json": {"choices": [{"text": "sea"}]}}), 200, answer, None);
        check(json!({"json": {"choices": [{"score": 0.250_000_01}]}}), 200, answer, None);
        check(
            json!({"json": {"choices": [{"score": 0.3}]}}),
            200,
            answer,
            Some("choices[0].score: expected 0.3, got 0.25"),
        );
        check(json!({"json": {"id": 8}}), 200, answer, Some("id: expected 8, got 7"));
        check(json!({"json": {"usage": {}}}), 200, answer, Some("usage is missing"));
        check(
            json!({"json": {"choices": []}}),
            200,
            answer,
            Some(r#"choices: expected [], got [{"score":0.25,"text":"sea"}]"#),
        );
        check(json!({"json": ["a"]}), 200, r#"["b"]"#, Some(r#"[0]: expected "a", got "b""#));
        let no_json = case(json!({"json": {}})).compare(200, b"<html>").unwrap_err();
        assert!(no_json.starts_with("the answer is no JSON: ") && no_json.ends_with("<html>"), "{no_json}");
        check(json!({"contains": "data: [DONE]"}), 200, "data: a\n\ndata: [DONE]\n\n", None);
        check(json!({"contains": "b"}), 200, "a", Some("the answer does not contain `b`: a"));
        check(json!({"matches": r"^data: \w\n"}), 200, "data: a\n\ndata: [DONE]\n\n", None);
        check(json!({"matches": "a{3}"}), 200, "aab", Some("the answer does not match `a{3}`: aab"));
        let long = case(json!({"contains": "b"})).compare(200, &[b'a'; 10_000]).unwrap_err();
        assert!(long.len() < 300, "{long}");
    }

    #[test]
    fn a_case_that_cannot_hold_is_refused() {
        let check = |http: Value, expect: Value, expected: &str| {
            let case: HttpCase = serde_json::from_value(json!({"http": http, "expect": expect})).unwrap();
            assert_eq!(case.check(), Err(expected.to_owned()));
        };
        assert_eq!(case(json!({"status": 200})).check(), Ok(()));
        let ok = json!({"status": 200});
        check(json!({"path": "/"}), json!({}), "nothing is expected: a case without expectation proves nothing");
        check(json!({"path": "/"}), json!({"status": 99}), "expect.status: 99 is no status of an answer");
        check(json!({"path": "x"}), ok.clone(), "http.path is a path of the server such as /v1/completions");
        check(json!({"path": "/a b"}), ok.clone(), "http.path is a path of the server such as /v1/completions");
        check(json!({"path": "/", "method": "GET /"}), ok.clone(), "http.method is a word such as POST");
        let matches = json!({"matches": "(a"});
        check(json!({"path": "/"}), matches, "expect.matches: `(a` is no regular expression: unclosed group");
        let headers = |name: &str, value: &str| json!({"path": "/", "headers": {name: value}});
        check(headers("Host", "x"), ok.clone(), "http.headers: `Host` cannot be set");
        check(headers("a:b", "x"), ok.clone(), "http.headers: `a:b` cannot be set");
        check(headers("a", "x\r\nb: c"), ok, "http.headers: the value of `a` is not plain text");
    }

    #[test]
    fn a_body_is_text_or_json() {
        let request = |body: Value| HttpRequest {
            method: None,
            path: "/".to_owned(),
            headers: BTreeMap::new(),
            body: Some(body),
        };
        let text = request(json!("hello"));
        assert_eq!((text.method(), text.body()), ("POST", Some((b"hello".to_vec(), "text/plain; charset=utf-8"))));
        assert_eq!(request(json!([1])).body(), Some((b"[1]".to_vec(), "application/json")));
        let none = HttpRequest { body: None, ..request(json!(1)) };
        assert_eq!((none.method(), none.body()), ("GET", None));
    }
}
