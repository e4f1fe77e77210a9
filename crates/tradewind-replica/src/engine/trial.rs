//! A model's first inferences: they warm it up, and show whether its rows heed each other.

use std::{sync::Arc, time::Instant};

use ort::session::{RunOptions, Session};
use tradewind_core::{
    batch::BatchMode,
    bundle::Signature,
    inference::{InferRequest, InferResponse},
    verify::{self, Expectation, GoldenCase, Tolerance, smoke_request},
};

use super::{
    Outputs, instance,
    together::{self, Class},
};
use crate::{
    model::{ModelError, Warming},
    request,
    response::{self, Answering, Asked},
    tensor::Input,
};

/// So many requests show whether they may run together.
const ENOUGH: usize = 3;

/// Runs the model on requests of golden cases, or on made-up ones, so that the first user does not pay for lazy allocation.
/// Whether requests may run together: in the mode `Auto`, if they are seen to get the same answers in company as alone.
///
/// A golden case that the model does not take is an error. A made-up request may be no valid input at all, so nothing
/// follows from it.
pub(super) fn warm_up(
    session: &mut Session,
    signature: &Signature,
    cases: &[Warming],
    mode: BatchMode,
) -> Result<bool, ModelError> {
    let started = Instant::now();
    let mut trials = Vec::new();
    for Warming { path, request } in cases {
        let trial = Trial::run(session, signature, request.clone());
        trials.push(trial.map_err(|reason| ModelError::Case { case: path.clone(), reason })?);
    }
    let has_rows = together::has_rows(signature);
    let wanted = if has_rows && mode == BatchMode::Auto { ENOUGH } else { 1 };
    for seed in trials.len()..wanted {
        let request = smoke_request(signature, seed as u64).map_err(text);
        match request.and_then(|request| Trial::run(session, signature, request)) {
            Ok(trial) => trials.push(trial),
            Err(reason) => tracing::info!(reason, "the model does not take a made-up request"),
        }
    }
    let together = has_rows
        && match mode {
            BatchMode::Auto => rows_are_independent(session, signature, trials),
            BatchMode::On => true,
            BatchMode::Off => false,
        };
    tracing::info!(took_ms = started.elapsed().as_millis(), together, "warmed up");
    Ok(together)
}

/// A request, and what the model answers to it alone.
struct Trial {
    request: InferRequest,
    inputs: Vec<Input>,
    /// How many rows it has, and with which it may run together.
    batch: Option<(usize, Class)>,
    asked: Asked,
    /// `None` for one that cannot be written as JSON.
    answer: Option<InferResponse>,
}

impl Trial {
    fn run(session: &mut Session, signature: &Signature, request: InferRequest) -> Result<Self, String> {
        let body = serde_json::to_vec(&request).map_err(text)?;
        let (inputs, asked) = request::json::parse(body.into(), None, signature).map_err(text)?.split();
        let outputs = run(session, &inputs)?;
        let answer = written(&outputs, &asked, signature).ok();
        Ok(Self { request, batch: together::classify(&inputs), inputs, asked, answer })
    }

    /// These outputs are the same answer, but for rounding.
    fn check(self, outputs: &Outputs, signature: &Signature) -> Result<(), String> {
        let answer = written(outputs, &self.asked, signature)?;
        let alone = self.answer.ok_or("its answer alone cannot be written as JSON")?;
        let expect = Expectation { outputs: alone.outputs };
        let case = GoldenCase { request: self.request, expect, tolerance: Tolerance::default() };
        verify::compare(&case, &answer).map_err(text)
    }
}

/// Whether requests get the same answers in company as alone: those that are like the first one, if there are any.
fn rows_are_independent(session: &mut Session, signature: &Signature, trials: Vec<Trial>) -> bool {
    let Some((_, class)) = trials.first().and_then(|trial| trial.batch.clone()) else { return false };
    let like = |trial: Trial| trial.batch.clone().filter(|(_, own)| *own == class).map(|(rows, _)| (trial, rows));
    let (alike, rows): (Vec<Trial>, Vec<usize>) = trials.into_iter().filter_map(like).unzip();
    if alike.len() < 2 {
        return false;
    }
    let inputs: Vec<&[Input]> = alike.iter().map(|trial| trial.inputs.as_slice()).collect();
    // What takes one row only has no batches.
    let joined = together::join(&inputs, signature).map_err(text).and_then(|joined| run(session, &joined));
    let Ok(outputs) = joined else { return false };
    let Some(shares) = together::shares(&rows, &outputs.values) else { return false };
    alike.into_iter().zip(shares).all(|(trial, share)| {
        let part = Outputs { values: Arc::clone(&outputs.values), share: Some(share), ..outputs };
        trial
            .check(&part, signature)
            .inspect_err(|difference| tracing::info!(difference, "rows heed each other"))
            .is_ok()
    })
}

fn run(session: &mut Session, inputs: &[Input]) -> Result<Outputs, String> {
    let options = RunOptions::new().map_err(text)?;
    let (values, took) = instance::run(session, inputs, &options).map_err(text)?;
    Ok(Outputs { values: Arc::new(values), share: None, took, queued: took, batch: None })
}

fn written(outputs: &Outputs, asked: &Asked, signature: &Signature) -> Result<InferResponse, String> {
    let answering = Answering { model: "", version: "", signature };
    let encoded = response::json::encode(answering, asked, outputs).map_err(text)?;
    serde_json::from_slice(&encoded.body).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
