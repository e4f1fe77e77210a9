//! Where the model runs. Requests wait in one queue, which is bounded by who may ask at all; a thread for each session takes from it what it runs next, one
//! request or several together, whatever came while all threads were busy. Nothing waits for others to come.

mod instance;
mod job;
mod queue;
mod together;
mod trial;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use ort::{session::Session, value::DynValue};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use tradewind_api::replica::INFERENCE_LIMIT;
use tradewind_core::{
    batch::{BatchMode, BatchOptions},
    bundle::{BundleFile, Signature},
};

use self::{
    instance::Shared,
    job::{Job, Waiter},
    queue::Queue,
};
use crate::{
    model::{Loaded, ModelError},
    server::places::{BYTES_LIMIT, REQUESTS_LIMIT},
    tensor::Input,
};

pub(crate) use together::Share;

/// A handle to the threads, which end when [`Engine::stop`] is called or it is dropped.
#[derive(Debug)]
pub(crate) struct Engine {
    shared: Arc<Shared>,
    pub(crate) files: BTreeMap<String, BundleFile>,
}

/// An engine that is still loading its model.
#[derive(Debug)]
pub(crate) struct Starting {
    /// Nothing arrives when the thread died.
    pub(crate) ready: oneshot::Receiver<Result<Engine, ModelError>>,
    pub(crate) ended: Ended,
}

/// Tells of threads that end.
#[derive(Debug)]
pub(crate) struct Ended(mpsc::Receiver<()>);

impl Ended {
    /// Resolves when one of the threads has died, or all have ended as they should.
    pub(crate) async fn died(&mut self) -> bool {
        self.0.recv().await.is_some()
    }
}

/// A thread has one of these as long as it lives.
#[derive(Debug, Clone)]
struct Alive(mpsc::Sender<()>);

impl Drop for Alive {
    fn drop(&mut self) {
        if thread::panicking() {
            // Whoever would hear of it may be gone, or have heard of another one.
            let _ = self.0.try_send(());
        }
    }
}

/// All outputs of the model, in the order of its signature, and which part of them is the request's.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) values: Arc<Vec<DynValue>>,
    /// `None`: all.
    pub(crate) share: Option<Share>,
    /// How long the model ran.
    pub(crate) took: Duration,
    /// How long the request waited before.
    pub(crate) queued: Duration,
    /// How many requests the model ran for; only the first of them is told.
    pub(crate) batch: Option<usize>,
}

/// What a request asks for beside its outputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Nobody waits for the answer after that.
    pub(crate) due: Instant,
    /// Smaller is sooner.
    pub(crate) urgency: u32,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum InferError {
    #[error("{REQUESTS_LIMIT} requests are under way already")]
    Overloaded,
    #[error("the requests under way hold nearly {} MiB already, and this one does not fit in beside them", BYTES_LIMIT >> 20)]
    Full,
    #[error("so many requests wait for the model that the answer would come too late")]
    Hopeless,
    #[error("the replica is stopping")]
    Stopping,
    #[error("the answer took longer than the request allows, at most {} s", INFERENCE_LIMIT.as_secs())]
    Deadline,
    /// An operator cannot take these values: the request's doing, or else golden cases would have failed too. A
    /// server error here would let any client make a healthy version look broken.
    #[error("the model refused the input: {0}")]
    Refused(String),
    /// ONNX Runtime's own doing, such as memory that ran out.
    #[error("the inference failed: {0}")]
    Failed(String),
}

/// Loads on a thread of its own, warms the model up there, and goes on to serve, beside a thread for each further session.
pub(crate) fn start(
    load: impl FnOnce() -> Result<Loaded, ModelError> + Send + 'static,
    options: BatchOptions,
) -> io::Result<Starting> {
    let (announce, ready) = oneshot::channel();
    let (alive, ended) = mpsc::channel(1);
    let alive = Alive(alive);
    let for_others = alive.clone();
    spawn(0, alive, move || {
        let begun = begin(load, options, &for_others, announce);
        drop(for_others);
        if let Some((mut session, shared)) = begun {
            instance::serve(&mut session, &shared);
        }
    })?;
    Ok(Starting { ready, ended: Ended(ended) })
}

