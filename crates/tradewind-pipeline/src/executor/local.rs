//! Steps as processes of this machine.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::timeout;
use tradewind_core::{
    causes::chain,
    pipeline::{
        contract::{HOPELESS_EXIT, Order, TOLD_VARIABLE},
        schedule::Room,
    },
};
use tradewind_process::{Cgroups, Controller, Exit, Family, Group, Limits as GroupLimits, Spawn};

use super::{
    Executor, Failed, Job, Limits, Work,
    log::Log,
    running::{Running, Watch},
    worker::Worker,
};

/// Of all that a pipeline has started: its home.
const HOME_VARIABLE: &str = "TRADEWIND_PIPELINE_HOME";
/// Of one process with all that it starts.
const PROCESS_VARIABLE: &str = "TRADEWIND_PIPELINE_PROCESS";
/// How many threads libraries use, each by its own name.
const THREADS_VARIABLES: [&str; 6] = [
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
];
/// How long a worker may take to end when there are no more orders.
const GRACE: Duration = Duration::from_secs(2);

/// What a local executor works with.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Where commands run: the directory of the pipeline's file.
    pub base: PathBuf,
    /// The pipeline's home.
    pub home: PathBuf,
    pub room: Room,
    /// Beside what this process has, and what a step says.
    pub env: Vec<(String, OsString)>,
}

/// All cores of this machine, and the memory that is free.
pub fn whole_machine() -> Room {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Room { workers, memory: kib.map_or(u64::MAX, |kib| kib << 10) }
}

/// Runs steps as processes of this machine.
#[derive(Debug)]
pub struct Local {
    options: LocalOptions,
    cgroups: Cgroups,
    idle: Mutex<Vec<(Kind, Worker)>>,
    started: AtomicU64,
}

/// Workers of the same kind do each other's work.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kind {
    command: Vec<String>,
    env: BTreeMap<String, String>,
    cpu_milli: Option<u32>,
    memory: Option<u64>,
}

impl Local {
    /// Ends first what an earlier life of it has left running. Within a tokio runtime.
    ///
    /// # Errors
    /// What was left cannot be ended.
    pub async fn new(options: LocalOptions) -> io::Result<Self> {
        let home = options.home.to_string_lossy().into_owned();
        Family::new(HOME_VARIABLE, &home).kill(None).await?;
        // The same name in every run, so that groups of one that was killed are found again.
        let name = format!("tradewind-pipeline-{}", &blake3::hash(home.as_bytes()).to_hex()[..12]);
        let cgroups = tokio::task::spawn_blocking(move || Cgroups::open(&name)).await.map_err(io::Error::other)?;
        let local = Self { options, cgroups, idle: Mutex::default(), started: AtomicU64::new(0) };
        local.remove_groups().await;
        Ok(local)
    }

    async fn remove_groups(&self) {
        for (_, group) in self.cgroups.groups() {
            if let Err(error) = group.remove().await {
                tracing::warn!(%error, "a step's control group cannot be removed");
            }
        }
    }

    /// Why memory is only looked at now and then instead of limited, if that is so.
    pub fn only_looks_at_memory(&self) -> Option<String> {
        self.cgroups.unavailable(Controller::Memory).map(ToString::to_string)
    }

