//! What a slot does.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{BundleState, Holding, Notice, Place, Replica, SlotTask, replica::WRONG_COPY};
use crate::{
    bundles::Installed,
    connections,
    decide::{Action, CheckState, EARLY_EXITS_LIMIT},
    launch::{self, Launch, What},
    probe::Sighting,
    record::{ReplicaRecord, ServerRecord, remove, to_json},
    verify::Subject,
};
use tradewind_api::replica::INFERENCE_LIMIT;
use tradewind_core::{
    Timestamp,
    assignment::{CheckName, Failure, SlotAssignment},
    bundle::ModelVersion,
    causes::chain,
    event::{EventKind, Severity},
    resources::Memory,
    rollout::{self, Action as StepAction},
    scale::Scale,
};
use tradewind_traces::{Kind, Span};

/// A replica that was told to end answers what it has taken, and then has a moment to go; one that does not is killed.
const TERMINATE_GRACE: Duration = INFERENCE_LIMIT.saturating_add(Duration::from_secs(5));
/// A server is told to end when nobody waits for it any more.
const SERVER_GRACE: Duration = Duration::from_secs(10);
/// Progress of an installation is told at steps of this many bytes.
const PROGRESS_STEP: u64 = 1 << 20;

impl SlotTask {
    pub(super) async fn act(&mut self, action: Action, wanted: Option<&SlotAssignment>) {
        tracing::debug!(model = %self.key.0, slot = %self.key.1, ?action, "acting");
        match action {
            Action::Take => self.take(wanted),
            Action::Retry => self.retry(wanted),
            Action::Fetch => self.fetch(),
            Action::Start { place } => self.start(place).await,
            Action::Check { id } => self.check(&id),
            Action::Admit { id } => self.admit(&id).await,
            Action::Drain { id } => self.drain(&id),
            Action::Recall { id } => self.with(&id, Replica::recall),
            Action::Terminate { id } => self.terminate(&id),
            Action::Kill { id } => self.with(&id, Replica::kill_hung),
            Action::BecomeReady => self.with_holding(|holding| holding.reached_ready = true),
            Action::Verify { attempt } => self.verify(attempt),
            Action::AskAgain => self.ask_again(),
            Action::Fail => self.fail(),
            Action::Release => self.with_holding(|holding| {
                holding.releasing = true;
                holding.over.cancel();
            }),
            Action::Forget => self.forget().await,
        }
    }

    fn with(&mut self, id: &str, act: impl FnOnce(&mut Replica)) {
        if let Some(replica) = self.replicas.iter_mut().find(|replica| replica.record.id == id) {
            act(replica);
        }
    }

    fn with_holding(&mut self, act: impl FnOnce(&mut Holding)) {
        if let Some(holding) = &mut self.holding {
            act(holding);
        }
    }

    fn take(&mut self, wanted: Option<&SlotAssignment>) {
        let Some(assignment) = wanted else { return };
        self.number += 1;
        self.holding = Some(Holding::new(assignment.clone(), self.number));
        self.places.clear();
        self.rescale();
        // Before anything is installed: what is on the board is not collected.
        self.publish();
    }

    fn retry(&mut self, wanted: Option<&SlotAssignment>) {
        let (Some(holding), Some(wanted)) = (&mut self.holding, wanted) else { return };
        let failed = holding.verification.as_ref().and_then(|verification| verification.first_failed());
        if failed.is_some_and(|check| check.name == CheckName::Digest) {
            // What was loaded is wrong: asking the same processes again would not change it.
            self.replicas.iter_mut().for_each(|replica| replica.copy = WRONG_COPY);
            holding.reached_ready = false;
            holding.bundle = BundleState::Absent;
        }
        if holding.failure.take().is_some() {
            holding.reached_ready = false;
        }
        holding.assignment = wanted.clone();
        holding.early_exits = 0;
        holding.last_exit.clear();
        for place in self.places.values_mut() {
            *place = Place { restarts: place.restarts, last_end: place.last_end.take(), ..Place::default() };
        }
    }

