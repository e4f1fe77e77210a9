//! One run, from the data to users.

mod outcome;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::PathBuf,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tradewind_core::{
    ModelName, RegionName, VersionNumber,
    pipeline::{
        file::Pipeline,
        gate::Verdict,
        holdout::held_out,
        journal::{Counts, Event},
        schedule::Room,
    },
};
use tradewind_pipeline::{
    Home, Planned, Pythons, Run, RunError, Scene, Setup, auto,
    data::{self, Portion, Prepared, Progress, Survey},
    executor::{Executor, Local, LocalOptions, whole_machine},
    journal::{self, Journal},
    python,
};

use super::{RunArgs, failed, file, lineage, plan::Plan, progress, words};
use crate::{
    failure::Failure,
    roles::StopSignals,
    session::{Session, unknown_region},
    settings,
    terminal::{self, Format, Paint},
};

/// What a run came to.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema_version: u32,
    pub(super) pipeline: ModelName,
    pub(super) run: u64,
    /// All of them.
    pub(super) batches: usize,
    pub(super) held_out: usize,
    pub(super) failed: usize,
    /// By step; `aggregate` and `evaluate` among them.
    pub(super) steps: BTreeMap<String, Counts>,
    /// Each as one number, as gates see it.
    pub(super) metrics: BTreeMap<String, f64>,
    pub(super) gate: Vec<Verdict>,
    /// What the aggregate wrote.
    pub(super) output: PathBuf,
    pub(super) published: Option<Published>,
    /// Where the new version was deployed.
    pub(super) regions: Vec<RegionName>,
    pub(super) took_ms: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Published {
    pub(super) model: ModelName,
    pub(super) version: VersionNumber,
    /// False where the same content was a version before.
    pub(super) created: bool,
}

pub(super) async fn run(args: RunArgs, session: &Session) -> Result<(), Failure> {
    let (mut pipeline, base) = file::read(&args.file)?;
    args.set.iter().for_each(|(name, value)| pipeline.set(name, value));
    pipeline.check().map_err(|problem| Failure::usage(problem.to_string()))?;
    if !args.deploy.is_empty() && pipeline.publish.is_none() {
        return Err(Failure::usage("only what is published is deployed").hint("add [publish] with `model` to the file"));
    }
    let stop = CancellationToken::new();
    let mut signals = StopSignals::catch();
    let format = args.output.format;
    let work = Work { args, session, base, stop: stop.clone(), began: Instant::now(), format };
    let mut working = std::pin::pin!(work.run(pipeline));
    tokio::select! {
        ended = &mut working => ended,
        () = signals.any() => {
            stop.cancel();
            // Who asks twice does not wait for the end of what is under way.
            tokio::select! {
                ended = &mut working => ended,
                () = signals.any() => Err(stopped()),
            }
        }
    }
}

/// A run, and how people want it.
struct Work<'a> {
    args: RunArgs,
    session: &'a Session,
    /// The directory of the pipeline's file.
    base: PathBuf,
    stop: CancellationToken,
    began: Instant,
    format: Format,
}

impl Work<'_> {
    async fn run(&self, pipeline: Pipeline) -> Result<(), Failure> {
        self.check_destination(&pipeline).await?;
        let home = Home::of(&self.base, &pipeline.name).enter();
        let home = home.map_err(|error| failed(&error, error.hint()))?;
        let cache = settings::cache_home().ok_or_else(|| {
            Failure::failed("there is no place to keep Python environments").hint("set XDG_CACHE_HOME")
        })?;
        let unprepared = |error: python::PythonError| failed(&error, error.hint());
        let pythons = Pythons::of(&pipeline, &self.base, &cache, &self.args.python).await.map_err(unprepared)?;
        let package = python::write_package(&cache).map_err(unprepared)?;
        if !self.args.plan {
            let bar = terminal::spinner(self.format, "preparing Python (this takes a minute the first time)");
            let made = tokio::select! {
                made = pythons.make() => made.map_err(unprepared),
                () = self.stop.cancelled() => Err(stopped()),
            };
            bar.finish_and_clear();
            made?;
        }
        let options = LocalOptions {
            base: self.base.clone(),
            home: home.directory().to_owned(),
            room: self.room(),
            env: vec![("PYTHONPATH".to_owned(), python_path(&[&package, &self.base]))],
        };
        let executor = Local::new(options).await.map_err(|error| failed(&error, None))?;
        home.clear_work().map_err(|error| failed(&error, error.hint()))?;
        let setup = Setup::new(pipeline, &self.base, &pythons).map_err(|error| failed(&error, None))?;
        let journal =
            if self.args.plan { Ok(Journal::unwritten()) } else { Journal::begin(&home, &setup.pipeline.name) };
        let journal = journal.map_err(|error| failed(&error, error.hint()))?;
        let usual = journal::usual_times(&home, setup.stages.iter().map(|stage| stage.name.as_str()));
        let site =
            Site { work: self, home: &home, setup: &setup, pythons: &pythons, executor: &executor, journal: &journal };
        let ended = site.go(&usual).await;
        executor.close().await;
        journal.say(Event::Ended { error: ended.as_ref().err().map(ToString::to_string) });
        ended
    }

    /// That there is somebody to publish to, and that the regions are there: said before hours of work, not after.
    async fn check_destination(&self, pipeline: &Pipeline) -> Result<(), Failure> {
        if self.args.plan || self.args.no_publish || pipeline.publish.is_none() {
            return Ok(());
        }
        let known = self.session.client.regions().await?.regions;
        let regions = self.regions(pipeline);
        let Some(unknown) = regions.iter().find(|region| !known.iter().any(|known| known.name == **region)) else {
            return Ok(());
        };
        Err(unknown_region(unknown, known.iter().map(|region| &region.name)))
    }

    /// Where a new version is deployed; nowhere where nobody says.
    fn regions(&self, pipeline: &Pipeline) -> Vec<RegionName> {
        let of_file = pipeline.deploy.as_ref().map(|deploy| deploy.regions.clone());
        if self.args.deploy.is_empty() { of_file.unwrap_or_default() } else { self.args.deploy.clone() }
    }

    fn room(&self) -> Room {
        let Room { workers, memory } = whole_machine();
        Room {
            workers: self.args.workers.map_or(workers, usize::from),
            memory: self.args.memory.map_or(memory, |memory| memory.bytes()),
        }
    }
}

