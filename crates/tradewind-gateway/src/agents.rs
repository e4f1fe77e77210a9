//! The stream of endpoints from one agent of the own region.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tradewind_api::{Client, agent::Endpoints};
use tradewind_core::backoff::Backoff;

use crate::{control::pause, director::Change};

/// Follows an agent until told to stop. A dead agent's last endpoints stay, for its replicas may live.
pub(crate) async fn follow(
    address: String,
    mesh_token: String,
    changes: mpsc::Sender<Change>,
    shutdown: CancellationToken,
) {
    let client = Client::new(&format!("http://{address}"), Some(mesh_token));
    let mut failures = 0;
    loop {
        let session = async {
            let mut stream = client.watch_endpoints().await.ok()?;
            while let Ok(endpoints) = stream.next().await {
                failures = 0;
                changes.send(told(&address, endpoints)).await.ok()?;
            }
            Some(())
        };
        if shutdown.run_until_cancelled(session).await.is_none() {
            return;
        }
        failures += 1;
        if !pause(Backoff::RECONNECT, failures, &shutdown).await {
            return;
        }
    }
}

fn told(address: &str, endpoints: Endpoints) -> Change {
    Change::Endpoints { agent: address.to_owned(), endpoints }
}