    fn fetch(&mut self) {
        let Some(holding) = &mut self.holding else { return };
        holding.bundle = BundleState::Fetching { done: 0, total: 0 };
        let (context, model) = (Arc::clone(&self.context), self.key.0.clone());
        let (version, digest, number) = (holding.assignment.version, holding.assignment.digest, holding.number);
        let notify = self.notify.clone();
        let mut span = self.span("install", StepAction::Deploy);
        self.run_job(async move {
            let told = std::sync::atomic::AtomicU64::new(0);
            let on_progress = |done: u64, total: u64| {
                let last = told.load(std::sync::atomic::Ordering::Relaxed);
                if done == total || done >= last.saturating_add(PROGRESS_STEP) {
                    told.store(done, std::sync::atomic::Ordering::Relaxed);
                    // A full inbox misses a step of many; the next one comes.
                    let _ = notify.try_send((number, Notice::Fetching { done, total }));
                }
            };
            let installed = context.bundles.install(&model, version, digest, &on_progress).await;
            if let (Some(span), Err(failure)) = (&mut span, &installed) {
                span.fail(failure.message.clone());
            }
            Notice::Installed(installed)
        });
    }

    pub(super) fn repair(&mut self, installed: Installed) {
        let context = Arc::clone(&self.context);
        self.run_job(async move { Notice::Repaired(context.bundles.repair(&installed).await) });
    }

    pub(super) fn look_for_drift(&mut self) {
        self.bound_logs();
        let Some(holding) = &mut self.holding else { return };
        let BundleState::Installed(installed) = &holding.bundle else { return };
        if std::mem::replace(&mut holding.looking_for_drift, true) {
            return;
        }
        let (context, installed) = (Arc::clone(&self.context), installed.clone());
        self.run_job(async move {
            Notice::Looked(context.bundles.drift(&installed).await.unwrap_or_else(|error| {
                tracing::warn!(error = %chain(&error), "cannot check an installed bundle");
                Vec::new()
            }))
        });
    }

    fn bound_logs(&mut self) {
        let logs: Vec<PathBuf> = self.replicas.iter().map(|replica| self.log_of(&replica.record)).collect();
        self.jobs.spawn_blocking(move || {
            for log in logs {
                if let Err(error) = launch::bound_log(&log) {
                    tracing::warn!(log = %log.display(), %error, "cannot bound a replica's log");
                }
            }
        });
    }

    /// Runs a job of the present holding; it ends with it.
    fn run_job(&mut self, job: impl Future<Output = Notice> + Send + 'static) {
        let Some(holding) = &self.holding else { return };
        let (over, notify, number) = (holding.over.clone(), self.notify.clone(), holding.number);
        self.jobs.spawn(async move {
            if let Some(notice) = over.run_until_cancelled(job).await {
                // The inbox goes only with the task itself.
                let _ = notify.send((number, notice)).await;
            }
        });
    }

    async fn start(&mut self, place: u32) {
        let Some(holding) = &self.holding else { return };
        let BundleState::Installed(installed) = &holding.bundle else { return };
        let (model, slot) = self.key.clone();
        let (assignment, manifest) = (&holding.assignment, &installed.version.manifest);
        let record = ReplicaRecord {
            id: format!("{model}-{slot}{place}-{:012x}", rand::random::<u64>() >> 16),
            model,
            slot,
            revision: assignment.revision,
            version: assignment.version,
            place,
            restarts: self.places.get(&place).map_or(0, |place| place.restarts),
            last_end: self.places.get(&place).and_then(|place| place.last_end.clone()),
            budget: None,
            digest: assignment.digest,
            directory: installed.directory.clone(),
            address: String::new(),
            identity: None,
            started_at: Timestamp::now(),
            admitted: false,
            server: manifest.server().map(|command| ServerRecord {
                probe: command.ready.clone(),
                startup: command.startup,
                drain: command.drain,
            }),
        };
        let mut launch = Launch {
            what: what(&self.context.program, &installed.version, &assignment.scale),
            scale: assignment.scale.clone(),
            interface: self.context.interface,
            host: self.context.replica_host.clone(),
            log: self.log_of(&record),
            trace: None,
        };
        let mut span = self.span("start", StepAction::Deploy);
        launch.trace = span.as_ref().map(Span::context);
        let (copy, health) = (installed.copy, assignment.health);
        let context = Arc::clone(&self.context);
        let launching = move || launch::launch(&context.home, &context.budgets, &launch, record);
        let launched = tokio::task::spawn_blocking(launching).await;
        match launched {
            Ok(Ok(launched)) => self.watch(Replica::started(launched, copy, health)),
            Ok(Err(error)) => {
                if let Some(span) = &mut span {
                    span.fail(chain(&error));
                }
                self.could_not_start(place, chain(&error));
            }
            Err(panic) => self.could_not_start(place, panic.to_string()),
        }
    }