fn stopped() -> Failure {
    failed(&RunError::Stopped, RunError::Stopped.hint())
}

/// What PYTHONPATH is: these before what it was.
fn python_path(first: &[&PathBuf]) -> OsString {
    let inherited = std::env::var_os("PYTHONPATH").unwrap_or_default();
    let inherited = std::env::split_paths(&inherited).filter(|path| !path.as_os_str().is_empty());
    let paths = first.iter().map(|path| (*path).clone()).chain(inherited);
    // A path with a colon in it cannot be named there.
    std::env::join_paths(paths).unwrap_or_default()
}

/// Where a run happens.
struct Site<'a> {
    work: &'a Work<'a>,
    home: &'a Home,
    setup: &'a Setup,
    pythons: &'a Pythons,
    executor: &'a Local,
    journal: &'a Journal,
}

impl Site<'_> {
    async fn go(&self, usual: &BTreeMap<String, Duration>) -> Result<(), Failure> {
        let format = self.work.format;
        let (prepared, cut) = self.data().await?;
        let (sources, cut_into) = (prepared.sources, prepared.keys().collect());
        if let Some(why) = self.executor.only_looks_at_memory().filter(|_| self.setup.limits_memory()) {
            tracing::warn!(why, "the memory of steps is looked at four times a second, as it cannot be limited here");
        }
        if format == Format::Table {
            prepared.warnings.iter().for_each(|warning| terminal::complain(&format!("  {warning}\n")));
        }
        let unfinished = |error: RunError| words::run_error(&error, self.journal);
        let mut run = Run::new(self.scene(prepared)).map_err(unfinished)?;
        let known = run.plan();
        let room = self.executor.room();
        let plan = self.journal.with_story(|story| Plan::new(story, &known, sources, cut, room, usual));
        if self.work.args.plan {
            return plan.print(format);
        }
        if format == Format::Table {
            terminal::print(&plan.describe(Paint::for_stdout()))?;
        }
        progress::during(self.journal, format, run.batches()).await.map_err(unfinished)?;
        let result = progress::during(self.journal, format, run.aggregate()).await.map_err(unfinished)?;
        let judged = self.judge(&mut run, &result).await?;
        let report = self.publish(&run, result, judged, &sources).await?;
        let collected = run.collect(self.work.args.keep.bytes()).map_err(unfinished)?;
        tracing::debug!(?collected, "what nobody needs is removed");
        self.home.keep_batches(&cut_into).map_err(|error| failed(&error, error.hint()))?;
        match format {
            Format::Json => terminal::print_json(&report),
            Format::Table => terminal::print(&words::conclude(&report)),
        }
    }

    /// The data as batches, and in words how it was cut.
    async fn data(&self) -> Result<(Prepared, String), Failure> {
        let bar = terminal::spinner(self.work.format, "reading the data");
        let prepared = tokio::select! {
            prepared = self.prepare(&bar) => prepared,
            () = self.work.stop.cancelled() => Err(stopped()),
        };
        bar.finish_and_clear();
        prepared
    }

    async fn prepare(&self, bar: &ProgressBar) -> Result<(Prepared, String), Failure> {
        let said = |progress: Progress| bar.set_message(words::reading(&progress));
        let unread = |error: data::Error| failed(&error, None);
        let (data, base) = (&self.setup.pipeline.data, &self.work.base);
        let survey = Survey::of(data, base, self.home.directory(), &said).await.map_err(unread)?;
        let (portion, cut) = match Portion::of(&data.batch) {
            Some(portion) => (portion, lineage::words(&data.batch)),
            None => match auto::known(&survey, self.setup, self.home) {
                Some(known) => known,
                None if self.work.args.plan => {
                    let message = "how large batches are is measured by the first run";
                    return Err(
                        Failure::failed(message).hint("say it with batch = { rows = 100000 } in [data] instead")
                    );
                }
                None => {
                    bar.set_message("measuring how large batches should be");
                    let found = auto::measure(&survey, self.setup, self.home, self.executor, &self.work.stop).await;
                    found.map_err(|error| failed(&error, error.hint()))?
                }
            },
        };
        let prepared = survey.cut(&portion, &said).await.map_err(unread)?;
        Ok((prepared, cut))
    }

    fn scene(&self, prepared: Prepared) -> Scene<'_> {
        let names: Vec<&str> = prepared.batches.iter().map(|batch| batch.name.as_str()).collect();
        let held_out = held_out(&names, self.setup.pipeline.data.holdout);
        let batches = prepared.batches.into_iter().zip(held_out);
        Scene {
            setup: self.setup,
            home: self.home,
            store: self.home.store(),
            journal: self.journal,
            executor: self.executor,
            batches: batches.map(|(batch, held_out)| Planned { batch, held_out }).collect(),
            reserve: self.work.args.min_free.bytes(),
            stop: self.work.stop.clone(),
        }
    }
}
