//! What a step is told and what it says, as JSON: the same for commands in any language and for functions of Python.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{file::Format, metric::Metric};

/// Of [`Told`] and [`Said`].
pub const SCHEMA_VERSION: u32 = 1;
/// Names the file with [`Told`] to a command.
pub const TOLD_VARIABLE: &str = "TRADEWIND_STEP";
/// A command that ends so would end so every time: it is not tried again.
pub const HOPELESS_EXIT: i32 = 65;
/// The largest file with [`Said`], in bytes.
pub const SAID_BYTES_LIMIT: u64 = 16 << 20;
/// The longest line with [`Reply`], in bytes.
pub const REPLY_BYTES_LIMIT: usize = 1 << 20;

/// What a step is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub schema_version: u32,
    pub pipeline: String,
    pub step: String,
    /// The same whenever the same is done to the same, below 2^53.
    pub seed: u64,
    pub parameters: BTreeMap<String, Value>,
    /// By `batch`, `model` or an earlier step's name.
    pub inputs: BTreeMap<String, Inputs>,
    /// A directory that is there, empty; what is written into it is the step's output.
    pub output: PathBuf,
    /// Where [`Said`] is written; without that file nothing was measured.
    pub result: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Inputs {
    /// Of the step's own batch, and the model that is judged.
    One(Input),
    /// Of all batches, in their order: what is aggregated, and what was held out.
    All(Vec<Input>),
}

/// Either a batch's own files, or what a step wrote.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Input {
    /// The batch's name; empty for a model.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub batch: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Absolute, of a batch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
    /// Absolute, of what a step wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// As counted when the batch was cut, or as the step said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, Metric>,
}

/// What a step says of its work.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Said {
    /// Of which its metrics are means; default: the rows of its batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, Metric>,
}

/// A line to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The file with [`Told`].
    pub step: PathBuf,
    /// `module:function`, told to workers of Python.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}

/// A worker's line when it is done with an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    pub ok: bool,
    /// What went wrong, in a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// It would go wrong every time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hopeless: bool,
}
