//! Where a version comes from that a pipeline has made.

use std::collections::BTreeMap;

use tradewind_core::{
    Timestamp, VersionNumber,
    bundle::lineage::{BatchLineage, DataLineage, Lineage},
    pipeline::{file::Cut, gate::Verdict},
};
use tradewind_pipeline::{BatchCounts, Pythons, Setup, data::Sources};

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
            by: by(),
            started_at: self.started_at,
            finished_at: Timestamp::now(),
            data: Some(DataLineage { files, bytes, rows, digest: Some(digest), batches: Some(batches) }),
            code: Some(self.setup.code()),
            requirements: requirements
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .map(str::to_owned)
                .collect(),
            parameters: pipeline.parameters.clone(),
            metrics: self.metrics,
            gate: self.verdicts.iter().map(|verdict| verdict.detail.clone()).collect(),
            compared_with: self.compared_with,
        }
    }
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

/// Who runs it, such as `ada@build-7`.
fn by() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let user = user.unwrap_or_else(|_| format!("uid {}", rustix::process::getuid().as_raw()));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{host}")
}
