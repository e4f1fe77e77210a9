//! The one question that everybody is asked, in each server's words, and what its answer says.

use std::{fmt::Write, net::SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use prost::Message;
use serde_json::{Value, json};
use tradewind_api::grpc::{
    frame,
    message::{InferInputTensor, ModelInferRequest, ModelInferResponse},
};

use super::contender::{Contender, Model, Route};
use crate::{
    client::Connection,
    grpc::{self, framed},
    h2load::Version,
};

/// What all servers call the model.
pub(super) const MODEL: &str = "model";

/// A request, byte for byte.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub route: Route,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    /// None of a GET.
    pub body: Option<Bytes>,
}

impl Question {
    /// About the first image.
    pub(super) fn of(contender: Contender, route: Route, model: Model) -> Self {
        let image = model.image(0);
        let shape: Vec<usize> = [1].iter().chain(model.shape()).copied().collect();
        let json = |value: &str| ("content-type", value.to_owned());
        let infer = || format!("/v2/models/{MODEL}/infer");
        let (path, headers, body) = match route {
            Route::Json if contender.speaks_v2() => {
                let input =
                    json!({ "name": "image", "datatype": "FP32", "shape": shape, "data": Numbers(&image).json() });
                (infer(), vec![json("application/json")], json!({ "inputs": [input] }).to_string().into())
            }
            Route::Json => {
                let path = if contender == Contender::Ray { "/" } else { "/predict" };
                let body = json!({ "rows": [Numbers(&image).json()] }).to_string();
                (path.to_owned(), vec![json("application/json")], body.into())
            }
            Route::Binary => {
                let parameters = json!({ "binary_data_size": 4 * image.len() });
                let input = json!({ "name": "image", "datatype": "FP32", "shape": shape, "parameters": parameters });
                let head = json!({ "inputs": [input], "parameters": { "binary_data_output": true } }).to_string();
                let length = ("inference-header-content-length", head.len().to_string());
                let body = [head.as_bytes(), &raw(&image)].concat();
                (infer(), vec![json("application/octet-stream"), length], body.into())
            }
            Route::Grpc => {
                let headers = vec![json(grpc::CONTENT_TYPE), ("te", "trailers".to_owned())];
                (grpc::path(), headers, framed(&call(&shape, &image)))
            }
            Route::Health => {
                return Self { route, path: "/v2/health/live".to_owned(), headers: Vec::new(), body: None };
            }
        };
        Self { route, path, headers, body: Some(body) }
    }

    pub(super) fn version(&self) -> Version {
        if self.route == Route::Grpc { Version::Http2 } else { Version::Http1 }
    }

    /// Asks once, and gives the answer's body.
    pub(super) async fn ask(&self, address: SocketAddr) -> Result<Bytes> {
        if self.route == Route::Grpc {
            let outcome = grpc::call(address, self.body.clone().unwrap_or_default()).await?;
            ensure!(outcome.succeeded(), "a call was answered with {outcome:?}");
            return Ok(outcome.answer);
        }
        let method = if self.body.is_some() { Method::POST } else { Method::GET };
        let mut request = Request::builder().method(method).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(self.body.clone().unwrap_or_default()))?;
        let (status, answer) = Connection::open(address).await?.exchange(request).await?;
        let shown = || String::from_utf8_lossy(&answer).chars().take(500).collect::<String>();
        ensure!(status == StatusCode::OK, "{} was answered with {status}: {}", self.path, shown());
        Ok(answer)
    }

    /// The scores that an answer has.
    pub(super) fn scores(&self, answer: &[u8], model: Model) -> Result<Vec<f32>> {
        let scores = match self.route {
            Route::Json => {
                let answer: Value = serde_json::from_slice(answer).context("an answer is no JSON")?;
                let mut scores = Vec::new();
                collect(answer.pointer("/outputs/0/data").unwrap_or(&answer), &mut scores);
                scores
            }
            Route::Binary => {
                let begin = answer.len().checked_sub(4 * model.classes()).context("an answer is too short")?;
                floats(&answer[begin..])
            }
            Route::Grpc => {
                let message = answer.get(frame::HEADER_BYTES..).context("an answer has no frame")?;
                let response = ModelInferResponse::decode(message).context("an answer is no message")?;
                floats(response.raw_output_contents.first().context("an answer has no raw output")?)
            }
            Route::Health => bail!("the health route has no scores"),
        };
        ensure!(scores.len() == model.classes(), "an answer has {} scores", scores.len());
        Ok(scores)
    }
}

