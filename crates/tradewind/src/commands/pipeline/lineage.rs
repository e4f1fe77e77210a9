//! Where a version comes from that a pipeline has made.

use std::collections::BTreeMap;

use serde_json::Value;
use tradewind_core::{
    Timestamp, VersionNumber,
    bundle::lineage::{BatchLineage, DataLineage, Lineage},
    pipeline::{
        file::{Cut, Pipeline},
        gate::Verdict,
    },
};
use tradewind_pipeline::{BatchCounts, Pythons, Setup, data::Sources};

use crate::session::requested_by;

/// What a run was made of.
#[derive(Debug)]
pub(super) struct Made<'a> {
    pub(super) setup: &'a Setup,
    pub(super) pythons: &'a Pythons,
    pub(super) sources: &'a Sources,
    pub(super) counts: BatchCounts,
    pub(super) run: u64,
    pub(super) metrics: BTreeMap<String, f64>,
    pub(super) verdicts: &'a [Verdict],
    pub(super) compared_with: Option<VersionNumber>,
    pub(super) started_at: Timestamp,
}

impl Made<'_> {
    pub(super) fn lineage(self) -> Lineage {
        let pipeline = &self.setup.pipeline;
        let Sources { files, bytes, rows, digest } = *self.sources;
        let BatchCounts { all, held_out, failed } = self.counts;
        let batches = BatchLineage {
            cut: words(&pipeline.data.batch),
            total: all as u64,
            failed: failed as u64,
            held_out: held_out as u64,
        };
        let requirements = self.pythons.requirements().lines().map(str::trim);
        Lineage {
            pipeline: pipeline.name.to_string(),
            run: Some(self.run),
            by: requested_by(),
            started_at: self.started_at,
            finished_at: Timestamp::now(),
            data: Some(DataLineage { files, bytes, rows, digest: Some(digest), batches: Some(batches) }),
            code: Some(self.setup.code()),
            requirements: requirements
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .map(str::to_owned)
                .collect(),
            parameters: parameters(pipeline),
            metrics: self.metrics,
            gate: self.verdicts.iter().map(|verdict| verdict.detail.clone()).collect(),
            compared_with: self.compared_with,
        }
    }
}

/// Those of all steps, and each step's own by its name: `train.epochs`.
fn parameters(pipeline: &Pipeline) -> BTreeMap<String, Value> {
    let mut all = pipeline.parameters.clone();
    let named = pipeline.steps.iter().map(|step| (step.name.as_str(), step));
    let aggregate = pipeline.aggregate.own().map(|step| ("aggregate", step));
    for (name, step) in named.chain(aggregate).chain(pipeline.evaluate.as_ref().map(|step| ("evaluate", step))) {
        all.extend(step.parameters.iter().map(|(key, value)| (format!("{name}.{key}"), value.clone())));
    }
    all
}

/// `by file`, `by 100000 rows`
pub(super) fn words(cut: &Cut) -> String {
    match cut {
        Cut::Auto => "by measured cost".to_owned(),
        Cut::File => "by file".to_owned(),
        Cut::Rows(rows) => format!("by {rows} rows"),
        Cut::Bytes(bytes) => format!("by {bytes}"),
        Cut::Column(column) => format!("by column {column}"),
    }
}
