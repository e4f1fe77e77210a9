//! The Python that optimises: an environment that is made once and kept, and the script that runs in it.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use super::{Args, quality::Trials};
use crate::{failure::Failure, measure::Local, settings};

const REQUIREMENTS: &str = include_str!("requirements.txt");
const SCRIPT: &str = include_str!("optimize.py");
/// Some 200 MB are fetched the first time.
const PREPARE_LIMIT: Duration = Duration::from_secs(1800);
const OPTIMISE_LIMIT: Duration = Duration::from_secs(3600);
/// So much of what a program complains of is shown.
const SHOWN_LINES: usize = 5;

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
    /// The one that is there, or a new one. It is named by what is in it, and complete from the moment it has that name.
    pub(super) async fn prepare(python: &str) -> Result<Self, Failure> {
        let cache = settings::cache_home().ok_or_else(|| {
            Failure::failed("there is no place to keep a Python environment").hint("set XDG_CACHE_HOME")
        })?;
        let digest = blake3::hash(format!("{python}\n{REQUIREMENTS}").as_bytes()).to_hex();
        let home = cache.join(format!("optimize-{}", &digest[..12]));
        let environment = Self { python: home.join("bin/python") };
        if environment.python.exists() {
            return Ok(environment);
        }
        let unmade =
            |error: io::Error| Failure::failed(format!("cannot make {}", home.display())).cause(error.to_string());
        std::fs::create_dir_all(&cache).map_err(unmade)?;
        let being_made = tempfile::tempdir_in(&cache).map_err(unmade)?;
        let requirements = being_made.path().join("requirements.txt");
        std::fs::write(&requirements, REQUIREMENTS).map_err(unmade)?;
        let venv = being_made.path().join("venv");
        let made = output(Command::new(python).args(["-m", "venv"]).arg(&venv), PREPARE_LIMIT).await;
        check(made, &format!("cannot make a Python environment with {python}"))
            .map_err(|failure| failure.hint("install Python 3 with venv, or name one with --python"))?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements);
        check(output(&mut pip, PREPARE_LIMIT).await, "cannot install what the optimisation needs")
            .map_err(|failure| failure.hint("it comes from PyPI: see that it can be reached, or set PIP_INDEX_URL"))?;
        match std::fs::rename(&venv, &home) {
            // Somebody else was quicker, with the same.
            Err(_) if environment.python.exists() => Ok(environment),
            Err(error) => Err(unmade(error)),
            Ok(()) => Ok(environment),
        }
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
        let output = check(output(&mut command, OPTIMISE_LIMIT).await, "the model cannot be optimised")?;
        let said = String::from_utf8_lossy(&output.stdout);
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

async fn output(command: &mut Command, limit: Duration) -> io::Result<Output> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let took_too_long =
        || io::Error::new(io::ErrorKind::TimedOut, format!("it took longer than {} s", limit.as_secs()));
    timeout(limit, command.output()).await.unwrap_or_else(|_| Err(took_too_long()))
}

fn check(output: io::Result<Output>, what: &str) -> Result<Output, Failure> {
    let output = output.map_err(|error| Failure::failed(what).cause(error.to_string()))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("; ");
    Err(Failure::failed(what).cause(if shown.is_empty() { output.status.to_string() } else { shown }))
}