/// From a thread of the reactor, or from one that this has begun: all of them can give the reactor tasks.
fn spawn(number: usize, alive: Alive, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let named = thread::Builder::new().name(format!("inference-{number}"));
    let reactor = Handle::current();
    named.spawn(move || {
        let (_alive, _reactor) = (alive, reactor.enter());
        work();
    })?;
    Ok(())
}

/// The session that the calling thread is to serve with; the others have threads of their own by then.
fn begin(
    load: impl FnOnce() -> Result<Loaded, ModelError>,
    options: BatchOptions,
    alive: &Alive,
    announce: oneshot::Sender<Result<Engine, ModelError>>,
) -> Option<(Session, Arc<Shared>)> {
    match load().and_then(|loaded| Engine::of(loaded, options, alive)) {
        Ok((engine, session)) => {
            let shared = Arc::clone(&engine.shared);
            // Whoever started this thread may have given up meanwhile.
            announce.send(Ok(engine)).ok()?;
            Some((session, shared))
        }
        Err(error) => {
            // As above.
            let _ = announce.send(Err(error));
            None
        }
    }
}

impl Engine {
    /// The engine, and the session that the calling thread serves with.
    fn of(loaded: Loaded, options: BatchOptions, alive: &Alive) -> Result<(Self, Session), ModelError> {
        let Loaded { mut session, mut others, signature, files, cases } = loaded;
        let together = trial::warm_up(&mut session, &signature, &cases, options.mode)?;
        for other in &mut others {
            trial::warm_up(other, &signature, &cases, BatchMode::Off)?;
        }
        let most = usize::try_from(options.max_rows).unwrap_or(usize::MAX);
        let shared = Arc::new(Shared {
            queue: Queue::new(most, 1 + others.len()),
            signature,
            together: together.into(),
            executions: 0.into(),
        });
        // Dropped when a thread does not start, which ends those that have.
        let engine = Self { shared, files };
        for (number, mut other) in others.into_iter().enumerate() {
            let shared = Arc::clone(&engine.shared);
            let work = move || instance::serve(&mut other, &shared);
            spawn(number + 1, alive.clone(), work).map_err(ModelError::Thread)?;
        }
        Ok((engine, session))
    }

    /// `inputs` follow the order of the signature and have been checked against it. Dropping the future cancels.
    pub(crate) async fn infer(&self, inputs: Vec<Input>, terms: Terms) -> Result<Outputs, InferError> {
        let (reply, answer) = oneshot::channel();
        let waiter = Waiter::default();
        let came = Instant::now();
        let (rows, class) = self.shared.classify(&inputs);
        let Terms { due, urgency } = terms;
        let job = Job { inputs, rows, class, urgency, due, came, ticket: waiter.ticket(), reply };
        let call = self.shared.queue.push(job, came)?;
        if call.as_ref().is_some_and(|call| call.brief) {
            // What this thread of the reactor has at hand is pushed first and runs together with it: with a thread woken for
            // each request, a model of microseconds costs less than the changes between threads.
            tokio::task::yield_now().await;
        }
        drop(call);
        match tokio::time::timeout_at(due.into(), answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(InferError::Stopping),
            Err(_) => Err(InferError::Deadline),
        }
    }

    pub(crate) fn signature(&self) -> &Signature {
        &self.shared.signature
    }

    /// Requests that wait for the model.
    pub(crate) fn queued(&self) -> usize {
        self.shared.queue.len()
    }

    /// Whether requests run together.
    pub(crate) fn batches(&self) -> bool {
        self.shared.together.load(Ordering::Relaxed)
    }

    /// Sessions that run side by side.
    pub(crate) fn instances(&self) -> usize {
        self.shared.queue.instances
    }

    /// How often the model ran.
    pub(crate) fn executions(&self) -> u64 {
        self.shared.executions.load(Ordering::Relaxed)
    }

    /// Ends the threads after what is queued.
    pub(crate) fn stop(&self) {
        self.shared.queue.close();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}
