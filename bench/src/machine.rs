//! What this ran on, and which versions it compared.

use std::{fs, process::Command};

use anyhow::{Context, Result};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::server::find;

/// Each connection costs a file descriptor here and in a proxy.
const OPEN_FILES: u64 = 20_000;

/// The processor, its cores, the kernel.
pub(crate) fn describe() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = value(&cpus, "model name").unwrap_or("an unnamed processor");
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel: String = kernel.trim().chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    format!("{model}, {count} cores, Linux {kernel}")
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(key)?.trim_start().strip_prefix(':')?.trim()))
}

/// A name and a version, out of what a program says of itself.
pub(crate) fn version(program: &str, argument: &str) -> Result<String> {
    let output = Command::new(find(program)?).arg(argument).output().with_context(|| format!("starting {program}"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let number = said
        .split(|c: char| matches!(c, '/' | '-') || c.is_whitespace())
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    Ok(format!("{program} {}", number.with_context(|| format!("{program} does not tell its version"))?))
}

/// Raises this process's limit of open files, which its children inherit.
pub(crate) fn allow_open_files() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = Some(maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).context("raising the limit of open files")
}
