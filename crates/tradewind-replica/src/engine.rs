//! The one thread that runs the model. ONNX Runtime's `Run` wants exclusive use of its session, so requests queue up
//! here, in a bounded queue; parallelism within a request comes from ONNX Runtime's own threads.

use std::{
    collections::BTreeMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use ort::{
    ErrorCode,
    memory::Allocator,
    session::{RunOptions, Session},
    value::{DynTensor, DynValue, Tensor},
};
use tokio::sync::{mpsc, oneshot};
use tradewind_api::replica::INFERENCE_LIMIT;
use tradewind_core::{
    bundle::{BundleFile, Signature, TensorSpec},
    inference::Datatype,
};

use crate::{
    model::{Loaded, ModelError},
    signature::element_type,
    tensor::Input,
};

/// Requests that wait for the model; one more is told to come back later.
pub(crate) const QUEUE_LIMIT: usize = 128;
/// The warm-up makes no input larger than this many elements.
const WARM_UP_ELEMENTS_LIMIT: usize = 16 << 20;

/// A handle to the thread. Cheap to call; the thread ends when [`Engine::stop`] is called or every handle is gone.
#[derive(Debug)]
pub(crate) struct Engine {
    queue: mpsc::Sender<Message>,
    pub(crate) signature: Signature,
    pub(crate) files: BTreeMap<String, BundleFile>,
}

/// An engine that is still loading its model.
#[derive(Debug)]
pub(crate) struct Starting {
    /// Nothing arrives when the thread died.
    pub(crate) ready: oneshot::Receiver<Result<Engine, ModelError>>,
    /// Resolves, with an error, when the thread has ended.
    pub(crate) ended: oneshot::Receiver<()>,
}

/// All outputs of the model, in the order of its signature.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) values: Vec<DynValue>,
    pub(crate) took: Duration,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum InferError {
    #[error("{QUEUE_LIMIT} requests wait for the model already")]
    Overloaded,
    #[error("the replica is stopping")]
    Stopping,
    #[error("the inference took longer than {} s", INFERENCE_LIMIT.as_secs())]
    Deadline,
    /// An operator cannot take these values: the request's doing, or else golden cases would have failed too. A
    /// server error here would let any client make a healthy version look broken.
    #[error("the model refused the input: {0}")]
    Refused(String),
    /// ONNX Runtime's own doing, such as memory that ran out.
    #[error("the inference failed: {0}")]
    Failed(String),
}

/// What ONNX Runtime writes before the name of the operator that failed.
const RUNNING: &str = "while running ";

enum Message {
    Run(Job),
    Stop,
}

struct Job {
    inputs: Vec<Input>,
    options: Arc<RunOptions>,
    reply: oneshot::Sender<Result<Outputs, InferError>>,
}

/// Loads on a thread of its own, warms the model up there, and goes on to serve.
pub(crate) fn start(load: impl FnOnce() -> Result<Loaded, ModelError> + Send + 'static) -> io::Result<Starting> {
    let (announce, ready) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    std::thread::Builder::new().name("inference".to_owned()).spawn(move || {
        let _end = end;
        serve(load, announce);
    })?;
    Ok(Starting { ready, ended })
}

fn serve(load: impl FnOnce() -> Result<Loaded, ModelError>, announce: oneshot::Sender<Result<Engine, ModelError>>) {
    let Loaded { mut session, signature, files } = match load() {
        Ok(loaded) => loaded,
        Err(error) => {
            // Whoever started this thread may have given up meanwhile.
            let _ = announce.send(Err(error));
            return;
        }
    };
    warm_up(&mut session, &signature);
    let (queue, mut messages) = mpsc::channel(QUEUE_LIMIT);
    if announce.send(Ok(Engine { queue, signature, files })).is_err() {
        return;
    }
    while let Some(Message::Run(job)) = messages.blocking_recv() {
        // The client may have left while its request waited.
        if !job.reply.is_closed() {
            let result = run(&mut session, &job.inputs, &job.options);
            let _ = job.reply.send(result);
        }
    }
}

impl Engine {
    /// `inputs` follow the order of the signature and have been checked against it. Dropping the future cancels.
    pub(crate) async fn infer(&self, inputs: Vec<Input>) -> Result<Outputs, InferError> {
        let options = RunOptions::new().map_err(|error| InferError::Failed(error.message().to_owned()))?;
        let options = Arc::new(options);
        let (reply, answer) = oneshot::channel();
        let job = Job { inputs, options: Arc::clone(&options), reply };
        self.queue.try_send(Message::Run(job)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => InferError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => InferError::Stopping,
        })?;
        let _terminate = TerminateOnDrop(options);
        match tokio::time::timeout(INFERENCE_LIMIT, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(InferError::Stopping),
            Err(_) => Err(InferError::Deadline),
        }
    }

    /// Requests that wait for the model.
    pub(crate) fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Ends the thread after what is queued.
    pub(crate) async fn stop(&self) {
        // It has ended already when nobody receives.
        let _ = self.queue.send(Message::Stop).await;
    }
}

