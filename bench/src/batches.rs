//! What it costs to run steps over many batches: Tradewind's pipelines, what others have for it, and a plain loop, all with
//! the same steps in Python. Then what more workers do, and whether the runner's memory grows with the batches.

mod contender;
mod data;
mod findings;
mod plot;
mod program;
mod report;
mod targets;
mod turn;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use self::{
    contender::Contender,
    data::Data,
    findings::{Crew, Findings, Sample},
    turn::{Kit, Task},
};
use crate::{
    contender::turns,
    findings as documents, machine,
    progress::{say, until_interrupted},
    repository,
};

const SCRIPTS: &str = "bench/batches";
/// Beside the document.
const PLOT: &str = "![What a batch costs, and what more workers do](benchmarks/batches.svg)";
/// Turns of a loop that keep a core busy for about 50 ms.
const BURN: u64 = 500_000;
/// How often Python is started by itself.
const STARTS: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The `tradewind` program, built as it ships
    #[arg(long, value_name = "FILE", default_value = "target/dist/tradewind")]
    program: PathBuf,
    /// Times that each contender has its turn; the median is told, with the least and the greatest
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these contenders, and the plain loop
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Contender::ALL)]
    only: Vec<Contender>,
    /// Whether it all works, in two minutes: one round with fewer batches
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// The virtual environment of whoever needs no package
    #[arg(long, hide = true, value_name = "DIR", default_value = "target/venv/batches-plain")]
    plain: PathBuf,
    /// The virtual environment of a contender
    #[arg(long, hide = true, value_name = "NAME=DIR", value_parser = pair)]
    peer: Vec<(Contender, String)>,
    /// Why a contender could not be installed
    #[arg(long, hide = true, value_name = "NAME=REASON", value_parser = pair)]
    absent: Vec<(Contender, String)>,
    /// Where to put the tables (between their markers) and, beside it, the plot
    #[arg(long, value_name = "FILE")]
    docs: Option<PathBuf>,
}

fn pair(text: &str) -> Result<(Contender, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let contender = Contender::ALL.into_iter().find(|contender| contender.key() == name);
    Ok((contender.ok_or("there is no such contender")?, value.to_owned()))
}

/// How much is measured.
#[derive(Debug, Clone)]
struct Effort {
    contenders: Vec<Contender>,
    /// Numbers of batches that are next to no work.
    sizes: Vec<usize>,
    /// Numbers of workers: one, and more up to the cores there are.
    widths: Vec<usize>,
    rounds: usize,
    /// Batches that are work.
    busy: usize,
    /// Numbers of batches over which the runner's memory is looked at.
    memory: Vec<usize>,
}

impl Effort {
    /// One worker, and one for each core.
    fn ends(&self) -> Vec<usize> {
        let mut ends: Vec<usize> = self.widths.first().into_iter().chain(self.widths.last()).copied().collect();
        ends.dedup();
        ends
    }
}

impl Options {
    fn effort(&self) -> Effort {
        let is_wanted = |contender: &Contender| *contender == Contender::Loop || self.only.contains(contender);
        let is_there = |contender: &Contender| self.absent.iter().all(|(absent, _)| absent != contender);
        let contenders = Contender::ALL.into_iter().filter(is_wanted).filter(is_there).collect();
        let widths = widths(std::thread::available_parallelism().map_or(1, usize::from));
        if self.quick {
            let (sizes, memory) = (vec![10, 60], vec![10, 500]);
            return Effort { contenders, sizes, widths, rounds: 1, busy: 20, memory };
        }
        let (sizes, memory) = (vec![10, 100, 1000], vec![10, 100, 1000, 10_000]);
        Effort { contenders, sizes, widths, rounds: self.rounds, busy: 100, memory }
    }

    fn kit(&self, place: &Path) -> Result<Kit> {
        let whole = |path: &Path| path.canonicalize().with_context(|| path.display().to_string());
        let homes = self.peer.iter().map(|(peer, home)| Ok((*peer, whole(Path::new(home))?)));
        Ok(Kit {
            program: whole(&self.program)?,
            plain: whole(&self.plain)?,
            scripts: repository::root()?.join(SCRIPTS),
            homes: homes.collect::<Result<BTreeMap<_, _>>>()?,
            place: place.to_owned(),
        })
    }
}

