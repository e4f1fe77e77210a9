//! One thread and its session: takes what is to run next, runs it, and gives everybody their part.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ort::{
    ErrorCode,
    session::{RunOptions, Session},
    value::DynValue,
};
use tradewind_core::bundle::Signature;

use super::{
    InferError, Outputs,
    job::{Job, Run},
    queue::Queue,
    together::{self, Class},
};
use crate::tensor::Input;

/// What ONNX Runtime writes before the name of the operator that failed.
const RUNNING: &str = "while running ";

/// What all threads of an engine share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) queue: Queue,
    pub(super) signature: Signature,
    /// Whether requests run together. No more, once the model has shown that its outputs are not of its rows.
    pub(super) together: AtomicBool,
    pub(super) executions: AtomicU64,
}

/// Runs what comes until nothing will.
pub(super) fn serve(session: &mut Session, shared: &Shared) {
    while let Some(batch) = shared.queue.next() {
        let rest = if batch.len() > 1 { shared.run_together(session, batch) } else { batch };
        rest.into_iter().filter(Job::is_awaited).for_each(|job| shared.run_alone(session, job));
    }
}

impl Shared {
    /// How many rows these inputs have, and with which they may run together.
    pub(super) fn classify(&self, inputs: &[Input]) -> (usize, Option<Class>) {
        let class = if self.together.load(Ordering::Relaxed) { together::classify(inputs) } else { None };
        class.map_or((1, None), |(rows, class)| (rows, Some(class)))
    }

    fn run_alone(&self, session: &mut Session, job: Job) {
        let jobs = [job];
        let began = Instant::now();
        let result = Run::of(&jobs)
            .map_err(|error| failed(&error))
            .and_then(|started| run(session, &jobs[0].inputs, &started.options));
        let [job] = jobs;
        let result = result.map(|(values, took)| {
            self.ran(job.rows, took);
            Outputs { values: Arc::new(values), share: None, took, queued: began - job.came, batch: Some(1) }
        });
        job.reply(result);
    }

    fn ran(&self, rows: usize, took: Duration) {
        self.executions.fetch_add(1, Ordering::Relaxed);
        self.queue.observe(rows, took);
    }

    /// Those that have to run alone: one of them may be what the model refuses, and must not fail the others.
    fn run_together(&self, session: &mut Session, batch: Vec<Job>) -> Vec<Job> {
        let began = Instant::now();
        let requests: Vec<&[Input]> = batch.iter().map(|job| job.inputs.as_slice()).collect();
        let outputs = together::join(&requests, &self.signature).map_err(|error| failed(&error)).and_then(|inputs| {
            let started = Run::of(&batch).map_err(|error| failed(&error))?;
            run(session, &inputs, &started.options)
        });
        let (values, took) = match outputs {
            Ok((values, took)) => (Arc::new(values), took),
            Err(error) => {
                tracing::debug!(%error, requests = batch.len(), "a batch failed, its requests run one by one");
                return batch;
            }
        };
        let rows: Vec<usize> = batch.iter().map(|job| job.rows).collect();
        let Some(shares) = together::shares(&rows, &values) else {
            tracing::warn!("the model's outputs are not of its inputs' rows, its requests run one by one from now on");
            self.together.store(false, Ordering::Relaxed);
            return batch;
        };
        self.ran(rows.iter().sum(), took);
        // By one task: told from here, the reactor would be woken for each of them.
        tokio::spawn(async move {
            let mut requests = Some(batch.len());
            for (job, share) in batch.into_iter().zip(shares) {
                let (values, queued) = (Arc::clone(&values), began - job.came);
                job.reply(Ok(Outputs { values, share: Some(share), took, queued, batch: requests.take() }));
            }
        });
        Vec::new()
    }
}

/// All outputs of the model, in the order of its signature, and how long it took.
pub(super) fn run(
    session: &mut Session,
    inputs: &[Input],
    options: &RunOptions,
) -> Result<(Vec<DynValue>, Duration), InferError> {
    let started = Instant::now();
    let inputs: Result<Vec<_>, _> = inputs.iter().map(Input::session_value).collect();
    let inputs = inputs.map_err(|error| failed(&error))?;
    let outputs = session.run_with_options(inputs.as_slice(), options).map_err(|error| {
        tracing::debug!(error = error.message(), "inference failed");
        let reason = reason(error.message());
        if is_refusal(&error) { InferError::Refused(reason) } else { InferError::Failed(reason) }
    })?;
    let values = outputs.into_iter().map(|(_, value)| value).collect();
    Ok((values, started.elapsed()))
}

fn failed(error: &ort::Error) -> InferError {
    InferError::Failed(error.message().to_owned())
}

/// Operators report a precondition that the values do not meet as invalid, or as a plain failure.
fn is_refusal(error: &ort::Error) -> bool {
    match error.code() {
        ErrorCode::InvalidArgument => true,
        ErrorCode::GenericFailure => error.message().contains(RUNNING),
        _ => false,
    }
}

/// What a user can do something with: ONNX Runtime's messages carry the paths and functions of its own sources.
fn reason(message: &str) -> String {
    let detail = message.split_once("Status Message: ").map_or(message, |(_, detail)| detail);
    let detail = detail.rsplit_once(" was false. ").map_or(detail, |(_, detail)| detail);
    let node = message.split_once(RUNNING).and_then(|(_, rest)| rest.split_once(" node."));
    match node {
        Some((operator, _)) if detail.starts_with('/') => format!("operator {operator}"),
        Some((operator, _)) => format!("operator {operator}: {}", detail.trim()),
        None => detail.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn reasons_keep_what_helps_and_drop_paths() {
        let reshape = "Non-zero status code returned while running Reshape node. Name:'r' Status Message: \
                       /onnxruntime_src/a.h:45 onnxruntime::ReshapeHelper(const TensorShape&) size != 0 was false. \
                       The input tensor cannot be reshaped to the requested shape. Input shape:{4}";
        let expected = "operator Reshape: The input tensor cannot be reshaped to the requested shape. Input shape:{4}";
        assert_eq!(reason(reshape), expected);
        let bare = "Non-zero status code returned while running Add node. Name:'' Status Message: /src/b.cc:7 Run()";
        assert_eq!(reason(bare), "operator Add");
        assert_eq!(reason("Exiting due to terminate flag"), "Exiting due to terminate flag");
    }
}
