//! So many clients, each of which asks again as soon as it has its answer.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::time::timeout;

use super::question::Question;
use crate::{
    cores::Cores,
    h2load::{Load, Said, Version},
    spread::quantile,
};

/// A server is asked for so long before it counts.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long h2load may take beyond its time: the slowest of answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// Before the next load a server may finish what nobody waits for any more.
const SETTLING_LIMIT: usize = 30;
const SETTLING: Duration = Duration::from_millis(100);
/// A core that is busier than this works on something.
const IDLE_SHARE: f64 = 0.25;

/// What came of one load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Good answers.
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
    /// Of the core, for each good answer.
    pub core_micros: f64,
    pub good: u64,
    /// Refused, failed, broken off.
    pub bad: u64,
}

pub(super) async fn measure(
    cores: &Cores,
    address: SocketAddr,
    question: &Question,
    clients: u64,
    time: Duration,
) -> Result<Sample> {
    let directory = tempfile::tempdir()?;
    let (log, body) = (directory.path().join("log"), directory.path().join("body"));
    let url = format!("http://{address}{}", question.path);
    let headers: Vec<String> = question.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    if let Some(bytes) = &question.body {
        fs::write(&body, bytes)?;
    }
    let load = Load {
        url: &url,
        version: question.version(),
        connections: clients,
        streams: 1,
        time: WARM_UP,
        headers: &headers,
        body: question.body.is_some().then_some(&body),
        log: None,
    };
    timeout(WARM_UP + PATIENCE, load.run()).await.context("warming up takes too long")??;
    settle(cores).await?;
    let before = cores.read()?;
    let said = timeout(time + PATIENCE, Load { time, log: Some(&log), ..load }.run()).await;
    let busy = cores.read()?.since(before);
    let said = said.context("a load takes too long")??;
    busy.warn_of_steal();
    let answers = Answers::read(&fs::read_to_string(&log).context("h2load has written no log")?)?;
    let answer_bytes = match question.version() {
        // A refused call is an answer of HTTP too, without a message.
        Version::Http2 => Some(question.ask(address).await?.len() as u64),
        Version::Http1 => None,
    };
    answers.sample(said, answer_bytes, busy.busy, time)
}

/// Waits until the core is idle, or for long enough.
async fn settle(cores: &Cores) -> Result<()> {
    for _ in 0..SETTLING_LIMIT {
        let before = cores.read()?;
        tokio::time::sleep(SETTLING).await;
        if cores.read()?.since(before).busy_share() < IDLE_SHARE {
            break;
        }
    }
    Ok(())
}

/// h2load's log of a load.
#[derive(Debug, PartialEq)]
struct Answers {
    /// Of the good ones, sorted.
    took: Vec<Duration>,
    bad: u64,
}

impl Answers {
    /// When it was asked, the status, and how many microseconds it took.
    fn read(log: &str) -> Result<Self> {
        let mut answers = Self { took: Vec::new(), bad: 0 };
        for line in log.lines() {
            let mut columns = line.split('\t').skip(1);
            let (status, took) = columns.next().zip(columns.next()).context("a line of h2load's log is cut")?;
            if status == "200" {
                answers.took.push(Duration::from_micros(took.parse().context("h2load logged no time")?));
            } else {
                answers.bad += 1;
            }
        }
        answers.took.sort_unstable();
        Ok(answers)
    }

    /// Where it is known how long a good answer is, those that are missing from all bytes were none.
    fn sample(self, said: Said, answer_bytes: Option<u64>, busy: f64, time: Duration) -> Result<Sample> {
        let answered = self.took.len() as u64;
        let good = answer_bytes.map_or(answered, |bytes| answered.min(said.body_bytes.div_ceil(bytes.max(1))));
        let bad = (answered - good) + self.bad;
        ensure!(good > 0, "none of {bad} answers was good");
        Ok(Sample {
            per_second: good as f64 / time.as_secs_f64(),
            p50: quantile(&self.took, 0.5),
            p99: quantile(&self.took, 0.99),
            core_micros: busy * 1e6 / good as f64,
            good,
            bad,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Answers {
        Answers::read("1700000000\t200\t300\n1700000000\t503\t20\n1700000001\t200\t100\n1700000001\t-1\t5\n").unwrap()
    }

    fn said(body_bytes: u64) -> Said {
        Said { answered: 2, failed: 2, per_second: 1.0, body_bytes }
    }

    #[test]
    fn only_good_answers_count() {
        let sample = answers().sample(said(80), None, 0.5, Duration::from_secs(1)).unwrap();
        let micros = Duration::from_micros;
        let expected =
            Sample { per_second: 2.0, p50: micros(100), p99: micros(300), core_micros: 250_000.0, good: 2, bad: 2 };
        assert_eq!(sample, expected);
        assert!(Answers::read("1700000000\t200").is_err());
        let none = Answers::read("1700000000\t503\t20\n").unwrap();
        assert!(none.sample(said(0), None, 0.5, Duration::from_secs(1)).is_err());
    }

    #[test]
    fn calls_without_a_message_are_no_answers() {
        let sample = answers().sample(said(40), Some(40), 0.5, Duration::from_secs(1)).unwrap();
        assert_eq!((sample.good, sample.bad), (1, 3));
        let whole = answers().sample(said(80), Some(40), 0.5, Duration::from_secs(1)).unwrap();
        assert_eq!((whole.good, whole.bad), (2, 2));
    }
}
