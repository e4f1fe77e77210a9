//! Hearing from control what the region should run, for as long as it takes.

use std::sync::{Arc, atomic::Ordering};

use tokio_util::sync::CancellationToken;
use tradewind_api::agent::RegionAssignments;
use tradewind_core::{backoff::Backoff, causes::chain};

use crate::agent::Context;

/// Reads the stream of assignments, and opens it again whenever it ends.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let mut failures = 0;
    while !shutdown.is_cancelled() {
        let Some(()) = shutdown.run_until_cancelled(listen(&context, &mut failures)).await else { return };
        context.metrics.connected.store(false, Ordering::Relaxed);
        failures += 1;
        shutdown.run_until_cancelled(tokio::time::sleep(Backoff::RECONNECT.spread(failures, rand::random()))).await;
    }
}

/// Until the stream ends.
async fn listen(context: &Context, failures: &mut u32) {
    let ended = |error: &(dyn std::error::Error + 'static)| {
        tracing::warn!(control = context.client.base(), error = %chain(error), "no assignments from control");
    };
    let mut messages = match context.client.watch_assignments().await {
        Ok(messages) => messages,
        Err(error) => return ended(&error),
    };
    loop {
        match messages.next().await {
            Ok(message) => {
                *failures = 0;
                context.metrics.connected.store(true, Ordering::Relaxed);
                take(context, message).await;
            }
            Err(error) => return ended(&error),
        }
    }
}

async fn take(context: &Context, message: RegionAssignments) {
    let refused = |reason: &(dyn std::error::Error + 'static)| {
        context.metrics.refused.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(reason = %chain(reason), "a message of control is refused");
    };
    match context.desired.offer(message, &context.home.desired()).await {
        Ok(refusals) => refusals.iter().for_each(|refusal| refused(refusal)),
        Err(error) => refused(&error),
    }
}
