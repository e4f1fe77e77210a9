//! The stream of snapshots from control.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tradewind_api::Client;
use tradewind_core::backoff::Backoff;

use crate::director::Change;

/// Follows control until told to stop. While it is gone, everything stays as it is.
pub(crate) async fn follow(client: Client, changes: mpsc::Sender<Change>, shutdown: CancellationToken) {
    let mut failures = 0;
    loop {
        let session = session(&client, &changes, &mut failures);
        match shutdown.run_until_cancelled(session).await {
            None => return,
            Some(reason) if failures == 0 => tracing::info!(%reason, "lost control; serving what is known"),
            Some(reason) => tracing::debug!(%reason, failures, "control does not answer"),
        }
        failures += 1;
        if !pause(Backoff::RECONNECT, failures, &shutdown).await {
            return;
        }
    }
}

/// One connection; returns why it ended.
async fn session(client: &Client, changes: &mpsc::Sender<Change>, failures: &mut u32) -> String {
    let mut stream = match client.watch_snapshot().await {
        Err(error) => return error.to_string(),
        Ok(stream) => stream,
    };
    loop {
        match stream.next().await {
            Err(error) => return error.to_string(),
            Ok(snapshot) => {
                *failures = 0;
                if changes.send(Change::Snapshot(Box::new(snapshot))).await.is_err() {
                    return "this gateway is ending".to_owned();
                }
            }
        }
    }
}

/// Waits before the next connection, with jitter so that a fleet does not come back at once; `false` to stop.
pub(crate) async fn pause(backoff: Backoff, failures: u32, shutdown: &CancellationToken) -> bool {
    let wait = backoff.spread(failures, rand::random());
    shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_some()
}
