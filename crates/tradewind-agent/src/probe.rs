//! Asking one replica how it is.

use std::time::{Duration, Instant};

use tokio::{sync::mpsc, time::MissedTickBehavior};
use tradewind_core::deployment::HealthPolicy;
use tradewind_process::{Exit, Process};

/// A replica that was never ready is asked this often: a deploy should not wait for a probe.
const START_INTERVAL: Duration = Duration::from_millis(20);
/// The shortest interval and timeout that a policy may ask for.
const INTERVAL_LEAST: Duration = Duration::from_millis(10);

/// What a replica answered to `GET /v2/health/ready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Ready,
    /// It answers, and says that it is not ready.
    NotReady,
    /// Nothing within the timeout, or no connection.
    Silent,
}

/// What a watcher tells its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sighting {
    Probed { answer: Answer, took: Duration },
    Exited(Exit),
}

pub(crate) async fn ask(http: &reqwest::Client, address: &str, timeout: Duration) -> Answer {
    let request = http.get(format!("http://{address}/v2/health/ready")).timeout(timeout);
    match request.send().await {
        Ok(response) if response.status().is_success() => Answer::Ready,
        Ok(_) => Answer::NotReady,
        Err(_) => Answer::Silent,
    }
}

/// One replica that is watched.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) http: reqwest::Client,
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) health: HealthPolicy,
    pub(crate) was_ready: bool,
    pub(crate) process: Process,
}

impl Watch {
    /// Probes at the policy's interval until the process ends, which is noticed at once.
    pub(crate) async fn run(self, tell: mpsc::Sender<(String, Sighting)>) {
        let steady = self.health.interval.duration().max(INTERVAL_LEAST);
        let timeout = self.health.timeout.duration().max(INTERVAL_LEAST);
        let mut ticks = ticks(if self.was_ready { steady } else { START_INTERVAL.min(steady) });
        let mut was_ready = self.was_ready;
        let exit = loop {
            let probe = async {
                ticks.tick().await;
                let begun = Instant::now();
                (ask(&self.http, &self.address, timeout).await, begun.elapsed())
            };
            let (answer, took) = tokio::select! {
                exit = self.process.exited() => break exit,
                probed = probe => probed,
            };
            if answer == Answer::Ready && !was_ready {
                was_ready = true;
                ticks = self::ticks(steady);
                // The first tick of an interval is at once, and has just been used.
                ticks.reset();
            }
            if tell.send((self.id.clone(), Sighting::Probed { answer, took })).await.is_err() {
                return;
            }
        };
        // When nobody listens any more, nobody needs to know.
        let _ = tell.send((self.id, Sighting::Exited(exit))).await;
    }
}

fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
