//! Requests at a fixed rate, whether or not answers come: each has a time at which it is due, and its latency counts from
//! then. A proxy that stalls is charged for every request that it made wait.

use std::{
    cell::RefCell,
    collections::VecDeque,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    sync::mpsc,
    task::{JoinSet, LocalSet},
};

use crate::{
    client::{Connection, Question},
    ticks::Ticks,
};

/// The last answers come within this time of the last request.
const LAG_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub address: SocketAddr,
    pub question: Question,
    pub per_second: u32,
    pub time: Duration,
    /// As many requests can be under way at once.
    pub connections: usize,
}

/// Sends all of them from this thread, and gives their latencies, sorted. Any wrong answer is an error.
pub(super) fn run(plan: &Plan) -> Result<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sending = LocalSet::new();
    let all = sending.run_until(async { tokio::time::timeout(plan.time + LAG_LIMIT, send(plan)).await });
    let mut latencies = runtime.block_on(all).context("answers lag behind")??;
    latencies.sort_unstable();
    Ok(latencies)
}

/// Who can take a request, and the requests that nobody could take yet, by when they were due.
#[derive(Debug, Default)]
struct Queue {
    /// To each connection.
    senders: Vec<mpsc::UnboundedSender<Instant>>,
    /// Connections that wait for a request.
    free: Vec<usize>,
    waiting: VecDeque<Instant>,
}

async fn send(plan: &Plan) -> Result<Vec<Duration>> {
    let queue = Rc::new(RefCell::new(Queue::default()));
    let mut answers = JoinSet::new();
    for number in 0..plan.connections {
        let connection = Connection::open(plan.address).await?;
        let (sender, due) = mpsc::unbounded_channel();
        queue.borrow_mut().senders.push(sender);
        queue.borrow_mut().free.push(number);
        let asker = Asker { number, connection, question: plan.question.clone(), due, queue: queue.clone() };
        answers.spawn_local(asker.run());
    }
    let interval = Duration::from_secs(1) / plan.per_second;
    let count = u64::from(plan.per_second) * plan.time.as_millis() as u64 / 1000;
    let ticks = Ticks::every(interval)?;
    let (start, mut sent) = (Instant::now(), 0);
    while sent < count {
        for _ in 0..ticks.wait().await?.min(count - sent) {
            sent += 1;
            queue.borrow_mut().give(start + interval * sent as u32)?;
        }
        if let Some(ended) = answers.try_join_next() {
            ended??;
            bail!("a connection ended early");
        }
    }
    // What is waiting is taken by those who are busy, and then there is nothing more to come.
    queue.borrow_mut().senders.clear();
    let mut latencies = Vec::new();
    while let Some(ended) = answers.join_next().await {
        latencies.append(&mut ended??);
    }
    ensure!(latencies.len() as u64 == count, "{} of {count} requests were answered", latencies.len());
    Ok(latencies)
}

impl Queue {
    fn give(&mut self, due: Instant) -> Result<()> {
        match self.free.pop() {
            Some(number) => self.senders[number].send(due).context("a connection ended early"),
            None => {
                self.waiting.push_back(due);
                Ok(())
            }
        }
    }
}

/// One connection, and what it is to ask when.
struct Asker {
    number: usize,
    connection: Connection,
    question: Question,
    due: mpsc::UnboundedReceiver<Instant>,
    queue: Rc<RefCell<Queue>>,
}

impl Asker {
    /// Gives the latencies of its requests.
    async fn run(mut self) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        while let Some(mut due) = self.due.recv().await {
            loop {
                self.connection.ask(&self.question).await?;
                latencies.push(due.elapsed());
                let mut queue = self.queue.borrow_mut();
                match queue.waiting.pop_front() {
                    Some(next) => due = next,
                    None => {
                        queue.free.push(self.number);
                        break;
                    }
                }
            }
        }
        Ok(latencies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_waits_when_nobody_is_free() {
        let (sender, mut due) = mpsc::unbounded_channel();
        let mut queue = Queue { senders: vec![sender], free: vec![0], waiting: VecDeque::new() };
        let times = [Instant::now(), Instant::now() + Duration::from_secs(1)];
        times.iter().for_each(|time| queue.give(*time).unwrap());
        assert_eq!(due.try_recv(), Ok(times[0]));
        assert_eq!(queue.waiting, [times[1]]);
    }
}