    /// A part of a step of the rollout that brought what the slot holds, if that is being recorded.
    fn span(&self, name: &'static str, step: StepAction) -> Option<Span> {
        let assignment = &self.holding.as_ref()?.assignment;
        let step = rollout::place(assignment.trace?, step, Some(&self.context.region), assignment.attempt);
        let (model, slot) = &self.key;
        let span = tradewind_traces::child(name, Kind::Internal, Some(step))?;
        Some(span.with("tradewind.model", model.to_string()).with("tradewind.slot", slot.to_string()))
    }

    fn could_not_start(&mut self, place: u32, problem: String) {
        let model = &self.key.0;
        let message = format!("a replica of {model} ({}) could not be started: {problem}", self.key.1);
        self.context.events.emit(Severity::Error, EventKind::ReplicaExited, Some(model), message);
        self.delay(place, false, problem.clone());
        if let Some(holding) = &mut self.holding {
            holding.early_exits += 1;
            holding.last_exit = vec![problem];
            holding.over_memory = None;
        }
    }

    /// Takes away what is left of a replica that is gone.
    pub(super) fn clear(&mut self, record: ReplicaRecord) {
        if record.budget.is_none() {
            record.remove(self.context.home.root());
            return;
        }
        let context = Arc::clone(&self.context);
        self.clearing.spawn(async move { record.clear(context.home.root()).await });
    }

    /// The kernel may have killed one process of several for want of memory: then the others go too.
    pub(super) fn look_at_memory(&mut self) {
        for replica in self.replicas.iter_mut().filter(|replica| replica.is_running() && replica.note.is_none()) {
            if let Some(kill) = replica.record.memory_kill() {
                replica.condemn(kill.to_string());
            }
        }
    }

    pub(super) fn watch(&mut self, replica: Replica) {
        let (watch, tell) = (replica.watch(self.http_for(replica.record.server.is_some())), self.tell.clone());
        self.jobs.spawn(watch.run(tell));
        self.replicas.push(replica);
    }

    fn drain(&mut self, id: &str) {
        let Some(replica) = self.replicas.iter_mut().find(|replica| replica.record.id == id) else { return };
        replica.drain();
        let Some(server) = &replica.record.server else { return };
        let port = replica.record.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let (limit, id, tell) = (server.drain.duration(), id.to_owned(), self.tell.clone());
        self.jobs.spawn(async move {
            if let Some(port) = port {
                connections::ended(port, limit).await;
            }
            // The inbox goes only with the task itself.
            let _ = tell.send((id, Sighting::Unused)).await;
        });
    }

    fn terminate(&mut self, id: &str) {
        let Some(replica) = self.replicas.iter_mut().find(|replica| replica.record.id == id) else { return };
        replica.end();
        let (process, record) = (replica.process.clone(), replica.record.clone());
        let grace = if record.server.is_some() { SERVER_GRACE } else { TERMINATE_GRACE };
        self.jobs.spawn(async move {
            // Its watcher tells when it is gone.
            if let Err(error) = record.terminate(&process, grace).await {
                tracing::error!(pid = process.pid(), %error, "cannot end a replica");
            }
        });
    }

    async fn admit(&mut self, id: &str) {
        let Some(position) = self.replicas.iter().position(|replica| replica.record.id == id) else { return };
        let replica = &mut self.replicas[position];
        replica.admitted = true;
        replica.record.admitted = true;
        let record = replica.record.clone();
        let replaces = record.restarts > 0
            || self.replicas.iter().any(|other| other.record.place == record.place && other.record.id != record.id);
        let (kind, word) = if replaces {
            (EventKind::ReplicaReplaced, "takes the place")
        } else {
            (EventKind::ReplicaStarted, "serves")
        };
        let message = match replaces {
            true => format!("replica {id} {word} of one of {} {} ({})", record.model, record.version, record.slot),
            false => format!("replica {id} {word} {} {} ({})", record.model, record.version, record.slot),
        };
        self.context.events.emit(Severity::Info, kind, Some(&record.model), message);
        self.context.write(move |home| record.write(home.root()), "a replica").await;
    }

