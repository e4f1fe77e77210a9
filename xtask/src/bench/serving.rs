//! What `serving` compares Tradewind with: servers in Python, each in a virtual environment of its own, since their pins
//! conflict; a Triton; and the models that all of them serve.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

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
    for server in SERVERS.iter().filter(|server| is_wanted(arguments, server)) {
        println!("preparing {server}");
        match install(workspace, &directory, server, command) {
            Ok(home) => command.arg("--peer").arg(format!("{server}={home}")),
            Err(why) => command.arg("--absent").arg(format!("{server}={why:#}")),
        };
    }
    Ok(())
}

/// Where its virtual environment is.
fn install(workspace: &Workspace, directory: &Path, server: &str, command: &mut Command) -> Result<String> {
    let requirements = directory.join(server).join("requirements.txt");
    let venv = Venv::prepare(workspace, &format!("serving-{server}"), &requirements)?;
    if server == "triton" {
        let home = triton::prepare(workspace, &venv, &workspace.root().join(TRITON))?;
        command.arg("--triton").arg(home.context("its wheel does not run here")?);
    }
    Ok(venv.directory().display().to_string())
}

/// Without `--only` all servers are compared.
fn is_wanted(arguments: &[String], server: &str) -> bool {
    let mut arguments = arguments.iter();
    let only = arguments.find_map(|argument| argument.strip_prefix("--only").map(str::to_owned));
    let value = only.map(|rest| match rest.strip_prefix('=') {
        Some(value) => value.to_owned(),
        None => arguments.next().cloned().unwrap_or_default(),
    });
    value.is_none_or(|value| value.split(',').any(|name| name == server))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_that_are_compared_are_installed() {
        let wanted = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            SERVERS.iter().filter(|server| is_wanted(&arguments, server)).copied().collect::<Vec<_>>()
        };
        assert_eq!(wanted(&["--rounds", "2"]), SERVERS);
        assert_eq!(wanted(&["--quick", "--only", "tradewind,kserve"]), ["kserve"]);
        assert_eq!(wanted(&["--only=ray,triton"]), ["triton", "ray"]);
        assert!(wanted(&["--only", "loop"]).is_empty());
    }
}
