//! A real Triton, for the tests that compare its answers with ours: out of the wheel `nvidia-pytriton`, which has its
//! server, and numpy, which its backend of Python needs in an older version than the tests.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    packages, process,
    venv::{self, Venv},
    workspace::Workspace,
};

/// The variable by which tests find it.
pub(crate) const VARIABLE: &str = "TRADEWIND_TRITON";
/// The only machines that the wheel is built for.
const WHEELS_ARCH: &str = "x86_64";
/// Prints whether it runs with this Python (there is no numpy 1 for newer ones), and the package with Python's shared
/// library, which the server wants, if that is missing.
const QUESTION: &str = "
import ctypes.util, pathlib, sys, sysconfig
version = '%d.%d' % sys.version_info[:2]
library = pathlib.Path(sysconfig.get_config_var('LIBDIR')) / ('libpython%s.so.1.0' % version)
print((3, 9) <= sys.version_info[:2] <= (3, 12))
print('' if library.exists() or ctypes.util.find_library('python' + version) else 'libpython' + version)
";

/// The directory that it is unpacked in: at once if it is there already. `None` where it does not run.
pub(crate) fn prepare(workspace: &Workspace, venv: &Venv, requirements: &Path) -> Result<Option<PathBuf>> {
    let answer = String::from_utf8(process::stdout(venv.command("python").args(["-c", QUESTION]))?)?;
    let (runs, missing) = answer.trim_end().split_once('\n').unwrap_or((answer.trim_end(), ""));
    if ARCH != WHEELS_ARCH || runs != "True" {
        println!("there is no Triton to compare with: it runs on {WHEELS_ARCH}, with Python 3.9 to 3.12");
        return Ok(None);
    }
    // Where it cannot be installed, the tests say what is missing.
    if !missing.is_empty() && packages::can_install() {
        packages::install(&[missing])?;
    }
    let wanted = fs::read_to_string(requirements).with_context(|| format!("reading {}", requirements.display()))?;
    let parent = workspace.target().join("triton");
    fs::create_dir_all(&parent).with_context(|| format!("creating {}", parent.display()))?;
    let (home, stamp) = (parent.join("home"), parent.join("stamp"));

    let _lock = venv::lock(&parent.join("lock"))?;
    if !home.is_dir() || fs::read_to_string(&stamp).ok().as_deref() != Some(&wanted) {
        if home.exists() {
            fs::remove_dir_all(&home).with_context(|| format!("removing {}", home.display()))?;
        }
        let mut pip = venv.command("pip");
        pip.args(["install", "--quiet", "--no-input", "--disable-pip-version-check"])
            .args(["--no-deps", "--only-binary=:all:", "--target"])
            .arg(&home)
            .arg("--requirement")
            .arg(requirements);
        process::stdout(&mut pip).context("unpacking Triton")?;
        fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))?;
    }
    Ok(Some(home))
}
