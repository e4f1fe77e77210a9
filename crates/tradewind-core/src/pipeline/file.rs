//! `pipeline.toml`: what is run over which data, and what becomes of the result.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    ModelName, RegionName,
    duration::Span,
    resources::{Cpu, Memory},
};

/// The file's usual name.
pub const PIPELINE_FILE: &str = "pipeline.toml";
/// The largest file, in bytes.
pub const FILE_BYTES_LIMIT: u64 = 1 << 20;
/// The most that parameters of all steps come to as JSON, in bytes: a version's lineage tells them.
const PARAMETERS_BYTES_LIMIT: usize = 32 << 10;
/// The most steps of each batch.
pub const STEPS_LIMIT: usize = 32;
/// The most words of a command line, sources and requirements.
pub const LIST_LIMIT: usize = 1000;
/// The most attempts of one step of one batch, beside the first.
pub const RETRIES_LIMIT: u32 = 100;
/// What a step is given as an input beside what earlier steps wrote.
pub const BATCH: &str = "batch";
/// The least memory in which a step can begin, in bytes.
const MEMORY_LEAST: u64 = 8 << 20;
/// The longest time that one step may take for one batch.
const TIMEOUT_LIMIT: Span = Span::from_secs(7 * 24 * 3600);
/// Names of what is not a step.
const TAKEN: [&str; 4] = [BATCH, "aggregate", "evaluate", "model"];

/// A pipeline, as its author wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// What runs of it are called.
    pub name: ModelName,
    pub data: Data,
    /// Handed to every step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<Python>,
    /// What is done with each batch, in this order.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
    /// What makes one result of those of all batches.
    pub aggregate: Aggregate,
    /// What judges that result on the data that was held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluate: Option<Step>,
    /// The part of all batches that must succeed. Default: 1, all of them.
    #[serde(default = "all_of_them")]
    #[schema(default = all_of_them)]
    pub min_success_ratio: f64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gate: Vec<Gate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Publish>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Deploy>,
}

fn all_of_them() -> f64 {
    1.0
}

/// Where the data is, and how it becomes batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Paths relative to the file, with `*`, `?` and `**`; directories; addresses of http(s).
    pub source: Vec<String>,
    /// Default: by the names' endings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    #[serde(default)]
    pub batch: Cut,
    /// The part of the batches that no step sees, for `evaluate`.
    #[serde(default)]
    pub holdout: f64,
}

/// What the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Csv,
    Parquet,
    /// One JSON object a line.
    Jsonl,
    /// Anything: a file is the least that a batch can be.
    Files,
}

impl Format {
    /// What a file of this name holds.
    pub fn of(name: &str) -> Self {
        let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
        match ending.as_deref() {
            Some("csv") => Self::Csv,
            Some("parquet") => Self::Parquet,
            Some("jsonl" | "ndjson") => Self::Jsonl,
            _ => Self::Files,
        }
    }

    /// Whether it has rows, which can be told apart and put together anew.
    pub fn is_table(self) -> bool {
        self != Self::Files
    }
}

/// How data is cut into batches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cut {
    /// So that a batch takes a worker some seconds: found out from what batches cost.
    Auto,
    /// Each file is one.
    #[default]
    File,
    Rows(u64),
    Bytes(Memory),
    /// All rows with the same value in this column.
    Column(String),
}

/// The environment in which steps of Python run. Made once for the same requirements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Python {
    /// Lines of a requirements file, or the path of one, relative to the pipeline's.
    pub requirements: Requirements,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Requirements {
    File(String),
    Lines(Vec<String>),
}

/// What runs, with what, and within what: for each batch, to aggregate, or to evaluate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Of a step of batches; the others are called what they are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// A command line. Relative programs with a `/` are looked for beside the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Vec<String>>,
    /// Whether what `run` names is started once and told of one batch after the other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub worker: bool,
    /// `module:function` of Python, which a worker calls for one batch after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Files that its result depends on, beside the module of its function and the files named in `run`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// `batch`, or earlier steps whose outputs it reads. Default: the step before; of the first one `batch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Attempts after the first. Default: 2.
    #[serde(default = "usual_retries")]
    #[schema(default = usual_retries)]
    pub retries: u32,
    /// Default: one hour.
    #[serde(default = "usual_timeout")]
    #[schema(default = usual_timeout)]
    pub timeout: Span,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

fn usual_retries() -> u32 {
    2
}

fn usual_timeout() -> Span {
    Span::from_secs(3600)
}

/// How the results of all batches become one.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Aggregate {
    Ready(ReadyMade),
    Own(Box<Step>),
}

impl<'de> Deserialize<'de> for Aggregate {
    /// By whether it says `use`: what is wrong is then told of the one that was meant.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = serde_json::Map::deserialize(deserializer)?;
        let is_ready = keys.contains_key("use");
        let keys = Value::Object(keys);
        let read = if is_ready {
            serde_json::from_value(keys).map(Self::Ready)
        } else {
            serde_json::from_value(keys).map(Self::Own)
        };
        read.map_err(serde::de::Error::custom)
    }
}