    fn subject(&self, only: Option<&str>) -> Option<Subject> {
        let holding = self.holding.as_ref()?;
        let BundleState::Installed(installed) = &holding.bundle else { return None };
        let chosen = self.replicas.iter().filter(|replica| match only {
            Some(id) => replica.record.id == id,
            None => replica.is_ready(),
        });
        let replicas = chosen.map(|replica| (replica.record.id.clone(), replica.record.address.clone())).collect();
        Some(Subject {
            http: self.http_for(installed.version.manifest.server().is_some()),
            model: self.key.0.clone(),
            version: Arc::clone(&installed.version),
            directory: installed.directory.clone(),
            replicas,
            wanted: if only.is_some() { 1 } else { holding.scaling.replicas() },
        })
    }

    fn http_for(&self, is_server: bool) -> reqwest::Client {
        if is_server { self.context.http_once.clone() } else { self.context.http.clone() }
    }

    fn verify(&mut self, attempt: u32) {
        let Some(subject) = self.subject(None) else { return };
        self.with_holding(|holding| holding.verifying = true);
        let mut span = self.span("check", StepAction::Verify);
        self.run_job(async move {
            let verification = subject.verify(attempt).await;
            if let (Some(span), Some(failed)) = (&mut span, verification.first_failed()) {
                span.fail(failed.detail.clone());
            }
            Notice::Verified(verification)
        });
    }

    fn ask_again(&mut self) {
        let Some(subject) = self.subject(None) else { return };
        let Some(holding) = &mut self.holding else { return };
        holding.golden.asking = true;
        let first = holding.golden.next;
        self.run_job(async move { Notice::AskedAgain(subject.ask_again(first).await) });
    }

    fn check(&mut self, id: &str) {
        let Some(subject) = self.subject(Some(id)) else { return };
        let Some(attempt) = self.holding.as_ref().map(|holding| holding.assignment.attempt) else { return };
        self.with(id, |replica| replica.check = CheckState::Running);
        let id = id.to_owned();
        self.run_job(async move { Notice::Checked { id, verification: subject.verify(attempt).await } });
    }

    fn fail(&mut self) {
        let (model, _) = &self.key;
        let Some(holding) = &mut self.holding else { return };
        let revision = holding.assignment.revision;
        let message = format!("replicas ended {EARLY_EXITS_LIMIT} times before the slot was ready");
        if let Some(memory) = holding.over_memory {
            let more = Memory::from_bytes(memory.bytes().saturating_mul(2));
            holding.failure = Some(Failure {
                message: format!("{message}, the last one over its memory"),
                causes: holding.last_exit.clone(),
                hint: Some(format!(
                    "a model takes the most while it is loaded and warmed up: raise --memory, as in \
                     `tradewind deploy {model} --memory {more}`"
                )),
                retryable: false,
            });
            return;
        }
        holding.failure = Some(Failure {
            message,
            causes: holding.last_exit.clone(),
            hint: Some(format!(
                "see the whole log with `tradewind logs {model} --region {} --revision {revision}`",
                self.context.region
            )),
            retryable: true,
        });
    }

    async fn forget(&mut self) {
        self.holding = None;
        self.places.clear();
        self.publish();
        let path = self.context.home.slot(&self.key.0, self.key.1);
        self.written = None;
        remove(&path);
        crate::logs::prune(&self.context.home.model_logs(&self.key.0));
        self.context.collect().await;
    }

    /// Writes down how far the slot has come, if that has changed.
    pub(super) async fn write_down(&mut self) {
        let Some(record) = self.record() else { return };
        if self.written.as_ref() == Some(&record) {
            return;
        }
        let path: PathBuf = self.context.home.slot(&self.key.0, self.key.1);
        let content = to_json(&record);
        self.written = Some(record);
        let write = move |_: &crate::home::Home| tradewind_api::auth::write_private(&path, &content);
        self.context.write(write, "a slot").await;
    }
}

fn what(program: &Path, version: &ModelVersion, scale: &Scale) -> What {
    let manifest = &version.manifest;
    match manifest.server() {
        Some(command) => What::Server(command.clone()),
        None => What::Onnx {
            program: program.to_owned(),
            model_file: manifest.model.clone(),
            instances: scale.instances,
            batching: scale.batching(manifest.batching.unwrap_or_default()),
            cases: version.cases.clone(),
        },
    }
}
