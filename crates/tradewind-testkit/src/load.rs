//! Users who keep asking: a closed loop of requests over gateways, with every answer written down.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tradewind_core::RegionName;

/// A user gives up on an answer after this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// One answer, or the lack of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The region whose users ask.
    pub asked: RegionName,
    /// The region that answered; `None` for a failure.
    pub region: Option<String>,
    pub revision: Option<String>,
    pub epoch: Option<u64>,
    pub failure: Option<String>,
    /// When it came, and how long it took.
    pub at: Instant,
    pub took: Duration,
}

/// Requests under way.
#[derive(Debug)]
pub struct Load {
    answers: Arc<Mutex<Vec<Answer>>>,
    stop: CancellationToken,
    users: JoinSet<()>,
}

/// Everything that was asked and answered.
#[derive(Debug, Clone)]
pub struct Report {
    pub answers: Vec<Answer>,
}

/// The numbers of one region's users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub requests: usize,
    pub failures: usize,
    pub by_region: BTreeMap<String, usize>,
    pub by_revision: BTreeMap<String, usize>,
}

impl Load {
    /// Starts `users_per_gateway` users at each gateway, who send `body` to `path` again and again, each with a pause
    /// of `pause` after an answer.
    pub fn start(
        gateways: &[(RegionName, String)],
        users_per_gateway: usize,
        pause: Duration,
        path: &str,
        body: &str,
    ) -> Result<Self> {
        let http = tradewind_api::client::http_client().timeout(PATIENCE).build()?;
        let answers = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let mut users = JoinSet::new();
        for (region, gateway) in gateways {
            for _ in 0..users_per_gateway {
                let user = User {
                    http: http.clone(),
                    region: region.clone(),
                    url: format!("{gateway}{path}"),
                    body: body.to_owned(),
                    answers: answers.clone(),
                };
                users.spawn(user.keep_asking(pause, stop.clone()));
            }
        }
        Ok(Self { answers, stop, users })
    }

    /// How many answers have come so far.
    pub fn answered(&self) -> usize {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What has come so far, while users go on.
    pub fn so_far(&self) -> Report {
        Report { answers: self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone() }
    }

    /// Lets every user finish the request that it waits for.
    pub async fn stop(mut self) -> Report {
        self.stop.cancel();
        while self.users.join_next().await.is_some() {}
        self.so_far()
    }
}

struct User {
    http: reqwest::Client,
    region: RegionName,
    url: String,
    body: String,
    answers: Arc<Mutex<Vec<Answer>>>,
}

impl User {
    async fn keep_asking(self, pause: Duration, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let answer = self.ask().await;
            self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
            if !pause.is_zero() {
                stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            }
        }
    }

    async fn ask(&self) -> Answer {
        let began = Instant::now();
        let mut answer = Answer {
            asked: self.region.clone(),
            region: None,
            revision: None,
            epoch: None,
            failure: None,
            at: began,
            took: Duration::ZERO,
        };
        match self.http.post(&self.url).body(self.body.clone()).send().await {
            Ok(response) => {
                let status = response.status();
                let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
                answer.region = header("x-tradewind-region").filter(|_| status.is_success());
                answer.revision = header("x-tradewind-revision");
                answer.epoch = header("x-tradewind-epoch").and_then(|epoch| epoch.parse().ok());
                let body = response.text().await;
                answer.failure = match body {
                    Ok(text) if !status.is_success() => Some(format!("{status}: {text}")),
                    Ok(_) => None,
                    Err(error) => Some(format!("the answer broke off: {error:?}")),
                };
            }
            Err(error) => answer.failure = Some(format!("no answer: {error:?}")),
        }
        answer.at = Instant::now();
        answer.took = began.elapsed();
        answer
    }
}

impl Report {
    /// Answers that came at or after a moment.
    #[must_use]
    pub fn since(&self, moment: Instant) -> Self {
        Self { answers: self.answers.iter().filter(|answer| answer.at >= moment).cloned().collect() }
    }

    /// Of the users of one region.
    #[must_use]
    pub fn of(&self, region: &str) -> Self {
        let of = |answer: &&Answer| answer.asked.as_str() == region;
        Self { answers: self.answers.iter().filter(of).cloned().collect() }
    }

    pub fn failures(&self) -> Vec<&Answer> {
        self.answers.iter().filter(|answer| answer.failure.is_some()).collect()
    }

    pub fn tally(&self) -> Tally {
        let mut tally = Tally { requests: self.answers.len(), ..Tally::default() };
        for answer in &self.answers {
            tally.failures += usize::from(answer.failure.is_some());
            if let Some(region) = &answer.region {
                *tally.by_region.entry(region.clone()).or_default() += 1;
            }
            if let Some(revision) = answer.revision.as_ref().filter(|_| answer.failure.is_none()) {
                *tally.by_revision.entry(revision.clone()).or_default() += 1;
            }
        }
        tally
    }

    /// The longest time between two good answers, which is what users feel of an outage.
    pub fn longest_silence(&self) -> Duration {
        let mut times: Vec<Instant> =
            self.answers.iter().filter(|answer| answer.failure.is_none()).map(|answer| answer.at).collect();
        times.sort_unstable();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// The slowest of the answers below which `share` (0 to 1) of them lie.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut times: Vec<Duration> =
            self.answers.iter().filter(|answer| answer.failure.is_none()).map(|answer| answer.took).collect();
        times.sort_unstable();
        #[expect(
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let index = ((times.len() as f64 - 1.0).max(0.0) * share.clamp(0.0, 1.0)).round() as usize;
        times.get(index).copied().unwrap_or_default()
    }
}