/// One that need not be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadyMade {
    #[serde(rename = "use")]
    pub with: Combination,
    /// The step whose models are combined. Default: the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// By which `best` chooses, and by which models are weighted elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Combination {
    /// The mean of all models' weights, by the rows that each has seen.
    Average,
    /// The one model with the highest `metric`.
    Best,
    /// One graph that asks all models and takes the mean of their answers.
    Ensemble,
}

/// What has to hold for a result to become a version. Any number of them, all of which have to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    pub metric: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// Above what users get now, by so much at least; below it by so much at most where it is negative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above_live: Option<f64>,
    /// Below what users get now, by so much at least: for losses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below_live: Option<f64>,
}

/// What becomes a version in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    pub model: ModelName,
    /// The bundle, relative to what the aggregate wrote. Default: all of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}

/// Where the new version is deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    pub regions: Vec<RegionName>,
}

/// A key whose value cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {message}")]
pub struct Problem {
    pub key: String,
    pub message: String,
}

impl Problem {
    fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

impl Pipeline {
    /// Checks what the keys say together.
    ///
    /// # Errors
    /// The first problem, by its key.
    pub fn check(&self) -> Result<(), Problem> {
        self.data.check()?;
        if serde_json::json!(self.parameters).to_string().len() > PARAMETERS_BYTES_LIMIT {
            let message = format!("they are more than {} KiB of JSON", PARAMETERS_BYTES_LIMIT >> 10);
            return Err(Problem::new("parameters", message));
        }
        if self.steps.is_empty() || self.steps.len() > STEPS_LIMIT {
            return Err(Problem::new("step", format!("a pipeline has 1 to {STEPS_LIMIT} steps")));
        }
        let mut earlier: Vec<&str> = Vec::new();
        for step in &self.steps {
            check_name(&step.name, &earlier)?;
            step.check(&format!("step.{}", step.name), &earlier)?;
            earlier.push(&step.name);
        }
        self.aggregate.check(&earlier)?;
        if self.evaluate.is_none() && self.data.holdout > 0.0 {
            return Err(Problem::new("data.holdout", "nothing is evaluated on what is held out: say [evaluate]"));
        }
        if let Some(step) = &self.evaluate {
            if self.data.holdout == 0.0 {
                return Err(Problem::new("evaluate", "there is nothing to evaluate on: say `holdout` in [data]"));
            }
            step.check_unnamed("evaluate", &earlier)?;
        }
        if !(self.min_success_ratio > 0.0 && self.min_success_ratio <= 1.0) {
            return Err(Problem::new("min_success_ratio", "it is above 0, and 1 at most"));
        }
        self.gate.iter().try_for_each(Gate::check)?;
        match &self.deploy {
            Some(_) if self.publish.is_none() => {
                Err(Problem::new("deploy", "only what is published is deployed: say [publish]"))
            }
            Some(deploy) if deploy.regions.is_empty() => Err(Problem::new("deploy.regions", "it names no region")),
            _ => Ok(()),
        }
    }

    /// Says a parameter anew, for all steps and for those that have one of that name themselves.
    pub fn set(&mut self, name: &str, value: &Value) {
        self.parameters.insert(name.to_owned(), value.clone());
        let aggregate = match &mut self.aggregate {
            Aggregate::Own(step) => Some(&mut **step),
            Aggregate::Ready(_) => None,
        };
        for step in self.steps.iter_mut().chain(&mut self.evaluate).chain(aggregate) {
            if let Some(own) = step.parameters.get_mut(name) {
                own.clone_from(value);
            }
        }
    }

    /// What the step at this place reads.
    pub fn inputs(&self, place: usize) -> Vec<&str> {
        let before = || place.checked_sub(1).map_or(BATCH, |before| self.steps[before].name.as_str());
        match &self.steps[place].inputs {
            Some(inputs) => inputs.iter().map(String::as_str).collect(),
            None => vec![before()],
        }
    }
}

fn check_name(name: &str, earlier: &[&str]) -> Result<(), Problem> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
        return Err(Problem::new("step.name", format!("`{name}` is not a name: up to 64 of a-z, 0-9, _ and -")));
    }
    if TAKEN.contains(&name) || earlier.contains(&name) {
        return Err(Problem::new("step.name", format!("`{name}` is something else already")));
    }
    Ok(())
}

