//! One run, from the data to users.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::PathBuf,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tradewind_api::SCHEMA_VERSION;
use tradewind_core::{
    ModelName, RegionName, Timestamp, VersionNumber,
    pipeline::{
        file::{Gate, Pipeline, Publish},
        gate::{self, Live, Verdict},
        holdout::held_out,
        journal::{Counts, Event},
        metric::Metric,
        schedule::Room,
    },
};
use tradewind_pipeline::{
    Entry, Home, Planned, Pythons, Run, RunError, Scene, Setup, auto,
    data::{self, Portion, Prepared, Progress, Sources, Survey},
    executor::{Executor, Local, LocalOptions, whole_machine},
    journal::{self, Journal},
    python,
};

use super::{RunArgs, failed, file, lineage, plan::Plan, progress, publish, words};
use crate::{
    commands::{deploy, models::push},
    failure::Failure,
    measure::Local as Version,
    roles::StopSignals,
    session::{Session, unknown_region},
    settings,
    terminal::{self, Format, Paint, units},
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
            working.await
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
            let made = pythons.make().await;
            bar.finish_and_clear();
            made.map_err(unprepared)?;
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
        let stage =
            Stage { work: self, home: &home, setup: &setup, pythons: &pythons, executor: &executor, journal: &journal };
        let ended = stage.go(&usual).await;
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

/// What PYTHONPATH is: these before what it was.
fn python_path(first: &[&PathBuf]) -> OsString {
    let inherited = std::env::var_os("PYTHONPATH").unwrap_or_default();
    let inherited = std::env::split_paths(&inherited).filter(|path| !path.as_os_str().is_empty());
    let paths = first.iter().map(|path| (*path).clone()).chain(inherited);
    // A path with a colon in it cannot be named there.
    std::env::join_paths(paths).unwrap_or_default()
}

/// Where a run happens.
struct Stage<'a> {
    work: &'a Work<'a>,
    home: &'a Home,
    setup: &'a Setup,
    pythons: &'a Pythons,
    executor: &'a Local,
    journal: &'a Journal,
}

impl Stage<'_> {
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
            () = self.work.stop.cancelled() => Err(failed(&RunError::Stopped, RunError::Stopped.hint())),
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

/// What was measured, and whether that is good enough.
struct Judged {
    metrics: BTreeMap<String, Metric>,
    verdicts: Vec<Verdict>,
    evaluation: Option<Entry>,
    /// The version that it was compared with.
    live: Option<VersionNumber>,
}

