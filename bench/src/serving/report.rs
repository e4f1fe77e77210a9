//! What was found, as tables: ratios to Tradewind in the same run, and the figures that they come from.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{
    BATCHES, Effort, USUAL_CLIENTS,
    contender::{Contender, Model, Route},
    findings::{Findings, Setting},
    load::Sample,
    running::Kit,
    targets,
};
use crate::spread::Spread;

const MEBI: f64 = 1024.0 * 1024.0;
/// Prints versions of a virtual environment's packages.
const VERSIONS: &str =
    "import importlib.metadata, sys\nfor each in sys.argv[1:]: print(importlib.metadata.version(each))";

pub(super) fn text(found: &Findings, effort: &Effort, kit: &Kit) -> Result<String> {
    let mut parts: Vec<String> = effort.models.iter().map(|model| speeds(found, effort, *model)).collect();
    parts.push(servers(found, effort, kit)?);
    let mut targets = targets::lines(found);
    if !targets.is_empty() {
        targets.insert(0, format!("Targets, with {USUAL_CLIENTS} clients:\n"));
        parts.push(targets.join("\n"));
    }
    let left_out =
        found.absent.iter().map(|(contender, why)| format!("- {} is left out: {}", contender.name(), one_line(why)));
    let silent = found.silent.iter().map(|(setting, why)| {
        let Setting { model, contender, route, clients } = setting;
        let (model, contender, route) = (model.name(), contender.name(), route.name());
        format!("- no figure of {contender}, {route}, {clients} clients, {model} model: {}", one_line(why))
    });
    let missing: Vec<String> = left_out.chain(silent).collect();
    if !missing.is_empty() {
        parts.push(missing.join("\n"));
    }
    Ok(parts.join("\n\n"))
}

/// An error as part of a list.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

/// How fast each server is with one model.
fn speeds(found: &Findings, effort: &Effort, model: Model) -> String {
    let columns = |what: &str| -> Vec<String> {
        effort.clients.iter().map(|clients| format!("{what}{}", of_clients(*clients))).collect()
    };
    let mut head = vec![format!("{} model", model.name()), "asked by".to_owned()];
    head.extend(columns("requests/s, "));
    head.extend(columns("Tradewind is × as fast, "));
    head.extend(columns("p50 / p99 ms, "));
    head.extend(columns("core µs each, "));
    head.push("bad answers".to_owned());
    let mut lines = vec![format!("| {} |", head.join(" | ")), format!("|---|---|{}", "--:|".repeat(head.len() - 2))];
    for &contender in &effort.contenders {
        for &route in contender.routes() {
            lines.extend(speed(found, effort, (model, contender, route)));
        }
    }
    let empty = " |".repeat(head.len() - 4);
    for batch in BATCHES {
        let Some(all) = found.bare.get(&(model, batch)) else { continue };
        let rate = Spread::of(all.iter().map(|figures| figures.images_per_second).collect());
        let name = Contender::Loop.name();
        lines.push(format!("| {name} | batches of {batch} | {} |{empty} |", rate.show(1.0, digits(rate.median))));
    }
    lines.join("\n")
}

fn of_clients(clients: u64) -> String {
    if clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") }
}

fn digits(rate: f64) -> usize {
    if rate < 100.0 { 1 } else { 0 }
}

/// A server's line, if it has shown anything.
fn speed(found: &Findings, effort: &Effort, (model, contender, route): (Model, Contender, Route)) -> Option<String> {
    let settings: Vec<Setting> =
        effort.clients.iter().map(|&clients| Setting { model, contender, route, clients }).collect();
    let cells = |show: &dyn Fn(Setting) -> Option<String>| -> Vec<String> {
        settings.iter().map(|setting| show(*setting).unwrap_or_default()).collect()
    };
    let asked = if route == Route::Json && !contender.speaks_v2() { "JSON of its own" } else { route.name() };
    let mut line = vec![contender.name().to_owned(), asked.to_owned()];
    line.extend(cells(&|setting| {
        let rate = found.spread(setting, |sample| sample.per_second)?;
        Some(rate.show(1.0, digits(rate.median)))
    }));
    line.extend(cells(&|setting| {
        let ratio = found.times_as_fast(setting).filter(|_| contender != Contender::Tradewind)?;
        Some(ratio.show(1.0, if ratio.median < 10.0 { 2 } else { 1 }))
    }));
    line.extend(cells(&|setting| {
        let millis = |value: fn(&Sample) -> f64| found.spread(setting, value).map(|spread| figures(spread.median));
        let p50 = millis(|sample| sample.p50.as_secs_f64() * 1e3)?;
        Some(format!("{p50} / {}", millis(|sample| sample.p99.as_secs_f64() * 1e3)?))
    }));
    line.extend(cells(&|setting| {
        let micros = found.spread(setting, |sample| sample.core_micros)?;
        Some(micros.show(1.0, digits(micros.median)))
    }));
    let all = settings.iter().filter_map(|setting| found.samples.get(setting)).flatten();
    let (bad, good) = all.fold((0, 0), |(bad, good), sample| (bad + sample.bad, good + sample.good));
    line.push(if bad == 0 { "0".to_owned() } else { format!("{bad} of {}", bad + good) });
    (good > 0).then(|| format!("| {} |", line.join(" | ")))
}