    /// What starts the program of `words`, with a name of its own for all that comes of it.
    fn spawn(&self, words: &[String], kind: &Kind) -> io::Result<(Spawn, Family, Option<Group>)> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{number}", std::process::id());
        let limits = GroupLimits { cpu_milli: kind.cpu_milli, memory_bytes: kind.memory };
        let is_limited = kind.cpu_milli.is_some() || kind.memory.is_some();
        let group = if is_limited { self.cgroups.create(&mark, &limits).map_err(io::Error::other)? } else { None };
        let threads = kind.cpu_milli.map_or(1, |milli| milli.div_ceil(1000)).to_string();
        let spawn = Spawn::new(program(&self.options.base, words)).args(&words[1..]);
        let mut spawn = spawn.current_dir(&self.options.base).env_remove("TRADEWIND_TOKEN");
        for name in THREADS_VARIABLES {
            spawn = spawn.env(name, &threads);
        }
        for (name, value) in &self.options.env {
            spawn = spawn.env(name, value);
        }
        for (name, value) in &kind.env {
            spawn = spawn.env(name, value);
        }
        spawn = spawn.env(HOME_VARIABLE, &self.options.home).env(PROCESS_VARIABLE, &mark);
        if let Some(group) = &group {
            spawn = spawn.group(group.clone());
        }
        Ok((spawn, Family::new(PROCESS_VARIABLE, &mark), group))
    }

    async fn run_command(&self, words: &[String], kind: &Kind, job: &Job, log: &mut Log) -> Result<(), Failed> {
        let (spawn, family, group) = self.spawn(words, kind).map_err(|error| not_started(&error))?;
        let spawn = spawn.env(TOLD_VARIABLE, &job.told);
        let mut running = Running::start(spawn, family, group, true).map_err(|error| not_started(&error))?;
        let watch = running.watch();
        let ended = within(&job.limits, &watch, running.finish(log)).await;
        let taken = watch.too_much(&job.limits);
        running.kill().await;
        let exit = ended?.map_err(|error| Failed::new(format!("cannot keep its log: {error}")))?;
        if exit.is_success() {
            return Ok(());
        }
        let error = match (taken, log.last_line()) {
            (Some(taken), _) => taken,
            (None, Some(line)) => format!("{exit}: {line}"),
            (None, None) => exit.to_string(),
        };
        Err(Failed { error, hopeless: exit == Exit::Code(HOPELESS_EXIT) })
    }

    async fn run_worker(&self, kind: Kind, order: &Order, job: &Job, log: &mut Log) -> Result<(), Failed> {
        let mut worker = match self.take_idle(&kind) {
            Some(worker) => worker,
            None => self.start_worker(&kind).map_err(|error| not_started(&error))?,
        };
        let watch = worker.running.watch();
        let asked = within(&job.limits, &watch, worker.ask(order, log)).await;
        match asked.and_then(|asked| asked) {
            Ok(outcome) => {
                self.put_idle(kind, worker).await;
                outcome
            }
            Err(failed) => {
                let taken = watch.too_much(&job.limits);
                worker.running.kill().await;
                Err(taken.map_or(failed, Failed::new))
            }
        }
    }

    fn start_worker(&self, kind: &Kind) -> io::Result<Worker> {
        let (spawn, family, group) = self.spawn(&kind.command, kind)?;
        Worker::start(spawn, family, group)
    }

    fn take_idle(&self, kind: &Kind) -> Option<Worker> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().rposition(|(other, _)| other == kind)?;
        Some(idle.remove(at).1)
    }

    /// Those that nobody has needed for longest make room.
    async fn put_idle(&self, kind: Kind, worker: Worker) {
        let surplus = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push((kind, worker));
            (idle.len() > self.options.room.workers).then(|| idle.remove(0))
        };
        if let Some((_, worker)) = surplus {
            worker.end(GRACE).await;
        }
    }
}

impl Executor for Local {
    fn room(&self) -> Room {
        self.options.room
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), Failed>> {
        async move {
            let keeping = |error: io::Error| Failed::new(format!("cannot keep its log: {error}"));
            let mut log = Log::create(&job.log).map_err(keeping)?;
            let kind = |command: &[String]| Kind {
                command: command.to_vec(),
                env: job.env.clone(),
                cpu_milli: job.limits.cpu_milli,
                memory: job.limits.memory,
            };
            let outcome = match &job.work {
                Work::Command(words) => self.run_command(words, &kind(words), job, &mut log).await,
                Work::Worker { command, function } => {
                    let order = Order { step: job.told.clone(), function: function.clone() };
                    self.run_worker(kind(command), &order, job, &mut log).await
                }
            };
            log.finish().map_err(keeping)?;
            outcome
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
            futures_util::future::join_all(idle.into_iter().map(|(_, worker)| worker.end(GRACE))).await;
            let left = Family::new(HOME_VARIABLE, &self.options.home.to_string_lossy()).kill(None).await;
            if let Err(error) = left {
                tracing::warn!(%error, "processes of steps cannot be ended");
            }
            self.remove_groups().await;
        }
        .boxed()
    }
}

/// The outcome of `work`, unless it takes more time or, where only looking helps, more memory than it may.
async fn within<T>(limits: &Limits, watch: &Watch, work: impl Future<Output = T>) -> Result<T, Failed> {
    tokio::select! {
        ended = timeout(limits.time, work) => {
            let took_too_long = || Failed::new(format!("it took longer than {} s", limits.time.as_secs_f64()));
            ended.map_err(|_| took_too_long())
        }
        taken = watch.for_memory(limits) => Err(Failed::new(taken)),
    }
}

fn not_started(error: &io::Error) -> Failed {
    Failed::hopeless(chain(error))
}

/// One with a `/` is beside the pipeline's file; others are looked for on `PATH`.
fn program(base: &Path, words: &[String]) -> PathBuf {
    if words[0].contains('/') { base.join(&words[0]) } else { PathBuf::from(&words[0]) }
}