impl Stage<'_> {
    /// Measures the result, and what is live where a gate asks for it. A gate that does not hold is an error.
    async fn judge(&self, run: &mut Run<'_>, result: &Entry) -> Result<Judged, Failure> {
        let (format, pipeline) = (self.work.format, &self.setup.pipeline);
        let unfinished = |error: RunError| words::run_error(&error, self.journal);
        let mut metrics = run.metrics().map_err(unfinished)?;
        metrics.extend(result.metrics.clone());
        let model = self.bundle(&run.output(result))?;
        let within = pipeline.publish.as_ref().and_then(|publish| publish.bundle.as_deref());
        let evaluating = run.evaluate(&model, result.content(within));
        let evaluation = progress::during(self.journal, format, evaluating).await.map_err(unfinished)?;
        metrics.extend(evaluation.iter().flat_map(|entry| entry.metrics.clone()));
        let compares = pipeline.gate.iter().any(Gate::compares);
        let live = match self.publishes() {
            Some(Publish { model, .. }) if compares => publish::live(self.work.session, model, format).await?,
            _ => None,
        };
        let of_live = match &live {
            Some(live) => Some(self.evaluate_live(run, live).await?),
            None => None,
        };
        self.journal.say(Event::Measured { metrics: metrics.clone() });
        let against = match &of_live {
            Some(metrics) => Live::Measured(metrics),
            None if self.publishes().is_some() => Live::Nothing,
            None => Live::Unknown,
        };
        let verdicts = gate::judge(&pipeline.gate, &metrics, against);
        self.journal.say(Event::Judged { verdicts: verdicts.clone() });
        if format == Format::Table {
            terminal::print(&words::metrics_and_gate(&numbers(&metrics), &verdicts, Paint::for_stdout()))?;
        }
        if let Some(broken) = verdicts.iter().find(|verdict| !verdict.holds) {
            let failure = Failure::failed(format!("the model is not good enough: {}", broken.detail));
            let output = run.output(result);
            return Err(failure.note("Nothing was published.").hint(format!("look at it in {}", output.display())));
        }
        Ok(Judged { metrics, verdicts, evaluation, live: live.map(|live| live.version.version) })
    }

    /// What is measured of what users get now.
    async fn evaluate_live(&self, run: &mut Run<'_>, live: &Version) -> Result<BTreeMap<String, Metric>, Failure> {
        let evaluating = run.evaluate(&live.directory, live.version.digest);
        let evaluation = progress::during(self.journal, self.work.format, evaluating).await;
        let evaluation = evaluation.map_err(|error| {
            let (model, version) = (live.name(), live.version.version);
            let failure = Failure::failed(format!("{model} {version}, which is live, cannot be evaluated"));
            let hint = "leave above_live and below_live out of the gate to publish without comparing";
            failure.cause(error.to_string()).hint(hint)
        });
        Ok(evaluation?.map(|entry| entry.metrics).unwrap_or_default())
    }

    /// What becomes of the result; without it no control plane is needed.
    fn publishes(&self) -> Option<&Publish> {
        self.setup.pipeline.publish.as_ref().filter(|_| !self.work.args.no_publish)
    }

    /// The bundle within what the aggregate wrote.
    fn bundle(&self, output: &std::path::Path) -> Result<PathBuf, Failure> {
        let within = self.setup.pipeline.publish.as_ref().and_then(|publish| publish.bundle.as_deref());
        let directory = within.map_or_else(|| output.to_owned(), |within| output.join(within));
        if directory.is_dir() {
            return Ok(directory);
        }
        let message = format!("the aggregate wrote no directory `{}`", within.unwrap_or_default());
        Err(Failure::failed(message).hint(format!("it wrote {}", output.display())))
    }

    async fn publish(
        &self,
        run: &Run<'_>,
        result: Entry,
        judged: Judged,
        sources: &Sources,
    ) -> Result<Report, Failure> {
        let (pipeline, format) = (&self.setup.pipeline, self.work.format);
        let output = run.output(&result);
        let counts = run.counts();
        let mut report = self.journal.with_story(|story| Report {
            schema_version: SCHEMA_VERSION,
            pipeline: pipeline.name.clone(),
            run: story.run,
            batches: counts.all,
            held_out: counts.held_out,
            failed: counts.failed,
            steps: story.counts.clone(),
            metrics: numbers(&judged.metrics),
            gate: judged.verdicts.clone(),
            output: output.clone(),
            published: None,
            regions: Vec::new(),
            took_ms: 0,
        });
        if let Some(Publish { model, .. }) = self.publishes() {
            let made = lineage::Made {
                setup: self.setup,
                pythons: self.pythons,
                sources,
                counts,
                run: report.run,
                metrics: report.metrics.clone(),
                verdicts: &judged.verdicts,
                compared_with: judged.live,
                started_at: self.journal.with_story(|story| story.started_at).unwrap_or_else(Timestamp::now),
            };
            let cases = judged.evaluation.as_ref().map(|entry| run.output(entry));
            let bundle = self.bundle(&output)?;
            let lineage = made.lineage();
            let published =
                publish::publish(self.work.session, model, &bundle, cases.as_deref(), lineage, format).await?;
            let (version, created) = (published.version.version, published.created);
            self.journal.say(Event::Published { model: model.to_string(), version, created });
            report.published = Some(Published { model: model.clone(), version, created });
            if !created && format == Format::Table {
                let since = units::clock(published.version.pushed_at);
                terminal::say(&format!("  this content is version {version} since {since}"))?;
            }
            let regions = self.work.regions(pipeline);
            if regions.is_empty() && format == Format::Table {
                terminal::print(&push::describe(&published.version))?;
            }
            report.regions = self.deploy(model, version, regions).await?;
        }
        report.took_ms = self.work.began.elapsed().as_millis() as u64;
        Ok(report)
    }

    async fn deploy(
        &self,
        model: &ModelName,
        version: VersionNumber,
        regions: Vec<RegionName>,
    ) -> Result<Vec<RegionName>, Failure> {
        if regions.is_empty() {
            return Ok(regions);
        }
        deploy::bring(self.work.session, model, version, regions.clone(), self.work.format).await?;
        self.journal.say(Event::Deployed { regions: regions.iter().map(ToString::to_string).collect() });
        Ok(regions)
    }
}

/// What metrics come to, as far as there is a number for it.
fn numbers(metrics: &BTreeMap<String, Metric>) -> BTreeMap<String, f64> {
    metrics.iter().filter_map(|(name, metric)| Some((name.clone(), metric.number()?))).collect()
}