/// Three digits that count.
fn figures(value: f64) -> String {
    let digits = if value < 1.0 {
        3
    } else if value < 10.0 {
        2
    } else if value < 100.0 {
        1
    } else {
        0
    };
    format!("{value:.digits$}")
}

/// What each server is, and what it takes of the machine.
fn servers(found: &Findings, effort: &Effort, kit: &Kit) -> Result<String> {
    let mut head = vec!["server".to_owned(), "version".to_owned(), "ONNX Runtime".to_owned()];
    head.push("on the disk, MiB".to_owned());
    head.extend(effort.models.iter().map(|model| format!("memory with the {} model, MiB", model.name())));
    let mut lines =
        vec![format!("| {} |", head.join(" | ")), format!("|---|---|---|{}", "--:|".repeat(head.len() - 3))];
    for &contender in effort.contenders.iter().filter(|contender| !found.absent.contains_key(contender)) {
        let (version, runtime) = versions(contender, kit).with_context(|| contender.name())?;
        let bytes: u64 = kit.installed(contender)?.iter().map(|path| bytes_of(path)).sum::<Result<u64>>()?;
        let mut line = vec![contender.name().to_owned(), version, runtime, format!("{:.0}", bytes as f64 / MEBI)];
        line.extend(effort.models.iter().map(|model| {
            let memory = found.memory.get(&(contender, *model)).filter(|all| !all.is_empty());
            memory.map(|all| Spread::of(all.clone()).show(1024.0, 0)).unwrap_or_default()
        }));
        lines.push(format!("| {} |", line.join(" | ")));
    }
    Ok(lines.join("\n"))
}

/// Of the server, and of the ONNX Runtime in it.
fn versions(contender: Contender, kit: &Kit) -> Result<(String, String)> {
    let (Some(package), Some(home)) = (contender.package(), kit.homes.get(&contender)) else {
        let library = kit.installed(Contender::Loop)?.into_iter().next().context("it has a library")?;
        let stamp = library.with_file_name("VERSION");
        let runtime = fs::read_to_string(&stamp).with_context(|| format!("reading {}", stamp.display()))?;
        let runtime = runtime.split_whitespace().next().unwrap_or_default().to_owned();
        let own = if contender == Contender::Tradewind { env!("CARGO_PKG_VERSION") } else { "" };
        return Ok((own.to_owned(), runtime));
    };
    let mut python = Command::new(home.join("bin/python"));
    // Triton's package is not in its environment.
    python.envs(kit.triton.as_ref().filter(|_| contender == Contender::Triton).map(|path| ("PYTHONPATH", path)));
    let output = python.args(["-c", VERSIONS, package, "onnxruntime"]).output().context("asking for versions")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    let (own, runtime) = said.trim().split_once('\n').context("two versions were asked for")?;
    let own = if contender == Contender::Triton { format!("{package} {own}") } else { own.to_owned() };
    Ok((own, runtime.to_owned()))
}

/// Of a file, or of all files below a directory; links count nothing.
fn bytes_of(path: &Path) -> Result<u64> {
    let mut bytes = 0;
    let mut left: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path).with_context(|| path.display().to_string())?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
                left.push(entry?.path());
            }
        } else if metadata.is_file() {
            bytes += metadata.len();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_has_rates_ratios_times_and_costs_by_the_number_of_clients() {
        let ms = Duration::from_millis;
        let setting = Setting { model: Model::Small, contender: Contender::Tradewind, route: Route::Json, clients: 1 };
        let ours = Sample { per_second: 3000.0, p50: ms(1), p99: ms(12), core_micros: 30.0, good: 10, bad: 0 };
        let theirs = Setting { contender: Contender::Ray, ..setting };
        let mut found = Findings::default();
        found.samples.insert(setting, vec![ours]);
        found.samples.insert(theirs, vec![Sample { per_second: 60.0, bad: 2, ..ours }]);
        let effort = Effort {
            models: vec![Model::Small],
            contenders: vec![Contender::Tradewind, Contender::Ray, Contender::Loop],
            clients: vec![1, 32],
            rounds: 1,
            time: ms(1),
        };
        let table = speeds(&found, &effort, Model::Small);
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| Tradewind | JSON | 3000 |  |  |  | 1.00 / 12.0 |  | 30.0 |  | 0 |",
                "| Ray Serve | JSON of its own | 60.0 |  | 50.0 |  | 1.00 / 12.0 |  | 30.0 |  | 2 of 12 |",
            ]
        );
    }

    #[test]
    fn a_directory_has_the_bytes_of_its_files() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("a")).unwrap();
        fs::write(directory.path().join("a/b"), [0; 30]).unwrap();
        std::os::unix::fs::symlink(directory.path().join("a/b"), directory.path().join("c")).unwrap();
        assert_eq!(bytes_of(directory.path()).unwrap(), 30);
    }
}
