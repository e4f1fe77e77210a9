//! The Python that optimises: an environment that is made once and kept, and the script that runs in it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;
use tradewind_pipeline::python::{self, PythonError};

use super::{Args, quality::Trials};
use crate::{failure::Failure, measure::Local, settings};

const REQUIREMENTS: &str = include_str!("requirements.txt");
const SCRIPT: &str = include_str!("optimize.py");
const OPTIMISE_LIMIT: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Environment {
    python: PathBuf,
}

/// What the script says.
#[derive(Debug, Deserialize)]
pub(super) struct Made {
    pub(super) int8: Option<String>,
    pub(super) operators: Value,
}

impl Environment {
    /// The one that is there, or a new one.
    pub(super) async fn prepare(python: &str) -> Result<Self, Failure> {
        let cache = settings::cache_home().ok_or_else(|| {
            Failure::failed("there is no place to keep a Python environment").hint("set XDG_CACHE_HOME")
        })?;
        let made = async {
            let environment = python::Environment::of(&cache, "optimize", python, REQUIREMENTS).await?;
            environment.make("what the optimisation needs").await?;
            Ok(Self { python: environment.python() })
        };
        made.await.map_err(|error: PythonError| {
            let failure = Failure::failed(error.to_string());
            error.hint().into_iter().fold(failure, |failure, hint| failure.hint(hint))
        })
    }

    /// Writes the leaner model over the one in `leaner`, which is a copy of the bundle.
    pub(super) async fn optimise(
        &self,
        args: &Args,
        local: &Local,
        trials: &Trials,
        leaner: &Path,
    ) -> Result<Made, Failure> {
        let work = tempfile::tempdir().and_then(|work| {
            std::fs::write(work.path().join("optimize.py"), SCRIPT)?;
            Ok(work)
        });
        let work = work.map_err(|error| Failure::failed("cannot make a directory").cause(error.to_string()))?;
        let (script, model) = (work.path().join("optimize.py"), &local.version.manifest.model);
        let mut command = Command::new(&self.python);
        command.arg(&script).arg("--model").arg(local.directory.join(model)).arg("--out").arg(leaner.join(model));
        if args.graph {
            command.arg("--graph");
        }
        if args.int8 {
            command.arg("--int8");
            if let Some(requests) = calibration(args, trials, work.path())? {
                command.arg("--calibrate").arg(requests);
            }
        }
        // What else this process was told, tokens above all, is none of a model's business.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).env("PYTHONUTF8", "1");
        let said = python::ask(&mut command, OPTIMISE_LIMIT).await;
        let said = said.map_err(|said| Failure::failed("the model cannot be optimised").cause(said))?;
        let last = said.lines().last().unwrap_or_default();
        serde_json::from_str(last)
            .map_err(|error| Failure::failed("the optimisation says nothing").cause(error.to_string()))
    }
}

/// The file of requests to calibrate with: the one that was named, or else golden cases where there are enough.
fn calibration(args: &Args, trials: &Trials, work: &Path) -> Result<Option<PathBuf>, Failure> {
    if let Some(path) = &args.calibrate {
        let absolute = std::path::absolute(path).ok().filter(|path| path.is_file());
        return absolute.map(Some).ok_or_else(|| Failure::usage(format!("cannot read {}", path.display())));
    }
    let requests: Vec<String> = trials.golden().filter_map(|case| serde_json::to_string(&case.request).ok()).collect();
    if requests.len() < ENOUGH_TO_CALIBRATE {
        return Ok(None);
    }
    let path = work.join("requests.jsonl");
    let written = std::fs::write(&path, requests.join("\n"));
    written.map_err(|error| Failure::failed("cannot write requests").cause(error.to_string()))?;
    Ok(Some(path))
}

/// So many golden cases give scales for activations.
const ENOUGH_TO_CALIBRATE: usize = 10;
