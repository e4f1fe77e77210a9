//! A model of this replica: whether it is loaded, and what it has done.

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tradewind_api::replica::INFERENCE_LIMIT;
use tradewind_core::{ModelName, VersionNumber, batch::BatchOptions, causes::chain};
use tradewind_traces::Kind;

use super::{Error, failure::Failure};
use crate::{
    engine::{self, Engine, Starting},
    metrics::{Metrics, Now},
    model::{Sessions, Source},
    response::Answering,
    stats::Statistics,
};

/// A model, and how it is run.
#[derive(Debug, Clone)]
pub struct ModelOptions {
    pub model: ModelName,
    pub version: VersionNumber,
    /// The installed bundle.
    pub bundle: PathBuf,
    /// Relative to the bundle.
    pub model_file: String,
    /// Golden cases that it is warmed up on, relative to the bundle. One that the model does not take is a model that does
    /// not load.
    pub cases: Vec<String>,
    /// Threads of ONNX Runtime for one inference.
    pub threads: NonZeroUsize,
    /// Inferences that run side by side, each in a session of its own.
    pub instances: NonZeroUsize,
    pub batching: BatchOptions,
}

#[derive(Debug)]
pub(super) struct Served {
    pub(super) options: ModelOptions,
    /// The version as the protocol spells it.
    pub(super) version: String,
    state: ArcSwap<State>,
    /// Held by who loads or unloads.
    changing: Mutex<()>,
    in_flight: AtomicUsize,
    pub(super) metrics: Metrics,
    pub(super) statistics: Statistics,
}

#[derive(Debug)]
pub(super) enum State {
    Loading,
    Ready(Arc<Warm>),
    Unloading,
    /// And why, unless it was asked for.
    Unloaded(Option<String>),
}

/// A model that is loaded and warm. It goes with the last request that has it.
#[derive(Debug)]
pub(super) struct Warm {
    pub(super) engine: Engine,
    loaded_in: Duration,
    /// Cancelled when nothing of it is left.
    gone: CancellationToken,
}

/// Watches the threads of all models.
#[derive(Debug)]
pub(super) struct Threads {
    watched: TaskTracker,
    died: mpsc::Sender<()>,
}

impl Threads {
    /// And what arrives when one has died.
    pub(super) fn new() -> (Self, mpsc::Receiver<()>) {
        let (died, deaths) = mpsc::channel(1);
        (Self { watched: TaskTracker::new(), died }, deaths)
    }

    fn watch(&self, mut ended: engine::Ended) -> CancellationToken {
        let (gone, died) = (CancellationToken::new(), self.died.clone());
        let guard = gone.clone().drop_guard();
        self.watched.spawn(async move {
            if ended.died().await {
                // Another one may have been first.
                let _ = died.try_send(());
            }
            drop(guard);
        });
        gone
    }

    /// Resolves when all have ended. None is started any more.
    pub(super) async fn ended(&self) {
        self.watched.close();
        self.watched.wait().await;
    }
}

