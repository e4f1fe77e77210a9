//! A model's first inferences, on made-up requests: they warm it up, and show whether its rows heed each other.

use std::{sync::Arc, time::Instant};

use ort::session::{RunOptions, Session};
use tradewind_core::{
    batch::BatchMode,
    bundle::Signature,
    inference::{InferRequest, InferResponse},
    verify::{self, Expectation, GoldenCase, Tolerance, smoke_request},
};

use super::{Outputs, instance, together};
use crate::{
    request,
    response::{self, Answering, Asked},
    tensor::Input,
};

/// So many requests run alone and together.
const REQUESTS: u64 = 3;

/// Runs the model once, so that the first user does not pay for lazy allocation; and, where it depends on that, on more
/// requests. Whether requests may run together. Made-up ones may be no valid input at all, so a failure here says nothing of
/// the model: golden cases do.
pub(super) fn warm_up(session: &mut Session, signature: &Signature, mode: BatchMode) -> bool {
    let started = Instant::now();
    let has_rows = together::has_rows(signature);
    let tried = match mode {
        BatchMode::Auto if has_rows => rows_are_independent(session, signature),
        BatchMode::Auto | BatchMode::Off => Trial::run(session, signature, 1).map(|_| false),
        BatchMode::On => Trial::run(session, signature, 1).map(|_| has_rows),
    };
    match &tried {
        Ok(together) => tracing::info!(took_ms = started.elapsed().as_millis(), together, "warmed up"),
        Err(error) => tracing::info!(error, "the model takes no made-up request, it starts cold"),
    }
    tried.unwrap_or(mode == BatchMode::On && has_rows)
}

/// A made-up request, and what the model answers to it alone.
struct Trial {
    request: InferRequest,
    inputs: Vec<Input>,
    asked: Asked,
    answer: InferResponse,
}

impl Trial {
    fn run(session: &mut Session, signature: &Signature, seed: u64) -> Result<Self, String> {
        let request = smoke_request(signature, seed).map_err(text)?;
        let body = serde_json::to_vec(&request).map_err(text)?;
        let (inputs, asked) = request::json::parse(body.into(), None, signature).map_err(text)?.split();
        let outputs = run(session, &inputs)?;
        let answer = written(&outputs, &asked, signature)?;
        Ok(Self { request, inputs, asked, answer })
    }
}

/// Whether each request gets the same answer in company as alone.
fn rows_are_independent(session: &mut Session, signature: &Signature) -> Result<bool, String> {
    let trials = (1..=REQUESTS).map(|seed| Trial::run(session, signature, seed)).collect::<Result<Vec<_>, _>>()?;
    let inputs: Vec<&[Input]> = trials.iter().map(|trial| trial.inputs.as_slice()).collect();
    let classes: Vec<_> = inputs.iter().map(|inputs| together::classify(inputs)).collect();
    if !classes.iter().all(|class| class.is_some() && *class == classes[0]) {
        return Ok(false);
    }
    let joined = together::join(&inputs, signature).map_err(text)?;
    // What takes one row only has no batches.
    let Ok(outputs) = run(session, &joined) else { return Ok(false) };
    let rows = vec![1; trials.len()];
    let Some(shares) = together::shares(&rows, &outputs.values) else { return Ok(false) };
    for (trial, share) in trials.into_iter().zip(shares) {
        let part = Outputs { values: Arc::clone(&outputs.values), share: Some(share), ..outputs };
        let answer = written(&part, &trial.asked, signature)?;
        let expect = Expectation { outputs: trial.answer.outputs };
        let case = GoldenCase { request: trial.request, expect, tolerance: Tolerance::default() };
        if let Err(mismatch) = verify::compare(&case, &answer) {
            tracing::info!(%mismatch, "rows heed each other, requests run one by one");
            return Ok(false);
        }
    }
    Ok(true)
}

fn run(session: &mut Session, inputs: &[Input]) -> Result<Outputs, String> {
    let options = RunOptions::new().map_err(text)?;
    let (values, took) = instance::run(session, inputs, &options).map_err(text)?;
    Ok(Outputs { values: Arc::new(values), share: None, took, queued: took, requests: 1 })
}

fn written(outputs: &Outputs, asked: &Asked, signature: &Signature) -> Result<InferResponse, String> {
    let answering = Answering { model: "", version: "", signature };
    let encoded = response::json::encode(answering, asked, outputs).map_err(text)?;
    serde_json::from_slice(&encoded.body).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
