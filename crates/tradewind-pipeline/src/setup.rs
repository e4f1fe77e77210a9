//! A pipeline with everything that its steps depend on: what is read of it before anything runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tradewind_core::{
    Digest,
    pipeline::{
        file::{Aggregate, BATCH, Combination, Pipeline, Python, ReadyMade, Requirements, Step},
        schedule::Needs,
    },
};

use crate::{
    code::{self, CodeError},
    executor::{Limits, Work},
    key::{self, Recipe},
    python::{self, Environment, PythonError},
};

/// What the aggregate and the evaluation are called where steps are named.
const AGGREGATE: &str = "aggregate";
const EVALUATE: &str = "evaluate";
/// The model that is judged, among the inputs of the evaluation.
pub(crate) const MODEL: &str = "model";
/// For one combination of models.
const COMBINE_TIMEOUT: Duration = Duration::from_secs(3600);

/// The environments in which steps of Python run.
#[derive(Debug, Clone)]
pub struct Pythons {
    /// Of the pipeline's own functions; absent where it has none.
    steps: Option<Environment>,
    /// Of the ready-made aggregate; absent where there is none.
    combine: Option<Environment>,
}

impl Pythons {
    /// Those that the pipeline needs, made or not. `cache` is where they are kept.
    ///
    /// # Errors
    /// `python` is none; the file of requirements cannot be read.
    pub async fn of(pipeline: &Pipeline, base: &Path, cache: &Path, python: &str) -> Result<Self, PythonError> {
        let mut own = pipeline.steps.iter().chain(&pipeline.evaluate).chain(pipeline.aggregate.own());
        let steps = match (&pipeline.python, own.any(|step| step.function.is_some())) {
            (_, false) => None,
            (None, true) => Some(Environment::plain(python).await?),
            (Some(Python { requirements }), true) => {
                let lines = read_requirements(requirements, base)?;
                Some(Environment::of(cache, "pipeline", python, &lines).await?)
            }
        };
        let combine = match pipeline.aggregate.own() {
            Some(_) => None,
            None => Some(Environment::of(cache, "combine", python, python::COMBINE_REQUIREMENTS).await?),
        };
        Ok(Self { steps, combine })
    }

    /// Makes what is not there yet.
    ///
    /// # Errors
    /// There is no Python with venv, or what is required cannot be had.
    pub async fn make(&self) -> Result<(), PythonError> {
        let of_steps = self.steps.iter().map(|environment| (environment, "what the pipeline requires"));
        let of_combine = self.combine.iter().map(|environment| (environment, "what combines models"));
        for (environment, what) in of_steps.chain(of_combine) {
            environment.make(what).await?;
        }
        Ok(())
    }

    /// The lines that are installed for steps; empty where there are none.
    pub fn requirements(&self) -> &str {
        self.steps.as_ref().map_or("", Environment::requirements)
    }
}

/// Lines of requirements that name files, which would be looked for elsewhere and change unseen.
const OTHER_FILES: [&str; 9] = ["-r", "-c", "-e", "--requirement", "--constraint", "--editable", ".", "/", "file:"];

fn read_requirements(requirements: &Requirements, base: &Path) -> Result<String, PythonError> {
    match requirements {
        Requirements::Lines(lines) => Ok(lines.iter().map(|line| format!("{line}\n")).collect()),
        Requirements::File(path) => {
            let path = base.join(path);
            let text = std::fs::read_to_string(&path);
            let text = text.map_err(|source| PythonError::Read { path: path.clone(), source })?;
            match text.lines().map(str::trim).find(|line| OTHER_FILES.iter().any(|start| line.starts_with(start))) {
                Some(line) => Err(PythonError::OtherFile { path, line: line.to_owned() }),
                None => Ok(text),
            }
        }
    }
}

/// A step with all that is known of it before it runs.
#[derive(Debug, Clone)]
pub struct Stage {
    pub name: String,
    /// `batch`, `model` or names of steps.
    pub(crate) inputs: Vec<String>,
    pub(crate) work: Work,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) limits: Limits,
    pub(crate) retries: u32,
    pub(crate) recipe: Recipe,
}

/// What runs, beside the data.
#[derive(Debug, Clone)]
pub struct Setup {
    pub base: PathBuf,
    pub pipeline: Pipeline,
    pub stages: Vec<Stage>,
    pub aggregate: Stage,
    pub evaluate: Option<Stage>,
    /// The steps that batches have which were held out.
    held_out: Vec<usize>,
}