impl Served {
    pub(super) fn new(options: ModelOptions) -> Self {
        Self {
            version: options.version.to_string(),
            options,
            state: ArcSwap::from_pointee(State::Loading),
            changing: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            metrics: Metrics::new(),
            statistics: Statistics::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        self.options.model.as_str()
    }

    pub(super) fn state(&self) -> arc_swap::Guard<Arc<State>> {
        self.state.load()
    }

    pub(super) fn ready(&self) -> Result<Arc<Warm>, Failure> {
        match &**self.state.load() {
            State::Ready(warm) => Ok(Arc::clone(warm)),
            State::Loading => Err(Failure::loading()),
            State::Unloading | State::Unloaded(_) => Err(Failure::unloaded(self.name())),
        }
    }

    /// Loads it from its bundle as that is now. One that is loaded already serves until the new one is warm; one that
    /// cannot be loaded stays as it was.
    pub(super) async fn load(&self, threads: &Threads) -> Result<(), Error> {
        let _alone = self.changing.lock().await;
        let before = self.state.load_full();
        if !matches!(*before, State::Ready(_)) {
            self.become_(State::Loading);
        }
        let began = Instant::now();
        let mut span = tradewind_traces::child("load", Kind::Internal, tradewind_traces::started_in());
        match self.start(threads).await {
            Ok((engine, gone)) => {
                tracing::info!(model = self.name(), version = self.version, "ready");
                self.become_(State::Ready(Arc::new(Warm { engine, loaded_in: began.elapsed(), gone })));
                Ok(())
            }
            Err(error) => {
                let reason = chain(&error);
                if let Some(span) = &mut span {
                    span.fail(reason.clone());
                }
                if !matches!(*before, State::Ready(_)) {
                    self.become_(State::Unloaded(Some(reason)));
                }
                Err(error)
            }
        }
    }

    async fn start(&self, threads: &Threads) -> Result<(Engine, CancellationToken), Error> {
        let options = self.options.clone();
        let sessions = Sessions { count: options.instances.get(), threads: options.threads.get() };
        let load = move || Source::read(&options.bundle, &options.model_file)?.load(sessions, &options.cases);
        let Starting { ready, ended } = engine::start(load, self.options.batching).map_err(Error::Thread)?;
        let gone = threads.watch(ended);
        let (model, version) = (self.options.model.clone(), self.options.version);
        let loaded = ready.await.map_err(|_| Error::ThreadEnded)?;
        let engine = loaded.map_err(|source| Error::Load { model, version, source: Box::new(source) })?;
        Ok((engine, gone))
    }

    /// Gives its memory back once the requests that it has are answered.
    pub(super) async fn unload(&self) {
        let _alone = self.changing.lock().await;
        let gone = match &**self.state.load() {
            State::Ready(warm) => warm.gone.clone(),
            State::Loading | State::Unloading | State::Unloaded(_) => return self.become_(State::Unloaded(None)),
        };
        self.become_(State::Unloading);
        if tokio::time::timeout(INFERENCE_LIMIT, gone.cancelled()).await.is_err() {
            tracing::warn!(model = self.name(), "an inference is still running, the model goes with it");
        }
        self.become_(State::Unloaded(None));
    }

    /// Takes no more requests; those that it has are answered.
    pub(super) fn stop(&self) {
        if let State::Ready(warm) = &**self.state.load() {
            warm.engine.stop();
        }
    }

    fn become_(&self, state: State) {
        self.state.store(Arc::new(state));
    }

    pub(super) fn now(&self, stopping: bool) -> Now<'_> {
        let ready = self.ready().ok();
        let engine = ready.as_ref().map(|warm| &warm.engine);
        Now {
            model: &self.options.model,
            version: self.options.version,
            ready: ready.is_some() && !stopping,
            loaded_in: ready.as_ref().map(|warm| warm.loaded_in),
            in_flight: self.in_flight.load(Relaxed),
            queued: engine.map_or(0, Engine::queued),
            batches: engine.is_some_and(Engine::batches),
            executions: engine.map_or(0, Engine::executions),
        }
    }
}

/// What answers a request: it stays loaded until then.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) served: Arc<Served>,
    pub(super) warm: Arc<Warm>,
}

impl Target {
    pub(super) fn of(served: &Arc<Served>) -> Result<Self, Failure> {
        Ok(Self { warm: served.ready()?, served: Arc::clone(served) })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.warm.engine
    }

    pub(super) fn answering(&self) -> Answering<'_> {
        Answering { model: self.served.name(), version: &self.served.version, signature: self.engine().signature() }
    }
}

/// A request as it is counted: for its model, once that is known, and not at all if it is a probe.
#[derive(Debug)]
pub(super) struct Visit {
    probe: bool,
    served: Option<Arc<Served>>,
}

impl Visit {
    pub(super) fn new(probe: bool) -> Self {
        Self { probe, served: None }
    }

    pub(super) fn is_to(&mut self, served: &Arc<Served>) {
        if self.served.is_none() {
            served.in_flight.fetch_add(1, Relaxed);
            self.served = Some(Arc::clone(served));
            if let Some(served) = self.counted() {
                served.metrics.request();
            }
        }
    }

    /// The model for which it counts.
    pub(super) fn counted(&self) -> Option<&Served> {
        self.served.as_deref().filter(|_| !self.probe)
    }

    /// It was answered, after so long.
    pub(super) fn answered(&self, took: Duration) {
        if let Some(served) = self.counted() {
            served.metrics.answer(took);
        }
    }

    /// It came to nothing.
    pub(super) fn failed(&self, failure: &Failure) {
        if let Some(served) = self.counted() {
            served.metrics.error(failure.reason);
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(served) = &self.served {
            served.in_flight.fetch_sub(1, Relaxed);
        }
    }
}
