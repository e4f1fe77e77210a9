//! Users who keep asking: a closed loop of requests over gateways, with every answer written down.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tradewind_core::RegionName;

use crate::wait::eventually_ok;

/// A user gives up on an answer after this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// One answer, or the lack of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Numbers the users of a load.
    pub user: usize,
    /// The region whose users ask.
    pub asked: RegionName,
    /// The region that answered; `None` for a failure.
    pub region: Option<String>,
    pub revision: Option<String>,
    pub epoch: Option<u64>,
    pub failure: Option<String>,
    /// Which of the user's addresses it came through, the last one for a failure.
    pub entry: usize,
    /// What broke off on an address before; then the user asked the next one.
    pub broken: Option<String>,
    /// When it came, and how long it took.
    pub at: Instant,
    pub took: Duration,
}

/// Users of a region, and the addresses that they know.
#[derive(Debug, Clone)]
pub struct Users {
    pub region: RegionName,
    /// `http://host:port`, tried in this order for each request: the next one when an address gives no answer.
    pub gateways: Vec<String>,
    pub count: usize,
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
        let users = |(region, gateway): &(RegionName, String)| Users {
            region: region.clone(),
            gateways: vec![gateway.clone()],
            count: users_per_gateway,
        };
        Self::of(&gateways.iter().map(users).collect::<Vec<_>>(), pause, path, body)
    }

    /// So many users who name themselves and the newest epoch that they have seen, and come through another gateway each
    /// time. `region` is where they are from.
    pub fn roaming(
        region: &RegionName,
        gateways: &[(RegionName, String)],
        count: usize,
        pause: Duration,
        path: &str,
        body: &str,
    ) -> Result<Self> {
        let gateways = gateways.iter().map(|(_, gateway)| gateway.clone()).collect();
        Self::begin(&[Users { region: region.clone(), gateways, count }], pause, path, body, true)
    }

    /// Like [`start`](Self::start), with users who may know more than one address.
    pub fn of(groups: &[Users], pause: Duration, path: &str, body: &str) -> Result<Self> {
        Self::begin(groups, pause, path, body, false)
    }

    fn begin(groups: &[Users], pause: Duration, path: &str, body: &str, roams: bool) -> Result<Self> {
        let http = tradewind_api::client::http_client().timeout(PATIENCE).build()?;
        let answers = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let mut users = JoinSet::new();
        for group in groups.iter().flat_map(|group| std::iter::repeat_n(group, group.count)) {
            let user = User {
                number: users.len(),
                http: http.clone(),
                region: group.region.clone(),
                urls: group.gateways.iter().map(|gateway| format!("{gateway}{path}")).collect(),
                body: body.to_owned(),
                answers: answers.clone(),
                roams,
                seen: 0,
            };
            users.spawn(user.keep_asking(pause, stop.clone()));
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

    /// What has come at or after a moment; cheap while the moment is recent.
    pub fn since(&self, moment: Instant) -> Report {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let first = answers.partition_point(|answer| answer.at < moment);
        Report { answers: answers[first..].to_vec() }
    }

    /// Waits until so many answers in a row, of those that come from now on, are as they should be.
    pub async fn settles(
        &self,
        what: &str,
        deadline: Duration,
        count: usize,
        is_right: impl Fn(&Answer) -> bool,
    ) -> Result<()> {
        let since = Instant::now();
        eventually_ok(what, deadline, || async {
            let answers = self.since(since).answers;
            let newest = answers.get(answers.len().saturating_sub(count)..).filter(|newest| newest.len() == count);
            let newest = newest.with_context(|| format!("{} answers so far", answers.len()))?;
            let other = newest.iter().find(|answer| !is_right(answer));
            ensure!(other.is_none(), "another answer: {other:?}");
            Ok(())
        })
        .await
    }

    /// Lets every user finish the request that it waits for.
    pub async fn stop(mut self) -> Report {
        self.stop.cancel();
        while self.users.join_next().await.is_some() {}
        self.so_far()
    }
}

struct User {
    number: usize,
    http: reqwest::Client,
    region: RegionName,
    urls: Vec<String>,
    body: String,
    answers: Arc<Mutex<Vec<Answer>>>,
    /// Names itself and the epoch that it has seen, and comes through another gateway each time.
    roams: bool,
    seen: u64,
}

impl User {
    async fn keep_asking(mut self, pause: Duration, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let mut answer = self.ask().await;
            self.seen = self.seen.max(answer.epoch.unwrap_or(0));
            if self.roams {
                self.urls.rotate_left(1);
            }
            {
                let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
                // Taken under the lock, so that the answers stand in the order of their times.
                answer.at = Instant::now();
                answers.push(answer);
            }
            if !pause.is_zero() {
                stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            }
        }
    }

    async fn ask(&self) -> Answer {
        let began = Instant::now();
        let mut answer = Answer {
            user: self.number,
            asked: self.region.clone(),
            region: None,
            revision: None,
            epoch: None,
            failure: None,
            entry: 0,
            broken: None,
            at: began,
            took: Duration::ZERO,
        };
        for (entry, url) in self.urls.iter().enumerate() {
            answer.entry = entry;
            match self.send(url, &mut answer).await {
                Ok(()) => break,
                Err(error) => {
                    answer.failure = Some(format!("no answer: {error:?}"));
                    // A closed door costs nothing; what broke off was under way.
                    if !error.is_connect() && entry + 1 < self.urls.len() {
                        answer.broken.clone_from(&answer.failure);
                    }
                }
            }
        }
        answer.took = began.elapsed();
        answer
    }

    async fn send(&self, url: &str, answer: &mut Answer) -> Result<(), reqwest::Error> {
        let mut request = self.http.post(url).body(self.body.clone());
        if self.roams {
            let key = format!("user-{}", self.number);
            request = request.header("x-tradewind-user", key).header("x-tradewind-epoch", self.seen);
            request = request.header("x-tradewind-client-region", self.region.as_str());
        }
        let response = request.send().await?;
        let status = response.status();
        let headers = response.headers().clone();
        let header = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
        let text = response.text().await?;
        answer.region = header("x-tradewind-region").filter(|_| status.is_success());
        answer.revision = header("x-tradewind-revision");
        answer.epoch = header("x-tradewind-epoch").and_then(|epoch| epoch.parse().ok());
        answer.failure = (!status.is_success()).then(|| format!("{status}: {text}"));
        Ok(())
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

    /// Answers of an older epoch than the same user had seen before.
    pub fn went_back(&self) -> Vec<&Answer> {
        let mut seen: BTreeMap<usize, u64> = BTreeMap::new();
        let mut went_back = Vec::new();
        for answer in &self.answers {
            let Some(epoch) = answer.epoch else { continue };
            let newest = seen.entry(answer.user).or_default();
            if epoch < *newest {
                went_back.push(answer);
            }
            *newest = epoch.max(*newest);
        }
        went_back
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
