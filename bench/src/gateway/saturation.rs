//! As much as goes through: what a request costs of the proxy's core, and how many pass in a second.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::{
    report::{Better, Row},
    scene::Scene,
};
use crate::{
    client::{Connection, answer_length},
    contender::{Contender, turns},
    server::find,
};

pub(super) const CONNECTIONS: usize = 64;
/// Every answer of this connection is read and compared, while wrk looks at statuses and lengths alone.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// What wrk says at its end.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
struct Said {
    requests: u64,
    bytes: u64,
    micros: u64,
    errors: u64,
}

/// One run of one contender.
#[derive(Debug, Clone, Copy)]
struct Run {
    micros_per_request: f64,
    per_second: f64,
    busy_share: f64,
}

/// Measures all contenders, in rounds; `label` says what stands behind them.
pub(super) async fn measure(
    scene: &Scene<'_>,
    root: &Path,
    label: &str,
    rounds: usize,
    time: Duration,
) -> Result<Vec<Row>> {
    let mut cost = Row::new(&format!("{label}: core µs per request"), Better::Less, 1);
    let mut rate = Row::new(&format!("{label}: requests/s"), Better::More, 0);
    let mut busy = Row::new(&format!("{label}: the core's busy share, %"), Better::Neither, 0);
    for round in 0..rounds {
        for contender in turns(&Contender::ALL, round) {
            let run = load(scene, root, contender, time).await.with_context(|| contender.name())?;
            crate::progress::say(&format!(
                "{label}, round {}: {} {:.0} requests/s, {:.1} µs of the core each, busy {:.0} %",
                round + 1,
                contender.name(),
                run.per_second,
                run.micros_per_request,
                run.busy_share * 100.0
            ));
            rate.add(contender, run.per_second);
            if contender != Contender::Direct {
                cost.add(contender, run.micros_per_request);
                busy.add(contender, run.busy_share * 100.0);
            }
        }
    }
    Ok(vec![cost, rate, busy])
}

async fn load(scene: &Scene<'_>, root: &Path, contender: Contender, time: Duration) -> Result<Run> {
    let (address, question) = (scene.door(contender)?, &scene.question);
    let length = answer_length(address, question).await?;
    let body = tempfile::NamedTempFile::new()?;
    std::fs::write(body.path(), &question.body)?;
    let mut wrk = Command::new(find("wrk")?);
    wrk.args(["--threads", "1", "--connections", &CONNECTIONS.to_string()])
        .args(["--duration", &format!("{}s", time.as_secs())])
        .arg("--script")
        .arg(root.join("bench/gateway/post.lua"))
        .args([&format!("http://{address}{}", question.path), "--"])
        .arg(body.path())
        .kill_on_drop(true);
    let stop = CancellationToken::new();
    let checking = async {
        let mut connection = Connection::open(address).await?;
        let mut ticks = tokio::time::interval(CHECK_INTERVAL);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            connection.ask(question).await?;
        }
        anyhow::Ok(())
    };
    let loading = async {
        let before = scene.cores.read()?;
        let output = wrk.output().await.context("starting wrk");
        let busy = scene.cores.read()?.since(before);
        stop.cancel();
        let output = output?;
        ensure!(output.status.success(), "wrk: {}", String::from_utf8_lossy(&output.stderr));
        anyhow::Ok((Said::read(&String::from_utf8_lossy(&output.stdout))?, busy))
    };
    let ((), (said, busy)) = tokio::try_join!(checking, loading)?;
    said.check(length)?;
    busy.warn_of_steal();
    Ok(Run {
        micros_per_request: busy.busy * 1e6 / said.requests as f64,
        per_second: said.requests as f64 * 1e6 / said.micros as f64,
        busy_share: busy.busy_share(),
    })
}

impl Said {
    fn read(output: &str) -> Result<Self> {
        let line = output.lines().rev().find(|line| line.starts_with('{')).context("wrk did not say how it went")?;
        serde_json::from_str(line).context("reading what wrk said")
    }

    /// A run with errors is no result, nor is one whose answers are not all as long as the right one.
    fn check(self, answer_length: usize) -> Result<()> {
        ensure!(self.errors == 0, "{} of {} requests failed", self.errors, self.requests);
        ensure!(self.requests > 0, "nothing was answered");
        // What has begun to come in when wrk stops counts in bytes and not in requests, or the other way around.
        let slack = (CONNECTIONS * answer_length) as u64;
        let expected = self.requests * answer_length as u64;
        ensure!(self.bytes.abs_diff(expected) <= slack, "{} bytes came instead of {expected}", self.bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_counts_only_when_all_answers_are_right() {
        let output = "Running 1s test\n  9 requests in 1.00s\n{\"requests\": 1000, \"bytes\": 200100, \"micros\": 1000000, \"errors\": 0}\n";
        let said = Said::read(output).unwrap();
        assert!(said.check(200).is_ok());
        assert_eq!(Said { errors: 2, ..said }.check(200).unwrap_err().to_string(), "2 of 1000 requests failed");
        assert_eq!(
            Said { bytes: 100_000, ..said }.check(200).unwrap_err().to_string(),
            "100000 bytes came instead of 200000"
        );
        assert!(Said::read("unable to connect").is_err());
    }
}
