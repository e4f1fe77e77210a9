//! A model served by Tradewind's replica and by others: the same model, runtime and threads, each server in its turn alone
//! on one core, and whoever asks it on another.

mod bare;
mod contender;
mod findings;
mod load;
mod plot;
mod question;
mod report;
mod running;
mod targets;
mod turn;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};

pub(crate) use self::bare::{Options as LoopOptions, run as run_loop};
use self::{
    contender::{Contender, Model},
    findings::Findings,
    running::Kit,
};
use crate::{
    contender::turns,
    cores::Cores,
    findings as documents, machine,
    progress::{say, until_interrupted},
};

/// Beside the document.
const PLOT: &str = "![What each server answers in a second](benchmarks/serving.svg)";
const CLIENTS: [u64; 3] = [1, 32, 256];
/// At which servers are compared by one figure.
const USUAL_CLIENTS: u64 = 32;
/// Of the bare loop.
const BATCHES: [usize; 4] = [1, 8, 32, 64];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The `tradewind` program, built as it ships
    #[arg(long, value_name = "FILE", default_value = "target/dist/tradewind")]
    program: PathBuf,
    /// Times that each contender has its turn; the median is told, with the least and the greatest
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long a server is asked in one way
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Only these contenders
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Contender::ALL)]
    only: Vec<Contender>,
    /// Only these models
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Model::ALL)]
    models: Vec<Model>,
    /// Whether it all works, in two minutes: one round with the small model and 32 clients, a second each
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "models"])]
    quick: bool,
    /// Where the models' files are
    #[arg(long, hide = true, value_name = "DIR", default_value = "target/serving/models")]
    model_files: PathBuf,
    /// Where Triton's wheel is unpacked
    #[arg(long, hide = true, value_name = "DIR")]
    triton: Option<PathBuf>,
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
    models: Vec<Model>,
    contenders: Vec<Contender>,
    clients: Vec<u64>,
    rounds: usize,
    time: Duration,
}

impl Options {
    fn effort(&self) -> Effort {
        let contenders = self.only.iter().copied();
        let contenders = contenders.filter(|only| self.absent.iter().all(|(absent, _)| absent != only)).collect();
        if self.quick {
            let (clients, time) = (vec![USUAL_CLIENTS], Duration::from_secs(1));
            return Effort { models: vec![Model::Small], contenders, clients, rounds: 1, time };
        }
        let time = Duration::from_secs(self.seconds);
        Effort { models: self.models.clone(), contenders, clients: CLIENTS.to_vec(), rounds: self.rounds, time }
    }

    fn kit(&self) -> Result<Kit> {
        let whole = |path: &PathBuf| path.canonicalize().with_context(|| path.display().to_string());
        let homes = self.peer.iter().map(|(peer, home)| Ok((*peer, whole(&PathBuf::from(home))?)));
        Ok(Kit {
            program: whole(&self.program)?,
            models: whole(&self.model_files)?,
            homes: homes.collect::<Result<BTreeMap<_, _>>>()?,
            triton: self.triton.as_ref().map(whole).transpose()?,
        })
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let effort = options.effort();
    ensure!(effort.rounds > 0 && !effort.time.is_zero(), "there is nothing to tell of no runs");
    machine::allow_open_files()?;
    // Before there is any other thread: they all stay off the servers' core.
    let cores = Cores::divide()?;
    let kit = options.kit()?;
    // Of this thread alone, since what it starts inherits its cores.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    let absent = options.absent.iter().cloned().collect();
    let found = runtime.block_on(until_interrupted(measure(&effort, &kit, &cores, absent)))?;
    let caption = caption(options, &effort, &cores);
    let text = [report::text(&found, &effort, &kit)?, caption].join("\n\n");
    println!("{text}");
    match &options.docs {
        Some(docs) => documents::write(docs, "serving", &format!("{text}\n\n{PLOT}"), Some(&plot::svg(&found))),
        None => Ok(()),
    }
}

async fn measure(effort: &Effort, kit: &Kit, cores: &Cores, absent: BTreeMap<Contender, String>) -> Result<Findings> {
    let mut found = Findings { absent, ..Findings::default() };
    for (contender, reason) in &found.absent {
        say(&format!("{} is left out: {reason}", contender.name()));
    }
    for round in 0..effort.rounds {
        for &model in &effort.models {
            for contender in turns(&effort.contenders, round) {
                if found.absent.contains_key(&contender) {
                    continue;
                }
                if let Err(error) = turn::take(effort, kit, cores, contender, model, &mut found).await {
                    say(&format!("{} is left out from now on: {error:#}", contender.name()));
                    found.leave_out(contender, format!("{error:#}"));
                }
            }
        }
    }
    Ok(found)
}

/// How this was measured, and on what.
fn caption(options: &Options, effort: &Effort, cores: &Cores) -> String {
    let complete = options.only == Contender::ALL && options.models == Model::ALL && !options.quick;
    let how = if complete { "" } else { ", some of it" };
    format!(
        "By `cargo xtask bench serving`{how}: rounds of {} s, {} of them. {}; servers on core {} alone, one at a time, \
         and the rest on the others.",
        effort.time.as_secs(),
        effort.rounds,
        machine::describe(),
        cores.measured()
    )
}