/// One, doubled up to the cores there are.
fn widths(cores: usize) -> Vec<usize> {
    let mut widths: Vec<usize> =
        std::iter::successors(Some(1), |width| Some(width * 2)).take_while(|width| *width < cores).collect();
    widths.push(cores);
    widths
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let effort = options.effort();
    ensure!(effort.rounds > 0, "there is nothing to tell of no runs");
    let place = tempfile::tempdir()?;
    let kit = options.kit(place.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    let began = Instant::now();
    let absent = options.absent.iter().cloned().collect();
    let found = runtime.block_on(until_interrupted(measure(&effort, &kit, absent)))?;
    let text = format!("{}\n\n{}", report::text(&found, &effort), caption(options, &effort, &kit, &found)?);
    println!("{text}");
    say(&format!("it took {:.0} s", began.elapsed().as_secs_f64()));
    match &options.docs {
        Some(docs) => {
            documents::write(docs, "batches", &format!("{text}\n\n{PLOT}"), Some(&plot::svg(&found, &effort)))
        }
        None => Ok(()),
    }
}

/// How this was measured, and on what.
fn caption(options: &Options, effort: &Effort, kit: &Kit, found: &Findings) -> Result<String> {
    let how = if options.only == Contender::ALL && !options.quick { "" } else { ", some of it" };
    Ok(format!(
        "By `cargo xtask bench batches`{how}: rounds: {}. {}; {}.",
        effort.rounds,
        machine::describe(),
        report::versions(found, effort, kit)?
    ))
}

async fn measure(effort: &Effort, kit: &Kit, absent: BTreeMap<Contender, String>) -> Result<Findings> {
    let mut found = Findings { absent, start: starts(kit)?, ..Findings::default() };
    for (contender, reason) in &found.absent {
        say(&format!("{} is left out: {reason}", contender.name()));
    }
    for round in 0..effort.rounds {
        for contender in turns(&effort.contenders, round) {
            if found.absent.contains_key(&contender) || round >= contender.rounds(effort.rounds) {
                continue;
            }
            if let Err(error) = take(effort, kit, contender, &mut found).await {
                say(&format!("{} is left out from now on: {error:#}", contender.name()));
                found.leave_out(contender, format!("{error:#}"));
            }
        }
    }
    let ours = Contender::Functions;
    if effort.contenders.contains(&ours) && !found.absent.contains_key(&ours) {
        look_at_memory(effort, kit, ours, &mut found).await?;
    }
    Ok(found)
}

/// A contender's part of a round.
async fn take(effort: &Effort, kit: &Kit, contender: Contender, found: &mut Findings) -> Result<()> {
    for workers in contender.widths(&effort.ends()) {
        for batches in contender.sizes(&effort.sizes) {
            let data = Data::make(&kit.place, batches)?;
            let task = Task { data: &data, workers, burn: 0 };
            let turn = kit.take(contender, task, false).await?;
            let again = match contender.pipeline() {
                Some(_) => Some(kit.again(contender, task, &turn).await?.as_secs_f64()),
                None => None,
            };
            let (whole, work) = (turn.whole.as_secs_f64(), turn.work.map(|work| work.as_secs_f64()));
            let sample = Sample { work: work.unwrap_or(whole), start: work.map(|work| whole - work), again };
            say(&told((contender, workers), batches, sample));
            found.samples.entry(((contender, workers), batches)).or_default().push(sample);
        }
    }
    if contender.speeds_up() {
        let data = Data::make(&kit.place, effort.busy)?;
        for &workers in &effort.widths {
            let turn = kit.take(contender, Task { data: &data, workers, burn: BURN }, false).await?;
            let seconds = turn.work.unwrap_or(turn.whole).as_secs_f64();
            say(&format!("{}, workers: {workers}, {} batches of work: {seconds:.2} s", contender.name(), data.batches));
            found.busy.entry((contender, workers)).or_default().push(seconds);
        }
    }
    Ok(())
}

fn told((contender, workers): Crew, batches: usize, Sample { work, start, again }: Sample) -> String {
    let start = start.map(|start| format!(", {start:.2} s to start and end")).unwrap_or_default();
    let again = again.map(|again| format!(", again {again:.2} s")).unwrap_or_default();
    format!("{}, workers: {workers}, {batches} batches: {work:.2} s{start}{again}", contender.name())
}

async fn look_at_memory(effort: &Effort, kit: &Kit, contender: Contender, found: &mut Findings) -> Result<()> {
    let workers = effort.widths.last().copied().unwrap_or(1);
    for &batches in &effort.memory {
        let data = Data::make(&kit.place, batches)?;
        let turn = kit.take(contender, Task { data: &data, workers, burn: 0 }, true).await?;
        say(&format!("{batches} batches: {} KiB, with workers {:?}", turn.peak.first, turn.peak.all));
        found.memory.insert(batches, turn.peak);
    }
    Ok(())
}

/// What it takes to start Python, in seconds.
fn starts(kit: &Kit) -> Result<Vec<f64>> {
    let python = kit.python(Contender::Loop)?;
    let start = || -> Result<f64> {
        let began = Instant::now();
        let status = Command::new(&python).args(["-c", "pass"]).status().context("starting Python")?;
        ensure!(status.success(), "Python ended with {status}");
        Ok(Duration::as_secs_f64(&began.elapsed()))
    };
    (0..STARTS).map(|_| start()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_doubled_up_to_the_cores() {
        assert_eq!(widths(1), [1]);
        assert_eq!(widths(2), [1, 2]);
        assert_eq!(widths(6), [1, 2, 4, 6]);
    }
}
