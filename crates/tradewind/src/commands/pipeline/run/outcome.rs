//! What becomes of a run's result: it is judged, published and deployed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use tradewind_api::SCHEMA_VERSION;
use tradewind_core::{
    ModelName, RegionName, Timestamp, VersionNumber,
    pipeline::{
        file::{Gate, Publish},
        gate::{self, Live, Verdict},
        journal::Event,
        metric::Metric,
    },
};
use tradewind_pipeline::{Entry, Run, RunError, data::Sources};

use super::{Published, Report, Site};
use crate::{
    commands::{
        deploy,
        models::push,
        pipeline::{lineage, progress, publish, words},
    },
    failure::Failure,
    measure::Local as Version,
    terminal::{self, Format, Paint, units},
};

/// What was measured, and whether that is good enough.
pub(super) struct Judged {
    metrics: BTreeMap<String, Metric>,
    verdicts: Vec<Verdict>,
    evaluation: Option<Entry>,
    /// The version that it was compared with.
    live: Option<VersionNumber>,
}

impl Site<'_> {
    /// Measures the result, and what is live where a gate asks for it. A gate that does not hold is an error.
    pub(super) async fn judge(&self, run: &mut Run<'_>, result: &Entry) -> Result<Judged, Failure> {
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
    fn bundle(&self, output: &Path) -> Result<PathBuf, Failure> {
        let within = self.setup.pipeline.publish.as_ref().and_then(|publish| publish.bundle.as_deref());
        let directory = within.map_or_else(|| output.to_owned(), |within| output.join(within));
        if directory.is_dir() {
            return Ok(directory);
        }
        let message = format!("the aggregate wrote no directory `{}`", within.unwrap_or_default());
        Err(Failure::failed(message).hint(format!("it wrote {}", output.display())))
    }

    pub(super) async fn publish(
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
