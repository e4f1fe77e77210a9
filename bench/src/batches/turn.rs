//! One run of a contender: as many batches and workers as it is told, and a look at whether the result is right.

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{
    contender::Contender,
    data::Data,
    program::{self, PRINTED, Peak, Ran},
};
use crate::server::Launch;

/// The files of Tradewind's pipelines.
const PIPELINES: [&str; 5] = ["functions.toml", "program.toml", "commands.toml", "functions.py", "command.py"];
const TOLERANCE: f64 = 1e-9;

/// What contenders are made of.
#[derive(Debug)]
pub(super) struct Kit {
    /// The `tradewind` binary.
    pub program: PathBuf,
    /// The scripts.
    pub scripts: PathBuf,
    /// The virtual environment of whoever needs no package.
    pub plain: PathBuf,
    /// Those of the others.
    pub homes: BTreeMap<Contender, PathBuf>,
    /// Where runs have their directories. They stay there until all is measured: ext4 shuns inodes that were freed a while
    /// ago, and looks for others the longer the more of them there are.
    pub place: PathBuf,
}

/// What is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task<'a> {
    pub data: &'a Data,
    pub workers: usize,
    /// Turns of a loop in each training.
    pub burn: u64,
}

/// A run that came to the right result.
#[derive(Debug)]
pub(super) struct Turn {
    /// Of the program, from its start to its end.
    pub whole: Duration,
    /// The same without its start and end, where it tells them apart.
    pub work: Option<Duration>,
    pub peak: Peak,
    /// What it has made.
    directory: PathBuf,
}

/// What a peer's script reports.
#[derive(Debug, Deserialize)]
struct Report {
    batches: usize,
    loss: f64,
    seconds: Option<f64>,
}

/// What Tradewind prints.
#[derive(Debug, Deserialize)]
struct Said {
    batches: usize,
    failed: usize,
    steps: BTreeMap<String, Counts>,
    metrics: BTreeMap<String, f64>,
}

#[derive(Debug, Deserialize)]
struct Counts {
    done: u64,
    reused: u64,
}

impl Kit {
    /// In a new directory; `all` asks for the memory of all processes.
    pub(super) async fn take(&self, contender: Contender, task: Task<'_>, all: bool) -> Result<Turn> {
        let directory = tempfile::tempdir_in(&self.place)?.keep();
        symlink(&task.data.directory, directory.join("data"))?;
        if contender.pipeline().is_some() {
            for file in PIPELINES {
                fs::copy(self.scripts.join("tradewind").join(file), directory.join(file)).context(file)?;
            }
            fs::copy(self.scripts.join("steps.py"), directory.join("steps.py")).context("steps.py")?;
        }
        let launch = self.launch(contender, task, &directory)?;
        let Ran { took, peak } = program::run(&launch, &directory, all).await?;
        let work = if contender.pipeline().is_some() {
            task.data.check(&directory, false)?;
            None
        } else {
            task.data.check_report(&directory.join("report.json"))?
        };
        Ok(Turn { whole: took, work, peak, directory })
    }

    /// The same run of Tradewind, where all is done already.
    pub(super) async fn again(&self, contender: Contender, task: Task<'_>, turn: &Turn) -> Result<Duration> {
        let launch = self.launch(contender, task, &turn.directory)?;
        let Ran { took, .. } = program::run(&launch, &turn.directory, false).await?;
        task.data.check(&turn.directory, true)?;
        Ok(took)
    }

    fn launch(&self, contender: Contender, task: Task<'_>, directory: &Path) -> Result<Launch> {
        let (workers, burn) = (task.workers.to_string(), task.burn.to_string());
        // Nothing is left in, or taken from, the home of whoever measures.
        let home = directory.join("home");
        fs::create_dir_all(&home)?;
        let home = home.display().to_string();
        let mut environment =
            vec![("HOME", home.clone()), ("XDG_CACHE_HOME", home.clone()), ("PYTHONDONTWRITEBYTECODE", "1".to_owned())];
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        if let Some(file) = contender.pipeline() {
            let path = env::var_os("PATH").unwrap_or_default();
            let paths = [self.plain.join("bin")].into_iter().chain(env::split_paths(&path));
            environment.push(("PATH", env::join_paths(paths)?.into_string().ok().context("PATH is not UTF-8")?));
            let set = format!("burn={burn}");
            let arguments =
                ["pipeline", "run", file, "--no-publish", "-o", "json", "--workers", &workers, "--set", &set];
            return Ok(Launch { program: self.program.clone(), arguments: words(&arguments), environment });
        }
        let script = self.scripts.join(contender.key()).join("run.py").display().to_string();
        let given = ["--data", "data", "--out", "out", "--report", "report.json", "--burn", &burn];
        let arguments = if contender == Contender::Metaflow {
            // Otherwise a foreach has a hundred branches at most.
            let run = ["--quiet", "--no-pylint", "run", "--max-workers", &workers, "--max-num-splits", "100000"];
            [words(&[&script]), words(&run), words(&given)].concat()
        } else {
            [words(&[&script]), words(&given), words(&["--workers", &workers])].concat()
        };
        environment.push(("PYTHONPATH", self.scripts.display().to_string()));
        environment.extend(
            [("RAY_USAGE_STATS_ENABLED", "0"), ("USERNAME", "bench")].map(|(name, value)| (name, value.to_owned())),
        );
        Ok(Launch { program: self.python(contender)?, arguments, environment })
    }

    /// The interpreter that has what a contender needs.
    pub(super) fn python(&self, contender: Contender) -> Result<PathBuf> {
        let home = match contender.package() {
            Some(_) => self.homes.get(&contender).context("it has no environment")?,
            None => &self.plain,
        };
        // Not where that leads: an interpreter knows by its path which environment is its own.
        Ok(home.join("bin/python"))
    }
}

impl Data {
    /// What a run of Tradewind printed.
    fn check(&self, directory: &Path, again: bool) -> Result<()> {
        let text = fs::read(directory.join(PRINTED)).context("reading what it printed")?;
        let said: Said = serde_json::from_slice(&text).context("reading what it printed")?;
        let loss = *said.metrics.get("loss").context("it does not tell the loss")?;
        ensure!(said.failed == 0, "{} batches failed", said.failed);
        let reused = |counts: &Counts| counts.reused == if again { counts.done } else { 0 };
        ensure!(said.steps.values().all(reused), "it did not do what was not done, and that alone");
        self.check_result(said.batches, loss)
    }

    fn check_report(&self, path: &Path) -> Result<Option<Duration>> {
        let text = fs::read(path).context("reading its report")?;
        let report: Report = serde_json::from_slice(&text).context("reading its report")?;
        self.check_result(report.batches, report.loss)?;
        Ok(report.seconds.map(Duration::from_secs_f64))
    }

    fn check_result(&self, batches: usize, loss: f64) -> Result<()> {
        ensure!(batches == self.batches, "it did {batches} batches of {}", self.batches);
        let off = (loss - self.loss).abs() / self.loss;
        ensure!(off < TOLERANCE, "its loss is {loss}, and the right one {}", self.loss);
        Ok(())
    }
}