/// Numbers as every client writes them: the shortest text that means the same 32 bits.
struct Numbers<'a>(&'a [f32]);

impl Numbers<'_> {
    fn json(&self) -> Value {
        self.0.iter().map(|number| short(*number)).collect()
    }
}

fn short(number: f32) -> Value {
    let mut text = String::new();
    write!(text, "{number}").expect("a String takes everything");
    Value::from(text.parse::<f64>().expect("what was written is a number"))
}

fn call(shape: &[usize], image: &[f32]) -> ModelInferRequest {
    let input = InferInputTensor {
        name: "image".to_owned(),
        datatype: "FP32".to_owned(),
        shape: shape.iter().map(|&size| size as i64).collect(),
        contents: None,
    };
    ModelInferRequest {
        model_name: MODEL.to_owned(),
        inputs: vec![input],
        raw_input_contents: vec![raw(image).into()],
        ..ModelInferRequest::default()
    }
}

fn raw(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let number = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    bytes.chunks_exact(4).map(number).collect()
}

/// All numbers, however deep they lie.
#[expect(clippy::cast_possible_truncation, reason = "a server may write 32 bits as 64")]
fn collect(value: &Value, numbers: &mut Vec<f32>) {
    match value {
        Value::Number(number) => numbers.extend(number.as_f64().map(|number| number as f32)),
        Value::Array(values) => values.iter().for_each(|value| collect(value, numbers)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, numbers)),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(route: Route, answer: &[u8], expected: &[f32]) {
        let question = Question::of(Contender::Tradewind, route, Model::Small);
        assert_eq!(question.scores(answer, Model::Small).unwrap(), expected);
    }

    #[test]
    fn scores_are_found_in_every_form_of_an_answer() {
        let scores: Vec<f32> = (0..10).map(|class| class as f32 / 8.0).collect();
        let nested = json!([scores.clone()]).to_string();
        let v2 = json!({ "model_version": "1", "outputs": [{ "shape": [1, 10], "data": scores.clone() }] }).to_string();
        let named = json!({ "scores": [scores.clone()] }).to_string();
        for text in [nested, v2, named] {
            check(Route::Json, text.as_bytes(), &scores);
        }
        check(Route::Binary, &[b"{}".as_slice(), &raw(&scores)].concat(), &scores);
        let response = ModelInferResponse { raw_output_contents: vec![raw(&scores).into()], ..Default::default() };
        check(Route::Grpc, &framed(&response), &scores);
    }

    #[test]
    fn all_are_asked_the_same_numbers() {
        let image = Model::Small.image(0);
        let text = |contender| Question::of(contender, Route::Json, Model::Small).body.unwrap();
        let numbers = |body: &[u8], pointer: &str| {
            let (value, mut numbers) = (serde_json::from_slice::<Value>(body).unwrap(), Vec::new());
            collect(value.pointer(pointer).unwrap(), &mut numbers);
            numbers
        };
        assert_eq!(numbers(&text(Contender::Kserve), "/inputs/0/data"), image);
        assert_eq!(numbers(&text(Contender::Ray), "/rows"), image);
        let binary = Question::of(Contender::Triton, Route::Binary, Model::Small).body.unwrap();
        assert!(binary.ends_with(&raw(&image)));
    }
}
