//! Tradewind's gateway against nginx and HAProxy: in one run, before the same upstreams, on the same core, in turns.
//!
//! What counts is the time of the core, interrupts included, and not what a process is charged for. Answers are checked
//! while they are counted: a run with a wrong one is no result.

mod calls;
mod idle;
mod latency;
mod open_loop;
mod report;
mod saturation;
mod scene;
mod tokens;
mod upstreams;
mod world;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};

use self::{calls::Measured, report::Row, scene::Scene, world::Kit};
use crate::{
    cores::Cores,
    findings, machine,
    progress::{say, until_interrupted},
    repository,
};

/// Beside the document.
const PLOT: &str = "![Tradewind's gateway against nginx and HAProxy](benchmarks/gateway.svg)";
/// In percent of the core's time: more than what idle proxies and their health checks take.
const BACKGROUND_LIMIT: f64 = 5.0;
const IDLE_ROUNDS: usize = 3;
const IDLE_CONNECTIONS: usize = 2000;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The `tradewind` program, built as it ships
    #[arg(long, value_name = "FILE", default_value = "target/release/tradewind")]
    program: PathBuf,
    /// Times that each contender has its turn; the median is told, with the least and the greatest
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// How long a turn takes
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::ALL)]
    only: Vec<Part>,
    /// Whether it all works, in a minute: two rounds of one second
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Where to put the table (between its markers) and, beside it, the plot
    #[arg(long, value_name = "FILE")]
    docs: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// As many requests as go through
    Saturation,
    /// Latency at half of that
    Latency,
    /// Memory of idle connections
    Idle,
    /// Streams of tokens
    Tokens,
    /// gRPC calls
    Calls,
}

impl Part {
    const ALL: [Self; 5] = [Self::Saturation, Self::Latency, Self::Idle, Self::Tokens, Self::Calls];
}

/// How long all of it takes.
#[derive(Debug, Clone, Copy)]
struct Effort {
    rounds: usize,
    time: Duration,
    idle_rounds: usize,
}

impl Options {
    fn effort(&self) -> Effort {
        if self.quick {
            return Effort { rounds: 2, time: Duration::from_secs(1), idle_rounds: 1 };
        }
        let time = Duration::from_secs(self.seconds);
        let idle_rounds = self.rounds.min(IDLE_ROUNDS);
        Effort { rounds: self.rounds, time, idle_rounds }
    }

    /// Figures of a core that others use too are worth nothing.
    fn judge(&self, background: f64) -> Result<()> {
        say(&format!("with nothing to do, the proxies' core is busy for {background:.1} % of the time"));
        let quiet = background <= BACKGROUND_LIMIT;
        ensure!(quiet || self.quick, "the machine is busy with something else; `--quick` does not mind");
        Ok(())
    }

    fn wants(&self, part: Part) -> bool {
        self.only.contains(&part)
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let effort = options.effort();
    ensure!(effort.rounds > 0 && !effort.time.is_zero(), "there is nothing to tell of no runs");
    machine::allow_open_files()?;
    // Before there is any other thread: they all stay off the proxies' core.
    let cores = Cores::divide()?;
    let servers = tokio::runtime::Runtime::new().context("starting a runtime")?;
    let kit = Kit {
        program: options.program.canonicalize().with_context(|| options.program.display().to_string())?,
        root: repository::root()?,
        servers: servers.handle().clone(),
    };
    // Of this thread alone, since what it starts inherits its cores.
    let main = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    let (rows, skipped) = main.block_on(until_interrupted(measure(options, effort, &kit, &cores)))?;
    let text = [report::table(&rows)].into_iter().chain(skipped).chain([caption(options, effort, &cores)?]);
    let text = text.collect::<Vec<_>>().join("\n\n");
    println!("{text}");
    match &options.docs {
        Some(docs) => findings::write(docs, "gateway", &format!("{text}\n\n{PLOT}"), Some(&report::plot(&rows))),
        None => Ok(()),
    }
}

/// All rows, and what was left out.
async fn measure(options: &Options, effort: Effort, kit: &Kit, cores: &Cores) -> Result<(Vec<Row>, Option<String>)> {
    let Effort { rounds, time, idle_rounds } = effort;
    let (mut rows, mut skipped) = (Vec::new(), None);
    if options.wants(Part::Saturation)
        || options.wants(Part::Idle)
        || options.wants(Part::Tokens)
        || options.wants(Part::Calls)
    {
        say("a world with the benchmark's own upstreams starts");
        let mut scene = Scene::of_upstreams(kit, cores).await?;
        options.judge(scene.background().await?)?;
        if options.wants(Part::Saturation) {
            rows.extend(saturation::measure(&scene, &kit.root, "plain upstream", rounds, time).await?);
        }
        if options.wants(Part::Tokens) {
            rows.extend(tokens::measure(&scene, kit, rounds, time).await?);
        }
        if options.wants(Part::Calls) {
            match calls::measure(&scene, rounds, time).await? {
                Measured::Rows(found) => rows.extend(found),
                Measured::Skipped(why) => skipped = Some(why),
            }
        }
        if options.wants(Part::Idle) {
            rows.extend(idle::measure(&mut scene, idle_rounds, IDLE_CONNECTIONS).await?);
        }
    }
    if options.wants(Part::Saturation) || options.wants(Part::Latency) {
        say("a world with a real replica starts");
        let scene = Scene::of_replica(kit, cores).await?;
        options.judge(scene.background().await?)?;
        let rounds_of_saturation = if options.wants(Part::Saturation) { rounds } else { 1 };
        let found = saturation::measure(&scene, &kit.root, "replica", rounds_of_saturation, time).await?;
        let per_second = latency::half_load(&found[1]);
        if options.wants(Part::Saturation) {
            rows.extend(found);
        }
        if options.wants(Part::Latency) {
            rows.extend(latency::measure(&scene, "replica", per_second, rounds, time).await?);
        }
    }
    Ok((rows, skipped))
}

/// How this was measured, and on what.
fn caption(options: &Options, effort: Effort, cores: &Cores) -> Result<String> {
    let complete = options.only == Part::ALL && !options.quick;
    let how = if complete { "" } else { ", some of it" };
    Ok(format!(
        "By `cargo xtask bench gateway`{how}: {} rounds of {} s. {}; {} and {}, all of them on core {} alone and the rest on the others.",
        effort.rounds,
        effort.time.as_secs(),
        machine::describe(),
        machine::version("nginx", "-v")?,
        machine::version("haproxy", "-v")?,
        cores.measured()
    ))
}