impl Setup {
    /// Reads the code of all steps. `parameters` are those of the file with what the command line says instead.
    ///
    /// # Errors
    /// A step's code cannot be read.
    pub fn new(pipeline: Pipeline, base: &Path, pythons: &Pythons) -> Result<Self, CodeError> {
        let parameters = |own: &BTreeMap<String, Value>| {
            let mut all = pipeline.parameters.clone();
            all.extend(own.clone());
            all
        };
        let stage = |name: &str, step: &Step, inputs: Vec<String>| -> Result<Stage, CodeError> {
            let (work, python) = work(step, pythons.steps.as_ref());
            let mut code = code::of(name, step, base)?;
            if step.function.is_some() {
                code.insert("tradewind.pipeline".to_owned(), key::digest(&python::package_digest()));
            }
            Ok(Stage {
                name: name.to_owned(),
                inputs,
                work,
                env: step.env.clone(),
                limits: Limits {
                    time: step.timeout.duration(),
                    cpu_milli: step.cpu.map(|cpu| cpu.milli()),
                    memory: step.memory.map(|memory| memory.bytes()),
                },
                retries: step.retries,
                recipe: Recipe::new(step, parameters(&step.parameters), code, python),
            })
        };
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let stages = pipeline.steps.iter().enumerate();
        let stages = stages.map(|(at, step)| stage(&step.name, step, owned(pipeline.inputs(at))));
        let stages = stages.collect::<Result<Vec<Stage>, _>>()?;
        let last = || vec![pipeline.steps[pipeline.steps.len() - 1].name.clone()];
        let aggregate = match &pipeline.aggregate {
            Aggregate::Own(step) => stage(AGGREGATE, step, step.inputs.clone().unwrap_or_else(last))?,
            Aggregate::Ready(ready) => combination(ready, &stages, pythons.combine.as_ref()),
        };
        let raw = || vec![BATCH.to_owned()];
        let evaluate = pipeline.evaluate.as_ref();
        let evaluate = evaluate.map(|step| stage(EVALUATE, step, step.inputs.clone().unwrap_or_else(raw)));
        let evaluate = evaluate.transpose()?;
        let held_out = evaluate.as_ref().map(|stage| needed(&stages, &stage.inputs)).unwrap_or_default();
        Ok(Self { base: base.to_owned(), pipeline, stages, aggregate, evaluate, held_out })
    }

    /// The places of the steps that a batch has.
    pub(crate) fn steps_of(&self, held_out: bool) -> Vec<usize> {
        if held_out { self.held_out.clone() } else { (0..self.stages.len()).collect() }
    }

    /// What steps take of the workers and the memory.
    pub(crate) fn needs(&self) -> Vec<Needs> {
        let needs = |stage: &Stage| Needs {
            workers: stage.limits.cpu_milli.map_or(1, |milli| milli.div_ceil(1000) as usize),
            memory: stage.limits.memory.unwrap_or(0),
            retries: stage.retries,
        };
        self.stages.iter().map(needs).collect()
    }

    /// Whether any step says how much memory it may take.
    pub fn limits_memory(&self) -> bool {
        self.stages.iter().chain([&self.aggregate]).chain(&self.evaluate).any(|stage| stage.limits.memory.is_some())
    }

    /// Over all that batches depend on beside the data.
    pub(crate) fn digest(&self) -> Digest {
        key::digest(&self.stages.iter().map(|stage| (&stage.name, &stage.recipe)).collect::<Vec<_>>())
    }

    /// Over all files of all steps.
    pub fn code(&self) -> Digest {
        let stages = self.stages.iter().chain([&self.aggregate]).chain(&self.evaluate);
        let files: BTreeMap<&String, &Digest> = stages.flat_map(|stage| stage.recipe.code()).collect();
        key::digest(&files)
    }
}

/// The steps that have to be done for these inputs, in their order.
fn needed(stages: &[Stage], inputs: &[String]) -> Vec<usize> {
    let mut needed = BTreeSet::new();
    let mut left: Vec<&String> = inputs.iter().collect();
    while let Some(name) = left.pop() {
        let found = stages.iter().position(|stage| stage.name == *name);
        if let Some(at) = found.filter(|at| needed.insert(*at)) {
            left.extend(&stages[at].inputs);
        }
    }
    needed.into_iter().collect()
}

/// How a step is done, and what it depends on of Python.
fn work(step: &Step, python: Option<&Environment>) -> (Work, Option<String>) {
    let words = || step.run.clone().unwrap_or_default();
    match &step.function {
        Some(function) => {
            let python = python.expect("a pipeline with functions of Python has an environment for them");
            (worker(python, function.clone()), Some(python.key()))
        }
        None if step.worker => (Work::Worker { command: words(), function: None }, None),
        None => (Work::Command(words()), None),
    }
}

fn worker(python: &Environment, function: String) -> Work {
    let command = [&*python.python().to_string_lossy(), "-m", "tradewind.pipeline.worker"].map(str::to_owned);
    Work::Worker { command: command.to_vec(), function: Some(function) }
}

/// The step of a ready-made aggregate.
fn combination(ready: &ReadyMade, stages: &[Stage], python: Option<&Environment>) -> Stage {
    let python = python.expect("a pipeline with a ready-made aggregate has an environment for it");
    let function = match ready.with {
        Combination::Average => "average",
        Combination::Best => "best",
        Combination::Ensemble => "ensemble",
    };
    let function = format!("tradewind.pipeline.combine:{function}");
    let names = stages.iter().map(|stage| stage.name.clone());
    let of = ready.of.clone().or_else(|| names.clone().next_back()).unwrap_or_default();
    let mut parameters = BTreeMap::from([("of".to_owned(), Value::from(of.clone()))]);
    parameters.extend(ready.metric.iter().map(|metric| ("metric".to_owned(), Value::from(metric.clone()))));
    // Any step may have measured it.
    let inputs = if ready.metric.is_some() { names.collect() } else { vec![of] };
    let code = BTreeMap::from([("tradewind.pipeline".to_owned(), key::digest(&python::package_digest()))]);
    Stage {
        name: AGGREGATE.to_owned(),
        inputs,
        work: worker(python, function.clone()),
        env: BTreeMap::new(),
        limits: Limits { time: COMBINE_TIMEOUT, cpu_milli: None, memory: None },
        retries: 0,
        recipe: Recipe::ready_made(function, parameters, code, python.key()),
    }
}
