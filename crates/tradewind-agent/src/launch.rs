//! Bringing a replica into the world: intent on disk, socket, process, identity on disk, in this order.

mod server;

use std::{
    fs::{self, OpenOptions},
    io,
    net::{IpAddr, TcpListener},
    path::{Path, PathBuf},
};

use tradewind_core::{batch::BatchOptions, bundle::CommandOptions, scale::Scale, trace::TraceParent};
use tradewind_process::{Group, Process, Spawn};

use crate::{budget::Budgets, home::Home, record::ReplicaRecord};

/// A log that is larger than this when a replica starts in its place, or while one runs, is moved aside.
pub(crate) const LOG_LIMIT: u64 = 16 << 20;

/// A model is warmed up on so many of its golden cases.
const WARM_UP_CASES: usize = 4;

/// What a replica's command line says beside its record.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) what: What,
    pub(crate) scale: Scale,
    pub(crate) interface: IpAddr,
    /// Under which others reach the interface, where its own address does not say.
    pub(crate) host: Option<String>,
    pub(crate) log: PathBuf,
    /// What Tradewind's own replica records of its start belongs to this.
    pub(crate) trace: Option<TraceParent>,
}

/// What a replica is.
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// Tradewind's own: a subcommand of `program`.
    Onnx { program: PathBuf, model_file: String, instances: u32, batching: BatchOptions, cases: Vec<String> },
    /// A server of the author's own.
    Server(CommandOptions),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot listen on {interface} for a replica")]
    Listen { interface: IpAddr, source: io::Error },
    #[error("cannot write down the replica {id}")]
    Record { id: String, source: io::Error },
    #[error("cannot prepare the log {}", path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Spawn(#[from] tradewind_process::Error),
}

/// A replica that has just been started.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) record: ReplicaRecord,
    pub(crate) process: Process,
    /// Where in the log its own lines begin.
    pub(crate) log_start: u64,
}

/// Starts the replica of `record`, whose address and identity are filled in. Blocks; needs a tokio runtime.
pub(crate) fn launch(
    home: &Home,
    budgets: &Budgets,
    launch: &Launch,
    mut record: ReplicaRecord,
) -> Result<Launched, Error> {
    let listening = |source| Error::Listen { interface: launch.interface, source };
    let listener = TcpListener::bind((launch.interface, 0)).map_err(listening)?;
    let bound = listener.local_addr().map_err(listening)?;
    record.address = match &launch.host {
        Some(host) => format!("{host}:{}", bound.port()),
        None => bound.to_string(),
    };
    let log_start = prepare_log(&launch.log).map_err(|source| Error::Log { path: launch.log.clone(), source })?;

    let id = record.id.clone();
    let recording = |source| Error::Record { id: id.clone(), source };
    record.budget = budgets.grant(home.root(), &id, &launch.scale);
    let group = record.budget.as_ref().and_then(|budget| budget.group.clone());
    // A group that is not on record is found by its name.
    let release = || group.as_ref().map(Group::remove_empty);
    if let Err(source) = record.write(home.root()) {
        release();
        return Err(recording(source));
    }
    let command = match &launch.what {
        // The agent's copy of the socket closes when it is spawned: a dead replica's port must refuse, not queue.
        What::Onnx { program, model_file, instances, batching, cases } => {
            let spawn = own(launch, program, model_file, &record).listener(listener);
            running(spawn, *instances, *batching, cases)
        }
        What::Server(options) => {
            // It opens the port itself. Who takes it in between makes it end, and it is started again on another.
            drop(listener);
            server::command(launch, options, &record, bound.port())
        }
    };
    let command = group.iter().cloned().fold(command, Spawn::group);
    let spawned = command.spawn();
    drop(command);
    let process = spawned.inspect_err(|_| {
        release();
        record.remove(home.root());
    })?;
    record.identity = Some(process.identity().clone());
    if let Err(source) = record.write(home.root()) {
        // A replica that is not on record might be started twice: better none. The intent stays until it is gone.
        if process.kill().is_err() {
            tracing::error!(id, "a replica that cannot be written down cannot be ended either");
        }
        return Err(recording(source));
    }
    Ok(Launched { record, process, log_start })
}

fn own(launch: &Launch, program: &Path, model_file: &str, record: &ReplicaRecord) -> Spawn {
    let traces = tradewind_traces::environment(launch.trace);
    let spawn = traces.into_iter().fold(Spawn::new(program), |spawn, (name, value)| spawn.env(name, value));
    spawn
        .args(["replica", "--id", &record.id, "--model", record.model.as_str()])
        .args(["--version", &record.version.to_string()])
        .arg("--bundle")
        .arg(&record.directory)
        .args(["--model-file", model_file, "--threads", &launch.scale.threads().to_string()])
        .arg("--inherit-listener")
        .log(&launch.log)
}

/// Says how requests run side by side and together, and on which golden cases the model is warmed up.
fn running(spawn: Spawn, instances: u32, batching: BatchOptions, cases: &[String]) -> Spawn {
    let spawn = spawn
        .args(["--instances", &instances.to_string(), "--batch", batching.mode.as_str()])
        .args(["--max-batch-rows", &batching.max_rows.to_string()]);
    cases.iter().take(WARM_UP_CASES).fold(spawn, |spawn, case| spawn.args(["--case", case]))
}

/// Moves a log aside that has grown too large; one older log is kept. Returns the length of what stays.
fn prepare_log(path: &Path) -> io::Result<u64> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
        Ok(metadata) if metadata.len() <= LOG_LIMIT => Ok(metadata.len()),
        Ok(_) => fs::rename(path, older(path)).map(|()| 0),
    }
}

/// Bounds the log of a running replica, which appends: its content is copied aside, then it begins anew. Lines that are
/// written between the two are lost.
pub(crate) fn bound_log(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.len() > LOG_LIMIT {
        fs::copy(path, older(path))?;
        OpenOptions::new().write(true).open(path)?.set_len(0)?;
    }
    Ok(())
}

/// `3.blue.0.log.1` beside `3.blue.0.log`.
fn older(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_too_large_is_moved_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("digits/1.blue.0.log");
        assert_eq!(prepare_log(&path).unwrap(), 0);
        fs::write(&path, "short").unwrap();
        assert_eq!(prepare_log(&path).unwrap(), 5);
        bound_log(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "short");

        OpenOptions::new().write(true).open(&path).unwrap().set_len(LOG_LIMIT + 1).unwrap();
        bound_log(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        assert_eq!(fs::metadata(directory.path().join("digits/1.blue.0.log.1")).unwrap().len(), LOG_LIMIT + 1);

        OpenOptions::new().write(true).open(&path).unwrap().set_len(LOG_LIMIT + 1).unwrap();
        assert_eq!(prepare_log(&path).unwrap(), 0);
        assert!(!path.exists());
    }
}