/// Ends a run whose answer nobody awaits any more; of no effect on one that is over.
struct TerminateOnDrop(Arc<RunOptions>);

impl Drop for TerminateOnDrop {
    fn drop(&mut self) {
        if let Err(error) = self.0.terminate() {
            tracing::warn!(%error, "could not cancel an inference");
        }
    }
}

fn run(session: &mut Session, inputs: &[Input], options: &RunOptions) -> Result<Outputs, InferError> {
    let started = Instant::now();
    let inputs: Result<Vec<_>, _> = inputs.iter().map(Input::session_value).collect();
    let inputs = inputs.map_err(|error| InferError::Failed(error.message().to_owned()))?;
    let outputs = session.run_with_options(inputs.as_slice(), options).map_err(|error| {
        tracing::debug!(error = error.message(), "inference failed");
        let reason = reason(error.message());
        if is_refusal(&error) { InferError::Refused(reason) } else { InferError::Failed(reason) }
    })?;
    let values = outputs.into_iter().map(|(_, value)| value).collect();
    Ok(Outputs { values, took: started.elapsed() })
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

/// One inference on zeros, so that the first user does not pay for lazy allocation. Zeros in the smallest shape may be
/// no valid input at all, so a failure here says nothing about the model; golden cases do.
fn warm_up(session: &mut Session, signature: &Signature) {
    let started = Instant::now();
    let warmed = signature
        .inputs
        .iter()
        .map(blank)
        .collect::<Result<Vec<_>, _>>()
        .and_then(|inputs| RunOptions::new().map(|options| (inputs, options)))
        .map_err(|error| InferError::Failed(error.message().to_owned()))
        .and_then(|(inputs, options)| run(session, &inputs, &options));
    match warmed {
        Ok(_) => tracing::info!(took_ms = started.elapsed().as_millis(), "warmed up"),
        Err(error) => tracing::info!(%error, "the model takes no zeros, it starts cold"),
    }
}

fn blank(spec: &TensorSpec) -> Result<Input, ort::Error> {
    let shape: Vec<i64> = spec.shape.iter().map(|&dim| if dim < 0 { 1 } else { dim }).collect();
    let elements = shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(usize::try_from(dim).ok()?));
    let Some(elements) = elements.filter(|&elements| elements <= WARM_UP_ELEMENTS_LIMIT) else {
        return Err(ort::Error::new(format!("input `{}` is too large to warm up with", spec.name)));
    };
    match spec.datatype {
        Datatype::Bytes => {
            let strings = vec![String::new(); elements];
            Ok(Input::Owned(Tensor::from_string_array((shape, strings.as_slice()))?.into_dyn()))
        }
        datatype => {
            let zeros = DynTensor::new(&Allocator::default(), element_type(datatype), shape)?;
            Ok(Input::Owned(zeros.into_dyn()))
        }
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
