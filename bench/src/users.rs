//! Users who ask at a fixed rate, whether or not answers come, and who write down what became of every request. A request
//! counts from the moment when it was due, so whatever stalls is charged for all that it made wait.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    client::{Connection, Question},
    samples::{Outcome, Sample},
    ticks::Ticks,
};

/// Who knows another address goes there after this time without an answer.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(1);

/// Users who ask the same of the same.
#[derive(Debug, Clone)]
pub(crate) struct Users {
    /// The addresses that each of them knows. They stay with the first as long as it answers, then with the next.
    pub entries: Vec<SocketAddr>,
    pub question: Question,
    pub count: usize,
    /// Of all together.
    pub per_second: u32,
    /// When they give a request up.
    pub patience: Duration,
}

/// Users who are at it.
#[derive(Debug)]
pub(crate) struct Asking {
    stop: CancellationToken,
    all: AbortOnDropHandle<Result<Asked>>,
}

/// What became of all requests.
#[derive(Debug)]
pub(crate) struct Asked {
    pub samples: Vec<Sample>,
    /// By how much the users themselves were late at most.
    pub late: Duration,
}

impl Asking {
    /// No request becomes due any more; those under way are waited for.
    pub(crate) async fn stop(self) -> Result<Asked> {
        self.stop.cancel();
        self.all.await.context("the users panicked")?
    }
}

impl Users {
    /// They live in the caller's runtime.
    pub(crate) fn start(self) -> Asking {
        let stop = CancellationToken::new();
        let all = tokio::spawn(self.ask_until(stop.clone()));
        Asking { stop, all: AbortOnDropHandle::new(all) }
    }

    async fn ask_until(self, stop: CancellationToken) -> Result<Asked> {
        let users: Vec<Arc<User>> = (0..self.count).map(|_| Arc::new(User::new(&self))).collect();
        let interval = Duration::from_secs(1) / self.per_second;
        let ticks = Ticks::every(interval)?;
        let (start, mut sent) = (Instant::now(), 0_u32);
        let (mut requests, mut samples, mut late) = (JoinSet::new(), Vec::new(), Duration::ZERO);
        loop {
            tokio::select! {
                rung = ticks.wait() => for _ in 0..rung? {
                    sent += 1;
                    let user = users[sent as usize % users.len()].clone();
                    let due = start + interval * sent;
                    late = late.max(due.elapsed());
                    requests.spawn(user.request(due));
                },
                Some(sample) = requests.join_next() => samples.push(sample?),
                () = stop.cancelled() => break,
            }
        }
        while let Some(sample) = requests.join_next().await {
            samples.push(sample?);
        }
        Ok(Asked { samples, late })
    }
}

#[derive(Debug)]
struct User {
    entries: Vec<Entry>,
    /// Of the entries, the one that this user asks first.
    preferred: AtomicUsize,
    question: Question,
    patience: Duration,
}

/// An address, and connections to it that wait for a request.
#[derive(Debug)]
struct Entry {
    address: SocketAddr,
    idle: Mutex<Vec<Connection>>,
}

impl User {
    fn new(users: &Users) -> Self {
        let entry = |address: &SocketAddr| Entry { address: *address, idle: Mutex::default() };
        Self {
            entries: users.entries.iter().map(entry).collect(),
            preferred: AtomicUsize::new(0),
            question: users.question.clone(),
            patience: users.patience,
        }
    }

    async fn request(self: Arc<Self>, due: Instant) -> Sample {
        let answered = tokio::time::timeout_at((due + self.patience).into(), self.ask()).await;
        let outcome = answered.unwrap_or_else(|_| Outcome::Failed(format!("no answer within {:?}", self.patience)));
        Sample { due, took: due.elapsed(), outcome }
    }

    /// Asks one entry after the other until one answers, whatever the answer is.
    async fn ask(&self) -> Outcome {
        let (first, count) = (self.preferred.load(Ordering::Relaxed), self.entries.len());
        let limit = if count > 1 { ATTEMPT_LIMIT } else { self.patience };
        let mut last = Outcome::Failed("no address is known".to_owned());
        for number in (0..count).map(|n| (first + n) % count) {
            match timeout(limit, self.entries[number].ask(&self.question)).await {
                Ok(Ok(outcome)) => return outcome,
                Ok(Err(error)) => last = Outcome::Failed(format!("{error:#}")),
                Err(_) => last = Outcome::Failed(format!("no answer within {limit:?}")),
            }
            let next = (number + 1) % count;
            // Another request of the same user may have found out before.
            let _ = self.preferred.compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        last
    }
}

impl Entry {
    async fn ask(&self, question: &Question) -> Result<Outcome> {
        let mut connection = match self.kept() {
            Some(connection) => connection,
            None => Connection::open(self.address).await?,
        };
        let outcome = connection.ask_whom(question).await?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(outcome)
    }

    /// The connection that was used last, of those that are still open.
    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = idle.pop() {
            if connection.is_open() {
                return Some(connection);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        server::free_address,
        spike::upstream::{ANSWER, Upstream},
    };

    fn user(entries: Vec<SocketAddr>) -> Arc<User> {
        let path = "/v2/models/places/infer".to_owned();
        let question = Question { path, body: Bytes::new(), answer: ANSWER.into() };
        Arc::new(User::new(&Users { entries, question, count: 1, per_second: 1, patience: Duration::from_secs(10) }))
    }

    #[tokio::test]
    async fn users_go_to_the_next_address_that_they_know_and_stay_there() {
        let upstream = Upstream::start().await.unwrap();
        let closed = free_address().unwrap();
        let alone = user(vec![closed]);
        assert!(matches!(alone.ask().await, Outcome::Failed(_)));
        let user = user(vec![closed, upstream.address]);
        assert_eq!(user.ask().await, Outcome::Served(None));
        assert_eq!(user.preferred.load(Ordering::Relaxed), 1);
        assert_eq!(user.ask().await, Outcome::Served(None));
        assert_eq!(user.entries[1].idle.lock().unwrap().len(), 1, "one connection served both");
    }

    #[tokio::test]
    async fn a_request_counts_from_the_moment_when_it_was_due() {
        let upstream = Upstream::start().await.unwrap();
        let user = user(vec![upstream.address]);
        let late = Duration::from_secs(2);
        let sample = user.clone().request(Instant::now() - late).await;
        assert!(sample.is_served() && sample.took >= late, "{sample:?}");
        let sample = user.request(Instant::now() - Duration::from_secs(20)).await;
        assert_eq!(sample.outcome, Outcome::Failed("no answer within 10s".to_owned()));
    }
}
