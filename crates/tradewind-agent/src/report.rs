//! Telling control what is seen: at each change, and at least at every heartbeat.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tradewind_api::agent::{AgentReport, HEARTBEAT};
use tradewind_core::{backoff::Backoff, causes::chain};

use crate::agent::Context;

/// Changes that come together go in one report.
const COALESCE: Duration = Duration::from_millis(5);

pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    shutdown.run_until_cancelled(report_for_ever(&context)).await;
}

async fn report_for_ever(context: &Context) {
    let mut failures = 0;
    loop {
        match context.client.report_agent(&report(context)).await {
            Ok(receipt) => {
                failures = 0;
                context.events.acknowledge(receipt.events_stored);
                tokio::select! {
                    () = context.board.changed.notified() => {}
                    () = context.events.changed.notified() => {}
                    () = tokio::time::sleep(HEARTBEAT) => {}
                }
                tokio::time::sleep(COALESCE).await;
            }
            Err(error) => {
                failures += 1;
                context.metrics.reports_failed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(failures, error = %chain(&error), "control took no report");
                tokio::time::sleep(Backoff::RECONNECT.spread(failures, rand::random()).min(HEARTBEAT)).await;
            }
        }
    }
}

fn report(context: &Context) -> AgentReport {
    let (models, replicas) = context.board.statuses();
    AgentReport {
        region: context.region.clone(),
        instance: context.instance.clone(),
        pid: std::process::id(),
        started_at: context.started_at,
        address: context.address.clone(),
        models,
        replicas,
        events: context.events.waiting(),
        cases: context.board.cases(),
        scaling: context.board.scaling(),
        disk: context.home.room(),
    }
}
