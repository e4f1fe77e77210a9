//! Asking one replica how it is.

use std::time::{Duration, Instant};

use tokio::{net::TcpStream, sync::mpsc, time::MissedTickBehavior};
use tradewind_core::{deployment::HealthPolicy, probe::Probe};
use tradewind_process::{Exit, Family, Process};

/// A replica that was never ready is asked this often: a deploy should not wait for a probe.
const START_INTERVAL: Duration = Duration::from_millis(20);
/// A server takes longer to start, and may write a line for each probe.
const SERVER_START_INTERVAL: Duration = Duration::from_millis(100);
/// The shortest interval and timeout that a policy may ask for.
const INTERVAL_LEAST: Duration = Duration::from_millis(10);

/// What a replica answered to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Ready,
    /// It answers, with this status, and so says that it is not ready.
    NotReady(u16),
    /// Nothing within the timeout, or no connection.
    Silent,
}

/// What a watcher tells its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sighting {
    Probed {
        answer: Answer,
        took: Duration,
    },
    Exited(Exit),
    /// It is out of use, and nobody is connected to it any more.
    Unused,
}

pub(crate) async fn ask(http: &reqwest::Client, address: &str, probe: &Probe, timeout: Duration) -> Answer {
    let path = match probe {
        Probe::Http(path) => path,
        Probe::Connect => {
            let connected = tokio::time::timeout(timeout, TcpStream::connect(address)).await;
            return if matches!(connected, Ok(Ok(_))) { Answer::Ready } else { Answer::Silent };
        }
    };
    match http.get(format!("http://{address}{path}")).timeout(timeout).send().await {
        Ok(response) if response.status().is_success() => Answer::Ready,
        Ok(response) => Answer::NotReady(response.status().as_u16()),
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
    pub(crate) probe: Probe,
    /// Of a server, which may have started other processes.
    pub(crate) family: Option<Family>,
}

impl Watch {
    /// Probes at the policy's interval until the process ends, which is noticed at once.
    pub(crate) async fn run(self, tell: mpsc::Sender<(String, Sighting)>) {
        let steady = self.health.interval.duration().max(INTERVAL_LEAST);
        let timeout = self.health.timeout.duration().max(INTERVAL_LEAST);
        let start = if self.family.is_some() { SERVER_START_INTERVAL } else { START_INTERVAL };
        let mut ticks = ticks(if self.was_ready { steady } else { start.min(steady) });
        let mut was_ready = self.was_ready;
        let exit = loop {
            let probe = async {
                ticks.tick().await;
                let begun = Instant::now();
                (ask(&self.http, &self.address, &self.probe, timeout).await, begun.elapsed())
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
        if let Some(family) = &self.family
            && let Err(error) = family.kill(Some(&self.process)).await
        {
            tracing::error!(id = self.id, %error, "cannot end what a server has started");
        }
        // When nobody listens any more, nobody needs to know.
        let _ = tell.send((self.id, Sighting::Exited(exit))).await;
    }
}

fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
