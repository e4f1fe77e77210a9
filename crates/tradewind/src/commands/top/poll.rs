//! Asks control again and again, for what the screen shows.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};
use tradewind_api::{
    Client, client,
    deploy::RolloutView,
    monitoring::{AlertQuery, AlertView},
    status::{EventQuery, WorldStatus},
};
use tradewind_core::{ModelName, Timestamp, backoff::Backoff, event::Event};

/// So many events are kept, and asked for at once.
pub(super) const EVENTS: usize = 200;
/// So many of the alerts that are over.
const ALERTS_OVER: u32 = 50;
/// A control plane that takes longer than this counts as away, and is asked anew.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// What the next look is to bring.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    /// The model whose rollout is shown.
    pub(super) rollout_of: Option<ModelName>,
    pub(super) paused: bool,
}

/// What one look brought.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) at: Timestamp,
    pub(super) world: WorldStatus,
    /// New ones, oldest first.
    pub(super) events: Vec<Event>,
    /// Those that fire first.
    pub(super) alerts: Vec<AlertView>,
    pub(super) rollout: Option<RolloutView>,
}

impl Look {
    pub(super) fn newest_event(&self) -> Option<u64> {
        self.events.last().map(|event| event.sequence)
    }
}

/// One look, with the events after that one. What belongs to a model that is gone is missing, which is no error.
pub(super) async fn look(client: &Client, wanted: &Wanted, after: Option<u64>) -> Result<Look, client::Error> {
    let query = EventQuery { after, limit: Some(EVENTS as u32), ..EventQuery::default() };
    let rollout = async {
        let Some(model) = &wanted.rollout_of else { return Ok(None) };
        match client.rollout(model, "latest").await {
            Err(client::Error::Problem(problem)) if problem.code == tradewind_api::Code::NotFound => Ok(None),
            answer => answer.map(Some),
        }
    };
    let alerts = AlertQuery { all: true, limit: Some(ALERTS_OVER) };
    let all = async { tokio::try_join!(client.world(), client.events(&query), client.alerts(&alerts), rollout) };
    let (world, events, alerts, rollout) = time::timeout(LOOK_LIMIT, all)
        .await
        .unwrap_or_else(|_| Err(client::Error::Silent { url: client.base().to_owned() }))?;
    Ok(Look { at: Timestamp::now(), world, events: events.events, alerts: alerts.alerts, rollout })
}

/// Looks each `interval`, at once when something else is wanted, and with back-off while nobody answers. Ends with
/// whoever takes the answers.
pub(super) async fn run(
    client: Client,
    interval: Duration,
    mut newest_event: Option<u64>,
    mut wanted: watch::Receiver<Wanted>,
    answers: mpsc::Sender<Result<Look, client::Error>>,
) {
    let mut failures = 0;
    loop {
        let begun = Instant::now();
        let wants = wanted.borrow_and_update().clone();
        if wants.paused {
            match wanted.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        }
        let answer = look(&client, &wants, newest_event).await;
        let next = match &answer {
            Ok(look) => {
                failures = 0;
                newest_event = look.newest_event().or(newest_event);
                begun + interval
            }
            Err(_) => {
                failures += 1;
                Instant::now() + Backoff::RECONNECT.after(failures)
            }
        };
        if answers.send(answer).await.is_err() {
            return;
        }
        tokio::select! {
            () = time::sleep_until(next) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}
