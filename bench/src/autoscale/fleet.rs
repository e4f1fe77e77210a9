//! Three regions of real processes through one day.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{interval, sleep_until},
};
use tradewind_testkit::{Host, Part, Roles};

use super::day::{AT_ONCE, QUARTERS, REGIONS, rate};
use crate::{
    client::Question,
    progress::say,
    repository,
    samples::Sample,
    users::{Asked, Users},
};

/// The most replicas of a region, and as many as a fixed fleet has.
pub(super) const PEAK: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(10);
const USERS: usize = 20;
/// So many lost requests are told of.
const FAILURES_TOLD: usize = 10;
const LEAD: u32 = 4;
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Fleet {
    Follows,
    Fixed,
}

impl Fleet {
    pub(super) const BOTH: [Self; 2] = [Self::Follows, Self::Fixed];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Follows => "follows its users, from 0 on",
            Self::Fixed => "as many as the peak needs, all day",
        }
    }

    fn scale(self, quarter: Duration) -> String {
        match self {
            Self::Fixed => format!("replicas = {PEAK}"),
            Self::Follows => format!(
                "min = 0\nmax = {PEAK}\ntarget = {AT_ONCE}\nscale_down_after = \"{}ms\"",
                (quarter * 2).as_millis().max(1000)
            ),
        }
    }
}

/// What became of a day.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) samples: Vec<Sample>,
    /// By how much the users themselves were late at most.
    pub(super) late: Duration,
    /// Of all processes, those that start and those that end included.
    pub(super) replica_seconds: f64,
    pub(super) most: usize,
    begin: Instant,
}

impl Taken {
    /// What became of those that were lost, and when.
    pub(super) fn tell_failures(&self, quarter: Duration) {
        let lost = self.samples.iter().filter(|sample| !sample.is_served());
        for sample in lost.take(FAILURES_TOLD) {
            let hour = (sample.due - self.begin).as_secs_f64() / (4.0 * quarter.as_secs_f64());
            say(&format!("lost at hour {hour:.2}, after {:.1?}: {:?}", sample.took, sample.outcome));
        }
    }
}

/// One day with one fleet, in a world of its own.
pub(super) async fn take(program: &Path, fleet: Fleet, quarter: Duration) -> Result<Taken> {
    let (host, directory) = (Host::this(), tempfile::tempdir()?);
    let mut roles = Roles::new(program, &host, &REGIONS.map(|(region, _)| (region, &host)))?;
    roles.start_all().await?;
    let deployment = write(&directory, fleet, quarter)?;
    roles.cli_ok(["deploy".as_ref(), "-f".as_ref(), deployment.as_os_str()]).await?;
    // The hour before, in which the fleet becomes what it would be.
    let begin = Instant::now() + quarter * LEAD;
    let mut regions = JoinSet::new();
    for (region, ahead) in REGIONS {
        let entry: SocketAddr = roles.address(&Part::gateway(region))?.parse()?;
        regions.spawn(live(entry, ahead, begin, quarter));
    }
    let mut taken = Taken { samples: Vec::new(), late: Duration::ZERO, replica_seconds: 0.0, most: 0, begin };
    let (mut looks, mut last) = (interval(LOOK), begin);
    while !regions.is_empty() {
        tokio::select! {
            _ = looks.tick(), if Instant::now() >= begin => {
                let replicas = REGIONS.iter().map(|(region, _)| roles.replicas(region).len()).sum::<usize>();
                taken.replica_seconds += replicas as f64 * last.elapsed().as_secs_f64();
                taken.most = taken.most.max(replicas);
                last = Instant::now();
            }
            Some(lived) = regions.join_next() => {
                let Asked { samples, late } = lived.context("the users panicked")??;
                taken.samples.extend(samples);
                taken.late = taken.late.max(late);
            }
        }
    }
    Ok(taken)
}

/// The users of one region through the day.
async fn live(entry: SocketAddr, ahead: usize, begin: Instant, quarter: Duration) -> Result<Asked> {
    let question = Question {
        path: "/models/autoscale/answer".to_owned(),
        body: Bytes::from_static(b"{}"),
        answer: Bytes::from_static(b"right"),
    };
    let mut all = Asked { samples: Vec::new(), late: Duration::ZERO };
    let mut ending = JoinSet::new();
    let lead = usize::try_from(LEAD)?;
    for number in 0..QUARTERS + lead {
        let per_second = rate(ahead, (number + QUARTERS - lead) % QUARTERS);
        let users =
            Users { entries: vec![entry], question: question.clone(), count: USERS, per_second, patience: PATIENCE };
        let asking = (per_second > 0).then(|| users.start());
        let over = begin - quarter * LEAD + quarter * u32::try_from(number + 1)?;
        sleep_until(over.into()).await;
        // Those who still wait for an answer do not hold up those who come next.
        if let Some(asking) = asking {
            ending.spawn(asking.stop());
        }
    }
    while let Some(asked) = ending.join_next().await {
        let Asked { samples, late } = asked??;
        all.samples.extend(samples.into_iter().filter(|sample| sample.due >= begin));
        all.late = all.late.max(late);
    }
    Ok(all)
}

fn write(directory: &TempDir, fleet: Fleet, quarter: Duration) -> Result<PathBuf> {
    let bundle = directory.path().join("autoscale");
    fs::create_dir_all(bundle.join("cases"))?;
    fs::write(bundle.join("server.py"), repository::file("bench/autoscale/server.py")?)?;
    fs::write(
        bundle.join("tradewind.toml"),
        r#"name = "autoscale"
runtime = "command"

[command]
run = ["python3", "{bundle}/server.py", "--host", "{host}", "--port", "{port}"]
ready = "/health"
"#,
    )?;
    fs::write(bundle.join("cases/001.json"), r#"{"http": {"path": "/answer"}, "expect": {"matches": "^right$"}}"#)?;
    let file = directory.path().join("deployment.toml");
    let regions = REGIONS.map(|(region, _)| format!("\"{region}\"")).join(", ");
    let lines = format!(
        "model = \"{}\"\nregions = [{regions}]\n[strategy]\nmax_parallel = \"all\"\nsoak = \"0s\"\n[scale]\n{}\n",
        bundle.display(),
        fleet.scale(quarter)
    );
    fs::write(&file, lines)?;
    Ok(file)
}
