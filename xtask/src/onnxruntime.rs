//! `cargo xtask onnxruntime`: the shared library out of the pinned `onnxruntime` wheel.
//!
//! The wheel is the one build of ONNX Runtime that is published for every platform with a hash. Its library does not
//! depend on Python, so one CPython tag is asked for, whatever Python runs here.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};

use crate::{
    process,
    venv::{self, Venv},
    workspace::Workspace,
};

/// The variable by which a replica finds the library.
pub(crate) const VARIABLE: &str = "ORT_DYLIB_PATH";

const REQUIREMENTS: &str = "xtask/onnxruntime.txt";
const PYTHON: (&str, &str) = ("3.11", "cp311");
/// The glibc that the published wheels ask for: 2.28, Debian 10 and newer.
const PLATFORM: &str = "manylinux_2_28";

pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let library = prepare(workspace)?;
    println!("{}", library.display());
    Ok(ExitCode::SUCCESS)
}

/// The library's path. Fetches it first if it is not there in the pinned version.
pub(crate) fn prepare(workspace: &Workspace) -> Result<PathBuf> {
    let requirements = workspace.root().join(REQUIREMENTS);
    let pinned = fs::read_to_string(&requirements).with_context(|| format!("reading {}", requirements.display()))?;
    let version = version(&pinned).with_context(|| format!("{REQUIREMENTS} has no line `onnxruntime==VERSION`"))?;

    let home = workspace.target().join("onnxruntime");
    let library = home.join("lib/libonnxruntime.so");
    let stamp = home.join("lib/VERSION");
    let wanted = format!("{version} {ARCH}\n");
    fs::create_dir_all(home.join("lib")).with_context(|| format!("creating {}", home.display()))?;

    let _lock = venv::lock(&home.join("lock"))?;
    if !library.is_file() || fs::read_to_string(&stamp).ok().as_deref() != Some(&wanted) {
        fetch(workspace, &requirements, &home.join("unpacked"), &library)
            .with_context(|| format!("fetching ONNX Runtime {version}"))?;
        fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))?;
    }
    Ok(library)
}

fn version(requirements: &str) -> Option<&str> {
    requirements.lines().find_map(|line| line.strip_prefix("onnxruntime==")?.split_whitespace().next())
}

fn fetch(workspace: &Workspace, requirements: &Path, scratch: &Path, library: &Path) -> Result<()> {
    if !matches!(ARCH, "x86_64" | "aarch64") {
        bail!("there is no pinned wheel for {ARCH}: build ONNX Runtime and set ORT_DYLIB_PATH");
    }
    let tools = Venv::prepare(workspace, "tools", &workspace.root().join(crate::check::TOOLS))?;
    if scratch.exists() {
        fs::remove_dir_all(scratch).with_context(|| format!("removing {}", scratch.display()))?;
    }

    let (python, abi) = PYTHON;
    let mut download = tools.command("pip");
    download
        .args(["download", "--quiet", "--no-input", "--disable-pip-version-check"])
        .args(["--require-hashes", "--no-deps", "--only-binary=:all:"])
        .args(["--implementation", "cp", "--python-version", python, "--abi", abi])
        .args(["--platform", &format!("{PLATFORM}_{ARCH}")])
        .arg("--dest")
        .arg(scratch)
        .arg("--requirement")
        .arg(requirements);
    process::stdout(&mut download)?;

    let wheel = only_file(scratch, |name| name.ends_with(".whl"))?;
    process::stdout(tools.command("python").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(scratch))?;
    let unpacked = only_file(&scratch.join("onnxruntime/capi"), |name| name.starts_with("libonnxruntime.so"))?;
    // A rename, so that a process that starts meanwhile finds the whole old library or the whole new one.
    fs::rename(&unpacked, library).with_context(|| format!("moving {} into place", unpacked.display()))?;
    fs::remove_dir_all(scratch).with_context(|| format!("removing {}", scratch.display()))
}

fn only_file(directory: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))? {
        let entry = entry.with_context(|| format!("listing {}", directory.display()))?;
        if wanted(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    match <[PathBuf; 1]>::try_from(found) {
        Ok([path]) => Ok(path),
        Err(found) => bail!("expected one library or wheel in {}, found {}", directory.display(), found.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_pin() {
        assert_eq!(version("# why\nonnxruntime==1.31.1 \\\n    --hash=sha256:00\n"), Some("1.31.1"));
        assert_eq!(version("# onnxruntime==1.31.1\n"), None);
    }
}
