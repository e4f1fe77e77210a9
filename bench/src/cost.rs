//! What metrics and monitors cost a gateway, of all that it does: counted in instructions, since a few in a hundred are
//! less than the time of a core varies by.

mod profile;

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::{process::Command, time::sleep};
use tradewind_testkit::{Host, Part, Roles};

use self::profile::{Calls, Profile};
use crate::{
    client::{Connection, Question},
    failover::first_answer,
    findings, machine,
    progress::{say, until_interrupted},
    repository,
    server::find,
};

const REGION: &str = "us-east1";
const MODEL: &str = "examples/digits/v1";
/// Before anything is counted.
const WARM_UP: usize = 200;
/// For how long nothing but the gateway's own work is counted.
const IDLE: Duration = Duration::from_secs(5);
const SCRAPES: usize = 20;
/// What one core of a gateway passes on in a second, for what does not happen with each request.
const PER_SECOND: f64 = 20_000.0;
/// How often Prometheus asks, as it is exported.
const SCRAPE_INTERVAL: f64 = 15.0;

/// What each request does for metrics, logs and traces.
const RECORDING: [&str; 5] = [
    "tradewind_gateway::metrics::Series::record",
    "tradewind_gateway::proxy::notes::Notes::begin",
    "tradewind_gateway::proxy::notes::Notes::model",
    "tradewind_gateway::proxy::notes::Notes::answered",
    "tradewind_gateway::proxy::notes::Notes::end",
];
const LOOKING: [&str; 2] = ["tradewind_gateway::load::RegionLoad::look", "tradewind_gateway::load::at_once"];
const REPORTING: [&str; 1] = ["tradewind_gateway::report::compose"];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The `tradewind` program
    #[arg(long, value_name = "FILE", default_value = "target/release/tradewind")]
    program: PathBuf,
    /// How many are counted
    #[arg(long, default_value_t = 5000)]
    requests: usize,
    /// Where to put the table, between its markers
    #[arg(long, value_name = "FILE")]
    docs: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(options.requests > 0, "there is nothing to tell of no requests");
    let program = options.program.canonicalize().with_context(|| options.program.display().to_string())?;
    let runtime = tokio::runtime::Runtime::new().context("starting a runtime")?;
    let counted = runtime.block_on(until_interrupted(count(&program, options.requests)))?;
    let text = format!(
        "{}\n\nBy `cargo xtask bench cost`: {} requests, {SCRAPES} scrapes; {}.",
        table(&counted.rows()?),
        options.requests,
        machine::version("valgrind", "--version")?
    );
    println!("{text}");
    match &options.docs {
        Some(docs) => findings::write(docs, "cost", &text, None),
        None => Ok(()),
    }
}

struct Counted {
    requests: usize,
    /// While they came.
    loaded: Profile,
    /// While nothing came.
    idle: Profile,
    /// While it was scraped.
    scraped: Profile,
}

/// A gateway under callgrind, in a real world.
struct Watched {
    roles: Roles,
    pid: u32,
    counts: PathBuf,
    dumps: usize,
}

async fn count(program: &Path, requests: usize) -> Result<Counted> {
    let directory = TempDir::new()?;
    let mut gateway = Watched::start(program, directory.path()).await?;
    let address: SocketAddr = gateway.roles.address(&Part::gateway(REGION))?.parse()?;
    let question = first_answer(&Host::this(), address).await?;
    say("the gateway is warmed up");
    ask(address, &question, WARM_UP).await?;
    gateway.control("--instr=on").await?;
    say("requests are counted");
    ask(address, &question, requests).await?;
    let loaded = gateway.dump().await?;
    say("what happens without requests is counted");
    sleep(IDLE).await;
    let idle = gateway.dump().await?;
    say("scrapes are counted");
    for _ in 0..SCRAPES {
        scrape(address).await?;
    }
    let scraped = gateway.dump().await?;
    Ok(Counted { requests, loaded, idle, scraped })
}

impl Watched {
    async fn start(program: &Path, directory: &Path) -> Result<Self> {
        let counts = directory.join("counts");
        let wrapped = wrap(program, &counts, directory)?;
        let mut roles = Roles::new(wrapped, &Host::this(), &[(REGION, &Host::this())])?;
        roles.start_all().await?;
        let bundle = repository::root()?.join(MODEL);
        let bundle = bundle.to_str().context("the repository's path is no text")?;
        roles.cli_ok(["deploy", bundle, "--name", "digits", "--regions", REGION]).await?;
        let pid = fs::read_to_string(counts.with_extension("pid"))?.trim().parse()?;
        Ok(Self { roles, pid, counts, dumps: 0 })
    }

