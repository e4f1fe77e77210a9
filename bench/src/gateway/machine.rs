//! What this ran on, and which versions it compared.

use std::{fs, process::Command};

use anyhow::{Context, Result};

use super::{cores::Cores, server::find};

/// One sentence on the machine and the programs.
pub(super) fn describe(cores: &Cores) -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = value(&cpus, "model name").unwrap_or("an unnamed processor");
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel: String = kernel.trim().chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let core = cores.proxy();
    Ok(format!(
        "{model}, {count} cores, Linux {kernel}; {} and {}, all of them on core {core} alone and the rest on the others",
        version("nginx", "-v")?,
        version("haproxy", "-v")?
    ))
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(key)?.trim_start().strip_prefix(':')?.trim()))
}

/// A name and a version, out of what a program says of itself.
fn version(program: &str, argument: &str) -> Result<String> {
    let output = Command::new(find(program)?).arg(argument).output().with_context(|| format!("starting {program}"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let number = said
        .split(|c: char| c == '/' || c.is_whitespace())
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    let number = number.with_context(|| format!("{program} does not tell its version"))?;
    Ok(format!("{program} {}", number.split('-').next().unwrap_or(number)))
}