impl Data {
    fn check(&self) -> Result<(), Problem> {
        if self.source.is_empty() || self.source.len() > LIST_LIMIT {
            return Err(Problem::new("data.source", format!("it names 1 to {LIST_LIMIT} places")));
        }
        if !(0.0..1.0).contains(&self.holdout) {
            return Err(Problem::new("data.holdout", "it is a part of the data: from 0 to below 1"));
        }
        match &self.batch {
            Cut::Rows(0) => Err(Problem::new("data.batch", "a batch has at least one row")),
            Cut::Bytes(bytes) if bytes.bytes() < 1024 => Err(Problem::new("data.batch", "a batch has at least 1 KiB")),
            Cut::Rows(_) | Cut::Column(_) if self.format == Some(Format::Files) => {
                Err(Problem::new("data.batch", "files have no rows and columns: cut them by \"file\" or bytes"))
            }
            _ => Ok(()),
        }
    }
}

impl Step {
    /// Of the aggregate and the evaluation, whose names are given.
    fn check_unnamed(&self, key: &str, earlier: &[&str]) -> Result<(), Problem> {
        if !self.name.is_empty() {
            return Err(Problem::new(format!("{key}.name"), "only steps of batches are given names"));
        }
        self.check(key, earlier)
    }

    fn check(&self, key: &str, earlier: &[&str]) -> Result<(), Problem> {
        let problem = |name: &str, message: String| Err(Problem::new(format!("{key}.{name}"), message));
        match (&self.run, &self.function) {
            (Some(words), None) if words.is_empty() || words.len() > LIST_LIMIT || words[0].is_empty() => {
                return problem("run", "it is a program and its arguments".to_owned());
            }
            (None, Some(function)) if !is_function(function) => {
                return problem("function", format!("`{function}` is not a function: write module:function"));
            }
            (Some(_), None) | (None, Some(_)) => {}
            (Some(_), Some(_)) | (None, None) => {
                return problem("run", "say either what to `run`, or a `function` of Python".to_owned());
            }
        }
        if self.worker && self.run.is_none() {
            return problem("worker", "a function of Python has a worker anyway".to_owned());
        }
        let inputs = self.inputs.iter().flatten();
        if let Some(unknown) = inputs.clone().find(|input| *input != BATCH && !earlier.contains(&input.as_str())) {
            return problem("inputs", format!("`{unknown}` is neither `batch` nor an earlier step"));
        }
        if inputs.clone().collect::<BTreeSet<_>>().len() != inputs.count() {
            return problem("inputs", "one is named twice".to_owned());
        }
        if self.retries > RETRIES_LIMIT {
            return problem("retries", format!("there are {RETRIES_LIMIT} at most"));
        }
        if self.memory.is_some_and(|memory| memory.bytes() < MEMORY_LEAST) {
            return problem("memory", format!("it is {} at least", Memory::from_bytes(MEMORY_LEAST)));
        }
        if self.cpu.is_some_and(|cpu| cpu.milli() == 0) {
            return problem("cpu", "it is above 0".to_owned());
        }
        if let Some(name) = self.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return problem("env", format!("`{name}` is not the name of a variable"));
        }
        if self.timeout.as_millis() == 0 || self.timeout > TIMEOUT_LIMIT {
            return problem("timeout", format!("it is above 0, and {TIMEOUT_LIMIT} at most"));
        }
        Ok(())
    }
}

/// `package.module:function`
fn is_function(text: &str) -> bool {
    let is_word = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && word.chars().all(plain)
    };
    text.split_once(':').is_some_and(|(module, function)| module.split('.').all(is_word) && is_word(function))
}

impl Aggregate {
    /// The step that its author wrote; `None` where it is a ready-made one.
    pub fn own(&self) -> Option<&Step> {
        match self {
            Self::Own(step) => Some(step),
            Self::Ready(_) => None,
        }
    }

    fn check(&self, steps: &[&str]) -> Result<(), Problem> {
        match self {
            Self::Own(step) => step.check_unnamed("aggregate", steps),
            Self::Ready(ReadyMade { with, of, metric }) => {
                if let Some(unknown) = of.as_deref().filter(|step| !steps.contains(step)) {
                    return Err(Problem::new("aggregate.of", format!("there is no step `{unknown}`")));
                }
                match (with, metric) {
                    (Combination::Best, None) => {
                        Err(Problem::new("aggregate.metric", "the best by which metric? say one"))
                    }
                    (Combination::Ensemble, Some(_)) => {
                        Err(Problem::new("aggregate.metric", "an ensemble asks all models alike: leave it out"))
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

impl Gate {
    /// Whether it asks for what users get now.
    pub fn compares(&self) -> bool {
        self.above_live.is_some() || self.below_live.is_some()
    }

    fn check(&self) -> Result<(), Problem> {
        let bounds = [self.at_least, self.at_most, self.above_live, self.below_live];
        if bounds.iter().all(Option::is_none) {
            let message = format!("`{}` has no bound: say at_least, at_most, above_live or below_live", self.metric);
            return Err(Problem::new("gate", message));
        }
        if bounds.iter().flatten().any(|bound| !bound.is_finite()) {
            return Err(Problem::new("gate", format!("a bound of `{}` is not a finite number", self.metric)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
