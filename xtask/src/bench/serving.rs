//! What `serving` compares Tradewind with: servers in Python, each in a virtual environment of its own, since their pins
//! conflict; a Triton; and the models that all of them serve.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::peers;
use crate::{
    process, triton,
    venv::{self, Venv},
    workspace::Workspace,
};

const DIRECTORY: &str = "bench/serving";
/// The wheel with Triton, as tests have it.
const TRITON: &str = "tests/python/triton.txt";
const SERVERS: &[&str] = &["triton", "mlserver", "kserve", "bentoml", "ray", "litserve"];

/// Tells `command` where all of it is, or why a server is not there; the benchmark goes on without it.
pub(super) fn prepare(workspace: &Workspace, command: &mut Command, arguments: &[String]) -> Result<()> {
    let directory = workspace.root().join(DIRECTORY);
    command.arg("--model-files").arg(models(workspace, &directory)?);
    peers::prepare(SERVERS, command, arguments, |server, command| install(workspace, &directory, server, command));
    Ok(())
}

/// Where its virtual environment is.
fn install(workspace: &Workspace, directory: &Path, server: &str, command: &mut Command) -> Result<String> {
    let venv = peers::environment(workspace, "serving", directory, server)?;
    if server == "triton" {
        let home = triton::prepare(workspace, &venv, &workspace.root().join(TRITON))?;
        command.arg("--triton").arg(home.context("its wheel does not run here")?);
    }
    Ok(venv.directory().display().to_string())
}

/// The directory of the models, which are made if their script has changed.
fn models(workspace: &Workspace, directory: &Path) -> Result<PathBuf> {
    let (script, made) = (directory.join("models.py"), workspace.target().join("serving/models"));
    fs::create_dir_all(&made).with_context(|| format!("creating {}", made.display()))?;
    let wanted = fs::read_to_string(&script).with_context(|| format!("reading {}", script.display()))?;
    let stamp = made.join("stamp");
    let _lock = venv::lock(&made.join("lock"))?;
    if fs::read_to_string(&stamp).ok().as_deref() != Some(&wanted) {
        let venv = Venv::prepare(workspace, "serving-models", &directory.join("requirements.txt"))?;
        process::stdout(venv.command("python").arg(&script).arg(&made)).context("making the models")?;
        fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))?;
    }
    Ok(made)
}
