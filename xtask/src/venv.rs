//! Python virtual environments under `target/venv`: everything from PyPI goes into one, pinned, never into the system.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{packages, process, workspace::Workspace};

/// A copy of the requirements that the environment was made from. It is written last, so it vouches for the rest.
const STAMP: &str = "tradewind-requirements.txt";

/// An environment that holds exactly what its requirements file asks for.
#[derive(Debug)]
pub(crate) struct Venv {
    directory: PathBuf,
}

impl Venv {
    /// Makes `target/venv/<name>` from pinned requirements. With the same requirements again it returns at once.
    pub(crate) fn prepare(workspace: &Workspace, name: &str, requirements: &Path) -> Result<Self> {
        let wanted = fs::read_to_string(requirements).with_context(|| format!("reading {}", requirements.display()))?;
        let parent = workspace.target().join("venv");
        fs::create_dir_all(&parent).with_context(|| format!("creating {}", parent.display()))?;
        let venv = Self { directory: parent.join(name) };

        let _lock = lock(&parent.join(format!("{name}.lock")))?;
        if venv.stamp().as_deref() != Some(&wanted) {
            venv.create(requirements).with_context(|| format!("preparing the Python environment `{name}`"))?;
            fs::write(venv.directory.join(STAMP), wanted).context("stamping the Python environment")?;
        }
        Ok(venv)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A program of this environment, such as `python` or `pip`.
    pub(crate) fn command(&self, program: &str) -> Command {
        Command::new(self.directory.join("bin").join(program))
    }

    fn stamp(&self) -> Option<String> {
        // The interpreter may be gone after an upgrade of the system's Python.
        let python = self.directory.join("bin/python");
        python.exists().then(|| fs::read_to_string(self.directory.join(STAMP)).ok()).flatten()
    }

    /// Anew each time: pip would leave packages that are no longer asked for.
    fn create(&self, requirements: &Path) -> Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", self.directory.display()));
            }
            _ => {}
        }
        ensure_python()?;
        process::stdout(Command::new("python3").args(["-m", "venv"]).arg(&self.directory))?;
        let mut pip = self.command("pip");
        pip.args(["install", "--quiet", "--no-input", "--disable-pip-version-check", "--requirement"])
            .arg(requirements);
        process::stdout(&mut pip)?;
        Ok(())
    }
}

/// Holds a file's lock until it is dropped, so that two runs do not build the same thing.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    file.lock().with_context(|| format!("locking {}", path.display()))?;
    Ok(file)
}

fn ensure_python() -> Result<()> {
    if python_makes_environments() {
        return Ok(());
    }
    // Debian ships python3 without what `venv` needs. As root, as in a container of CI, nobody else will install it.
    if packages::can_install() {
        packages::install(&["python3-venv"])?;
    }
    ensure!(
        python_makes_environments(),
        "python3 with its venv module is missing: install it (Debian, Ubuntu: `apt-get install python3-venv`; Fedora: `dnf install python3`)"
    );
    Ok(())
}

fn python_makes_environments() -> bool {
    process::succeeds(Command::new("python3").args(["-c", "import venv, ensurepip"]))
}
