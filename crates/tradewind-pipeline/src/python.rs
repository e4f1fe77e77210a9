//! Python for steps: environments that are made once and kept, and the package that steps import.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

/// Hundreds of megabytes may be fetched the first time.
const PREPARE_LIMIT: Duration = Duration::from_secs(1800);
/// To say which version it is.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// So much of what a program complains of is shown.
const SHOWN_LINES: usize = 5;
/// The package `tradewind.pipeline`, by path.
const PACKAGE: [(&str, &str); 9] = [
    ("tradewind/__init__.py", include_str!("../python/tradewind/__init__.py")),
    ("tradewind/pipeline/__init__.py", include_str!("../python/tradewind/pipeline/__init__.py")),
    ("tradewind/pipeline/cases.py", include_str!("../python/tradewind/pipeline/cases.py")),
    ("tradewind/pipeline/combine.py", include_str!("../python/tradewind/pipeline/combine.py")),
    ("tradewind/pipeline/contract.py", include_str!("../python/tradewind/pipeline/contract.py")),
    ("tradewind/pipeline/graphs.py", include_str!("../python/tradewind/pipeline/graphs.py")),
    ("tradewind/pipeline/metrics.py", include_str!("../python/tradewind/pipeline/metrics.py")),
    ("tradewind/pipeline/tables.py", include_str!("../python/tradewind/pipeline/tables.py")),
    ("tradewind/pipeline/worker.py", include_str!("../python/tradewind/pipeline/worker.py")),
];
/// What ready-made aggregates import.
pub(crate) const COMBINE_REQUIREMENTS: &str = "onnx==1.21.0\nnumpy>=1.26,<3\n";

/// Why there is no environment.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    #[error("cannot make {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read the requirements in {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: `{line}` names another file", path.display())]
    OtherFile { path: PathBuf, line: String },
    #[error("cannot use {python}: {said}")]
    NotPython { python: String, said: String },
    #[error("cannot make a Python environment with {python}: {said}")]
    Venv { python: String, said: String },
    #[error("cannot install {what}: {said}")]
    Install { what: String, said: String },
}

impl PythonError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Write { .. } | Self::Read { .. } => None,
            Self::OtherFile { .. } => Some("write the packages and their versions into this one"),
            Self::NotPython { .. } | Self::Venv { .. } => Some("install Python 3 with venv, or name one with --python"),
            Self::Install { .. } => Some("it comes from PyPI: see that it can be reached, or set PIP_INDEX_URL"),
        }
    }
}

/// An interpreter with what is installed for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The interpreter that it is made with.
    base: PathBuf,
    version: String,
    /// Where it is kept, with lines of a requirements file; absent where the interpreter is used as it is.
    made: Option<(PathBuf, String)>,
}

impl Environment {
    /// `python` itself, with whatever is installed there.
    ///
    /// # Errors
    /// It is not Python.
    pub async fn plain(python: &str) -> Result<Self, PythonError> {
        let mut command = Command::new(python);
        command.args(["-c", "import sys; print(sys.executable); print(sys.version)"]);
        let said = ask(&mut command, ANSWER_LIMIT).await;
        let said = said.map_err(|said| PythonError::NotPython { python: python.to_owned(), said })?;
        let (executable, version) = said.split_once('\n').unwrap_or((python, ""));
        Ok(Self { base: PathBuf::from(executable), version: version.trim().to_owned(), made: None })
    }

    /// The one for these lines of a requirements file in `cache`, whether or not it was made. It is named by what is in
    /// it, with `name` before that.
    ///
    /// # Errors
    /// `python` is none.
    pub async fn of(cache: &Path, name: &str, python: &str, requirements: &str) -> Result<Self, PythonError> {
        let plain = Self::plain(python).await?;
        let all = format!("{}\n{}\n{requirements}", plain.base.display(), plain.version);
        let digest = blake3::hash(all.as_bytes()).to_hex();
        let home = cache.join(format!("{name}-{}", &digest[..12]));
        Ok(Self { made: Some((home, requirements.to_owned())), ..plain })
    }

    /// The interpreter.
    pub fn python(&self) -> PathBuf {
        self.made.as_ref().map_or_else(|| self.base.clone(), |(home, _)| home.join("bin/python"))
    }

    /// The same for the same interpreter with the same requirements, wherever they lie.
    pub fn key(&self) -> String {
        format!("{}\n{}", self.version, self.requirements())
    }

    pub fn requirements(&self) -> &str {
        self.made.as_ref().map_or("", |(_, requirements)| requirements)
    }

    /// Makes it unless it is there. It is complete from the moment it has its name. `what` is installed, for people.
    ///
    /// # Errors
    /// There is no venv, or what is required cannot be had.
    pub async fn make(&self, what: &str) -> Result<(), PythonError> {
        let Some((home, requirements)) = &self.made else { return Ok(()) };
        let python = self.python();
        if python.exists() {
            return Ok(());
        }
        let unmade = |source: io::Error| PythonError::Write { path: home.clone(), source };
        let cache = home.parent().unwrap_or(home);
        std::fs::create_dir_all(cache).map_err(unmade)?;
        let being_made = tempfile::tempdir_in(cache).map_err(unmade)?;
        let file = being_made.path().join("requirements.txt");
        std::fs::write(&file, requirements).map_err(unmade)?;
        let venv = being_made.path().join("venv");
        let made = ask(Command::new(&self.base).args(["-m", "venv"]).arg(&venv), PREPARE_LIMIT).await;
        made.map_err(|said| PythonError::Venv { python: self.base.display().to_string(), said })?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&file);
        let installed = ask(&mut pip, PREPARE_LIMIT).await;
        installed.map_err(|said| PythonError::Install { what: what.to_owned(), said })?;
        match std::fs::rename(&venv, home) {
            // Somebody else was quicker, with the same.
            Err(_) if python.exists() => Ok(()),
            Err(error) => Err(unmade(error)),
            Ok(()) => Ok(()),
        }
    }
}

/// Writes the package that steps import into `cache`, and says where: what PYTHONPATH names.
///
/// # Errors
/// It cannot be written.
pub fn write_package(cache: &Path) -> Result<PathBuf, PythonError> {
    let home = cache.join(format!("package-{}", &package_digest()[..12]));
    let unmade = |source: io::Error| PythonError::Write { path: home.clone(), source };
    if home.is_dir() {
        return Ok(home);
    }
    std::fs::create_dir_all(cache).map_err(unmade)?;
    let being_made = tempfile::tempdir_in(cache).map_err(unmade)?;
    let package = being_made.path().join("package");
    for (path, text) in PACKAGE {
        let path = package.join(path);
        let directory = path.parent().unwrap_or(&package);
        std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&path, text)).map_err(unmade)?;
    }
    match std::fs::rename(&package, &home) {
        Err(_) if home.is_dir() => Ok(home),
        Err(error) => Err(unmade(error)),
        Ok(()) => Ok(home),
    }
}

/// Of all its files.
pub(crate) fn package_digest() -> String {
    let mut hasher = blake3::Hasher::new();
    for (path, text) in PACKAGE {
        hasher.update(path.as_bytes()).update(&[0]).update(text.as_bytes()).update(&[0]);
    }
    hasher.finalize().to_hex().to_string()
}

/// Runs a program to its end.
///
/// # Errors
/// What it complained of in the end, or why it did not run.
pub async fn ask(command: &mut Command, limit: Duration) -> Result<String, String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(limit, command.output()).await;
    let output = output.map_err(|_| format!("it took longer than {} s", limit.as_secs()))?;
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("; ");
    Err(if shown.is_empty() { output.status.to_string() } else { shown })
}
