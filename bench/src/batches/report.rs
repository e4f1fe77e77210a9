//! What was found, as tables.

use std::{collections::BTreeSet, process::Command};

use anyhow::{Context, Result, ensure};

use super::{
    Effort,
    contender::Contender,
    findings::{Crew, Findings, Sample},
    targets,
    turn::Kit,
};
use crate::spread::Spread;

pub(super) const MILLI: f64 = 1e-3;
const MEBI: f64 = 1024.0;
/// Of each batch.
const STEPS: f64 = 3.0;
/// Prints the version of Python, and those of packages.
const VERSIONS: &str = "import importlib.metadata, platform, sys
print('Python', platform.python_version())
for each in sys.argv[1:]: print(each, importlib.metadata.version(each))";

pub(super) fn text(found: &Findings, effort: &Effort) -> String {
    let mut parts = vec![costs(found, effort)];
    parts.extend(speeds(found, effort));
    parts.extend(memory(found));
    let targets = targets::lines(found, effort);
    if !targets.is_empty() {
        parts.push(format!("Targets:\n\n{}", targets.join("\n")));
    }
    let start = Spread::of(found.start.clone()).show(MILLI, 0);
    parts.push(format!("A start of Python by itself (`python3 -c pass`) takes {start} ms here."));
    let line =
        |(contender, why): (&Contender, &String)| format!("- {} is left out: {}", contender.name(), one_line(why));
    let absent: Vec<String> = found.absent.iter().map(line).collect();
    if !absent.is_empty() {
        parts.push(absent.join("\n"));
    }
    parts.join("\n\n")
}

/// An error as part of a list.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

/// What batches cost that are next to no work.
fn costs(found: &Findings, effort: &Effort) -> String {
    let all = effort.contenders.iter().flat_map(|contender| contender.sizes(&effort.sizes));
    let sizes: Vec<usize> = all.collect::<BTreeSet<_>>().into_iter().collect();
    let mut head = vec!["next to no work".to_owned(), "workers".to_owned(), "start and end, s".to_owned()];
    head.extend(sizes.iter().map(|size| format!("{size} batches, s")));
    head.extend(["overhead of a batch, ms", "of a step, ms", "of Ray's", "again, a batch, ms"].map(str::to_owned));
    let mut lines = vec![format!("| {} |", head.join(" | ")), format!("|---|{}", "--:|".repeat(head.len() - 1))];
    for &contender in &effort.contenders {
        lines.extend(contender.widths(&effort.ends()).into_iter().filter_map(|workers| {
            let crew = (contender, workers);
            cost(found, crew, &sizes)
        }));
    }
    lines.join("\n")
}

/// A contender's line, if it has shown anything.
fn cost(found: &Findings, crew: Crew, sizes: &[usize]) -> Option<String> {
    let (contender, workers) = crew;
    let of_crew = found.samples.iter().filter(|((of, _), _)| *of == crew).flat_map(|(_, samples)| samples);
    let starts: Vec<f64> = of_crew.clone().filter_map(|sample| sample.start).collect();
    of_crew.clone().next()?;
    let mut line = vec![contender.name().to_owned(), workers.to_string()];
    line.push(if starts.is_empty() { String::new() } else { Spread::of(starts).show(1.0, 1) });
    let shown =
        |spread: Option<Spread>, unit, digits| spread.map(|spread| spread.show(unit, digits)).unwrap_or_default();
    let work = |sample: &Sample| Some(sample.work);
    line.extend(sizes.iter().map(|size| shown(found.spread(crew, *size, work), 1.0, 2)));
    let overhead = found.overhead(crew).filter(|_| contender != Contender::Loop);
    line.push(shown(overhead, MILLI, 2));
    line.push(shown(overhead, STEPS * MILLI, 2));
    line.push(of_rays(found, crew).map(|share| format!("{share:.2}")).unwrap_or_default());
    line.push(shown(found.again(crew), MILLI, 2));
    Some(format!("| {} |", line.join(" | ")))
}

/// The part of Ray's overhead that a contender of Tradewind has with as many workers.
pub(super) fn of_rays(found: &Findings, (contender, workers): Crew) -> Option<f64> {
    let ours = contender.pipeline().and_then(|_| found.overhead((contender, workers)))?;
    Some(ours.median / found.overhead((Contender::Ray, workers))?.median)
}

