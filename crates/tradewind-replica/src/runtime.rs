//! Finds ONNX Runtime's shared library and opens sessions on it.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use ort::{
    environment::Environment,
    logging::LogLevel,
    session::{
        Session,
        builder::{GraphOptimizationLevel, PrepackedWeights},
    },
};

/// Names the library file; wins over every other place.
const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";
const LIBRARY: &str = "libonnxruntime.so";

#[derive(Debug, Clone, thiserror::Error)]
pub enum LocateError {
    #[error("`{LIBRARY_VARIABLE}` names {}, which does not exist", .0.display())]
    Named(PathBuf),
    #[error(
        "ONNX Runtime ({LIBRARY}) was found in none of {}; run `cargo xtask onnxruntime`, or `pip download \
         onnxruntime`, unpack the wheel and set {LIBRARY_VARIABLE} to its onnxruntime/capi/{LIBRARY}.*",
        join(.0)
    )]
    Missing(Vec<PathBuf>),
    #[error("{} is not a usable ONNX Runtime: {message}", path.display())]
    Unusable { path: PathBuf, message: String },
}

fn join(directories: &[PathBuf]) -> String {
    let names: Vec<_> = directories.iter().map(|directory| directory.display().to_string()).collect();
    names.join(", ")
}

/// The ONNX Runtime library: `ORT_DYLIB_PATH`, else beside the executable, in `../lib` of it, where
/// `cargo xtask onnxruntime` puts it for an executable that Cargo built, or in `$XDG_DATA_HOME/tradewind/lib`
/// (`~/.local/share/tradewind/lib`).
pub fn locate_onnxruntime() -> Result<PathBuf, LocateError> {
    if let Some(named) = std::env::var_os(LIBRARY_VARIABLE).filter(|value| !value.is_empty()) {
        let named = PathBuf::from(named);
        return if named.is_file() { Ok(named) } else { Err(LocateError::Named(named)) };
    }
    let directories = search_path();
    directories.iter().find_map(|directory| library_in(directory)).ok_or(LocateError::Missing(directories))
}

fn search_path() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    if let Some(beside) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        directories.push(beside.to_owned());
        directories.extend(beside.parent().map(|prefix| prefix.join("lib")));
        directories.extend(built_by_cargo(beside));
    }
    let data_home = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")));
    directories.extend(data_home.map(|home| home.join("tradewind/lib")));
    directories
}

/// `target/onnxruntime/lib` for an executable in `target/<profile>` or, as tests are, in `target/<profile>/deps`.
fn built_by_cargo(beside: &Path) -> Option<PathBuf> {
    let profile = if beside.ends_with("deps") { beside.parent()? } else { beside };
    let target = profile.parent().filter(|target| target.ends_with("target"))?;
    Some(target.join("onnxruntime/lib"))
}

/// `libonnxruntime.so`, else the greatest of `libonnxruntime.so.*`.
fn library_in(directory: &Path) -> Option<PathBuf> {
    let plain = directory.join(LIBRARY);
    if plain.is_file() {
        return Some(plain);
    }
    let versioned = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with("libonnxruntime.so."));
    let entries = std::fs::read_dir(directory).ok()?.flatten();
    entries.filter(|entry| versioned(&entry.file_name())).map(|entry| entry.path()).filter(|path| path.is_file()).max()
}

/// ONNX Runtime allows one environment per process; it lives as long as the process.
pub(crate) fn environment() -> Result<&'static Environment, LocateError> {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    if let Some(environment) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    let path = locate_onnxruntime()?;
    let unusable = |message: String| LocateError::Unusable { path: path.clone(), message };
    let environment = ort::init_from(&path)
        .map_err(|error| unusable(error.to_string()))?
        .with_name("tradewind")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    environment.set_log_level(LogLevel::Warning);
    Ok(ENVIRONMENT.get_or_init(|| environment))
}

fn log(level: LogLevel, category: &str, _id: &str, _code_location: &str, message: &str) {
    match level {
        LogLevel::Verbose => tracing::trace!(category, "{message}"),
        LogLevel::Info => tracing::debug!(category, "{message}"),
        // What ONNX Runtime warns of concerns the author of the model; a failed run is reported by its own error.
        LogLevel::Warning | LogLevel::Error => tracing::info!(category, "{message}"),
        LogLevel::Fatal => tracing::error!(category, "{message}"),
    }
}

/// A session over a model in memory, whose external data lies in `directory`. What ONNX Runtime makes of the weights is
/// shared by all that are opened with the same `weights`.
pub(crate) fn open_session(
    environment: &Environment,
    model: &[u8],
    directory: &str,
    threads: usize,
    weights: &PrepackedWeights,
) -> Result<Session, ort::Error> {
    Session::builder(environment)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_prepacked_weights(weights)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_config_entry("session.model_external_initializers_file_folder_path", directory)?
        .commit_from_memory(model)
}