    async fn control(&self, word: &str) -> Result<()> {
        let output = Command::new(find("callgrind_control")?).arg(word).arg(self.pid.to_string()).output().await?;
        ensure!(output.status.success(), "callgrind_control: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// What was counted since the last time.
    async fn dump(&mut self) -> Result<Profile> {
        self.control("--dump").await?;
        self.dumps += 1;
        let file = self.counts.with_extension(self.dumps.to_string());
        Profile::read(&fs::read_to_string(&file).with_context(|| file.display().to_string())?)
    }
}

/// A program that is ours but for the gateway, which it puts under callgrind.
fn wrap(program: &Path, counts: &Path, directory: &Path) -> Result<PathBuf> {
    let script = format!(
        "#!/bin/sh\n\
         [ \"$1\" = gateway ] || exec '{program}' \"$@\"\n\
         echo $$ > '{counts}.pid'\n\
         exec valgrind --tool=callgrind --instr-atstart=no --callgrind-out-file='{counts}' '{program}' \"$@\"\n",
        program = program.display(),
        counts = counts.display(),
    );
    let file = directory.join("tradewind");
    fs::write(&file, script)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(file)
}

async fn ask(address: SocketAddr, question: &Question, times: usize) -> Result<()> {
    let mut connection = Connection::open(address).await?;
    for _ in 0..times {
        connection.ask(question).await?;
    }
    Ok(())
}

async fn scrape(address: SocketAddr) -> Result<()> {
    let (status, page) = Connection::open(address).await?.get("/metrics").await?;
    ensure!(status.is_success() && !page.is_empty(), "a scrape is answered with {status}");
    Ok(())
}

/// A line of the table.
struct Row {
    what: &'static str,
    /// Each time.
    instructions: f64,
    when: &'static str,
    per_second: f64,
}

impl Counted {
    fn rows(&self) -> Result<Vec<Row>> {
        let recorded = self.loaded.of(&RECORDING)?;
        ensure!(recorded.count >= self.requests as u64, "only {} requests were recorded", recorded.count);
        let each = |names: &[&str]| self.idle.of(names).map(Calls::each);
        let written = self.scraped.of(&["tradewind_gateway::metrics::render::write"])?;
        Ok(vec![
            Row {
                what: "a request, all of it",
                instructions: self.loaded.total as f64 / self.requests as f64,
                when: "",
                per_second: PER_SECOND,
            },
            Row {
                what: "recording it: metrics, access log, trace",
                instructions: recorded.instructions as f64 / self.requests as f64,
                when: "each request",
                per_second: PER_SECOND,
            },
            Row {
                what: "looking at what is in flight",
                instructions: each(&LOOKING)?,
                when: "5 times a second",
                per_second: 5.0,
            },
            Row {
                what: "a report to the control plane",
                instructions: each(&REPORTING)?,
                when: "each second",
                per_second: 1.0,
            },
            Row {
                what: "a scrape",
                instructions: written.instructions as f64 / SCRAPES as f64,
                when: "each 15 s",
                per_second: 1.0 / SCRAPE_INTERVAL,
            },
        ])
    }
}

fn table(rows: &[Row]) -> String {
    let (all, parts) = rows.split_first().expect("there is a first row");
    let whole = all.instructions * all.per_second;
    let share = |row: &Row| row.instructions * row.per_second / whole * 100.0;
    let mut lines = vec![format!("| {} | {:.0} |  |  |", all.what, all.instructions)];
    lines.extend(
        parts
            .iter()
            .map(|row| format!("| {} | {:.0} | {} | {:.3} |", row.what, row.instructions, row.when, share(row))),
    );
    lines.push(format!("| all of it |  |  | {:.2} |", parts.iter().map(share).sum::<f64>()));
    let head = format!("| what | instructions | when | share at {PER_SECOND:.0} requests/s, % |\n|---|--:|---|--:|");
    format!("{head}\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_a_gateway_at_work() {
        let row = |what, instructions, per_second| Row { what, instructions, when: "then", per_second };
        let rows =
            [row("all", 10_000.0, PER_SECOND), row("recording", 100.0, PER_SECOND), row("a look", 2_000_000.0, 1.0)];
        let table = table(&rows);
        assert!(table.contains("| all | 10000 |  |  |\n| recording | 100 | then | 1.000 |"), "{table}");
        assert!(table.ends_with("| a look | 2000000 | then | 1.000 |\n| all of it |  |  | 2.00 |"), "{table}");
    }
}