/// What more workers do where each batch keeps a core busy.
fn speeds(found: &Findings, effort: &Effort) -> Option<String> {
    let mut head = vec![format!("{} batches of work", effort.busy)];
    head.extend(effort.widths.iter().map(|workers| format!("{}, s", workers_of(*workers))));
    let wide: Vec<usize> = effort.widths.iter().copied().filter(|workers| *workers > 1).collect();
    head.extend(wide.iter().map(|workers| format!("speed-up with {workers}")));
    head.extend(wide.iter().map(|workers| format!("of the ideal, {workers}")));
    let mut lines = vec![format!("| {} |", head.join(" | ")), format!("|---|{}", "--:|".repeat(head.len() - 1))];
    for &contender in &effort.contenders {
        if !found.busy.contains_key(&(contender, 1)) {
            continue;
        }
        let mut line = vec![contender.name().to_owned()];
        let seconds = |workers: &usize| found.busy.get(&(contender, *workers)).map(|all| Spread::of(all.clone()));
        line.extend(
            effort.widths.iter().map(|workers| seconds(workers).map(|all| all.show(1.0, 2)).unwrap_or_default()),
        );
        let speed_up = |workers: &usize| found.speed_up((contender, *workers));
        line.extend(wide.iter().map(|workers| speed_up(workers).map(|all| all.show(1.0, 2)).unwrap_or_default()));
        let ideal = |workers: &usize| speed_up(workers).map(|all| all.show(*workers as f64, 2)).unwrap_or_default();
        line.extend(wide.iter().map(ideal));
        lines.push(format!("| {} |", line.join(" | ")));
    }
    (lines.len() > 2).then(|| lines.join("\n"))
}

fn workers_of(count: usize) -> String {
    if count == 1 { "1 worker".to_owned() } else { format!("{count} workers") }
}

fn memory(found: &Findings) -> Option<String> {
    let growth = found.growth()?;
    let mut lines = vec!["| batches | runner, MiB | runner and workers, MiB |".to_owned(), "|--:|--:|--:|".to_owned()];
    lines.extend(found.memory.iter().map(|(batches, peak)| {
        let all = peak.all.map(|all| format!("{:.1}", all as f64 / MEBI)).unwrap_or_default();
        format!("| {batches} | {:.1} | {all} |", peak.first as f64 / MEBI)
    }));
    Some(format!("{}\n\nWith each batch the runner grows by {growth:.2} KiB.", lines.join("\n")))
}

/// Which versions were compared.
pub(super) fn versions(found: &Findings, effort: &Effort, kit: &Kit) -> Result<String> {
    let mut versions = Vec::new();
    for &contender in effort.contenders.iter().filter(|contender| !found.absent.contains_key(contender)) {
        if contender != Contender::Loop && contender.package().is_none() {
            continue;
        }
        let mut python = Command::new(kit.python(contender)?);
        let output = python.args(["-c", VERSIONS]).args(contender.package()).output().context("asking for versions")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout);
        let lines = said.lines().map(str::to_owned);
        versions.extend(lines.filter(|line| contender == Contender::Loop || !line.starts_with("Python ")));
    }
    Ok(versions.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(work: f64, start: Option<f64>, again: Option<f64>) -> Vec<Sample> {
        vec![Sample { work, start, again }]
    }

    #[test]
    fn a_line_tells_what_a_batch_costs_beside_the_loop() {
        let mut found = Findings::default();
        let (bare, ours, rays) = ((Contender::Loop, 1), (Contender::Program, 1), (Contender::Ray, 1));
        for (crew, few, many, start) in [(bare, 0.25, 0.75, None), (ours, 0.5, 2.5, None), (rays, 1.0, 5.0, Some(3.25))]
        {
            let again = (crew == ours).then_some(0.5);
            found.samples.insert((crew, 10), sample(few, start, again));
            found.samples.insert((crew, 510), sample(many, start, again.map(|again| again + 0.25)));
        }
        let line = |crew| cost(&found, crew, &[10, 30, 510]).unwrap();
        assert_eq!(line(bare), "| plain loop | 1 |  | 0.25 |  | 0.75 |  |  |  |  |");
        let shown = "| Tradewind, a program as a worker | 1 |  | 0.50 |  | 2.50 | 3.00 | 1.00 | 0.43 | 0.50 |";
        assert_eq!(line(ours), shown);
        assert_eq!(line(rays), "| Ray | 1 | 3.2 | 1.00 |  | 5.00 | 7.00 | 2.33 |  |  |");
        assert_eq!(cost(&found, (Contender::Dask, 1), &[10]), None);
    }

    #[test]
    fn memory_is_told_with_its_growth() {
        let mut found = Findings::default();
        assert_eq!(memory(&found), None);
        for (batches, first) in [(10, 20480), (1010, 22480)] {
            found.memory.insert(batches, super::super::program::Peak { first, all: Some(40960) });
        }
        let text = memory(&found).unwrap();
        assert!(text.contains("| 10 | 20.0 | 40.0 |\n") && text.ends_with("by 2.00 KiB."), "{text}");
    }
}
