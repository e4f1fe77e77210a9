//! The command line of a server of the author's own, in the place where it starts.

use std::path::PathBuf;

use tradewind_core::bundle::{
    CommandOptions,
    command::{PORT_VARIABLE, REPLICA_ID_VARIABLE, Values, fill},
};
use tradewind_process::Spawn;

use super::Launch;
use crate::record::ReplicaRecord;

/// What a server inherits of the agent's environment. The rest may hold the agent's secrets, and would differ between
/// regions.
const INHERITED: [&str; 17] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HF_HOME",
];

pub(super) fn command(launch: &Launch, options: &CommandOptions, record: &ReplicaRecord, port: u16) -> Spawn {
    let (host, bundle) = (launch.interface.to_string(), record.directory.to_string_lossy().into_owned());
    let values = Values { port, host: &host, bundle: &bundle, model: record.model.as_str() };
    let program = match options.program_in_bundle() {
        Ok(Some(path)) => record.directory.join(path),
        // The manifest was checked when it was pushed.
        Ok(None) | Err(_) => options.run.first().map(PathBuf::from).unwrap_or_default(),
    };
    let inherited = INHERITED.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut spawn = Spawn::new(program)
        .args(options.run.iter().skip(1).map(|word| fill(word, &values)))
        .current_dir(record.directory.join(options.root()))
        .env_clear();
    for (name, value) in inherited {
        spawn = spawn.env(name, value);
    }
    let threads = launch.scale.threads().to_string();
    // Without it what a server of Python prints stays in its buffer, and its log says nothing.
    spawn = spawn.env("PYTHONUNBUFFERED", "1");
    if launch.scale.cpu.is_some() || launch.scale.threads.is_some() {
        // What numerical libraries go by; they would take as many threads as the machine has cores.
        spawn = spawn.env("OMP_NUM_THREADS", &threads);
    }
    for (name, value) in &options.env {
        spawn = spawn.env(name, fill(value, &values));
    }
    if let Some(cpu) = launch.scale.cpu {
        spawn = spawn.env("TRADEWIND_CPU", cpu.to_string());
    }
    if let Some(memory) = launch.scale.memory {
        spawn = spawn.env("TRADEWIND_MEMORY", memory.bytes().to_string());
    }
    spawn
        .env(PORT_VARIABLE, port.to_string())
        .env("HOST", &host)
        .env(REPLICA_ID_VARIABLE, &record.id)
        .env("TRADEWIND_MODEL", record.model.as_str())
        .env("TRADEWIND_VERSION", record.version.to_string())
        .env("TRADEWIND_THREADS", threads)
        .log(&launch.log)
}
