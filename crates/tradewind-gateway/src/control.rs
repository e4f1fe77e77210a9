//! The stream of configuration from control.

use std::{fmt, sync::Arc};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tradewind_api::{Client, gateway::config::UNCHECKED_LIMIT, ndjson};
use tradewind_core::{Timestamp, backoff::Backoff, causes::chain};

use crate::{
    director::{Change, Fit},
    gateway::Gateway,
    tables,
};

/// Follows control until told to stop. While it is gone, everything stays as it is.
pub(crate) async fn follow(
    client: Client,
    gateway: Arc<Gateway>,
    changes: mpsc::Sender<Change>,
    shutdown: CancellationToken,
) {
    let mut failures = 0;
    loop {
        let session = session(&client, &gateway, &changes, &mut failures);
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

/// Why a connection ended. The next one begins with a snapshot, whatever it was.
enum Ended {
    Told(String),
    Unchecked,
    /// The director knows why, and has said it.
    Unfit,
    Stopping,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told(reason) => f.write_str(reason),
            Self::Unchecked => write!(f, "control has said nothing for {} s", UNCHECKED_LIMIT.as_secs()),
            Self::Unfit => f.write_str("what control sent does not fit to what is known"),
            Self::Stopping => f.write_str("this gateway is ending"),
        }
    }
}

/// One connection.
async fn session(client: &Client, gateway: &Gateway, changes: &mpsc::Sender<Change>, failures: &mut u32) -> Ended {
    let mut stream = match client.watch_config().await {
        Err(error) => return Ended::Told(error.to_string()),
        Ok(stream) => stream,
    };
    loop {
        let message = match timeout(UNCHECKED_LIMIT, stream.next()).await {
            Err(_) => return Ended::Unchecked,
            Ok(Ok(message)) => message,
            Ok(Err(error)) => {
                let reason = error.to_string();
                if matches!(error, ndjson::Error::TooLong | ndjson::Error::Malformed { .. }) {
                    // Nobody is left to tell when the director is gone.
                    let _ = changes.send(Change::Unusable(reason.clone())).await;
                }
                return Ended::Told(reason);
            }
        };
        let named = tables::named(message.routes(), Timestamp::now());
        let tables = match tables::fetch(client, named, &gateway.tables()).await {
            Ok(tables) => tables,
            Err(error) => {
                let reason = chain(&error);
                // As above. What comes next may not name it any more, or mend it.
                let _ = changes.send(Change::Unusable(reason.clone())).await;
                return Ended::Told(reason);
            }
        };
        *failures = 0;
        let (answer, taken) = oneshot::channel();
        if changes.send(Change::Config { message: Box::new(message), tables, answer }).await.is_err() {
            return Ended::Stopping;
        }
        match taken.await {
            Ok(Fit::Fits) => {}
            Ok(Fit::Unfit) => return Ended::Unfit,
            Err(_) => return Ended::Stopping,
        }
    }
}

/// Waits before the next connection, with jitter so that a fleet does not come back at once; `false` to stop.
pub(crate) async fn pause(backoff: Backoff, failures: u32, shutdown: &CancellationToken) -> bool {
    let wait = backoff.spread(failures, rand::random());
    shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_some()
}
