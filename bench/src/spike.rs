//! Ten times as much load as there is capacity: what is still served, how fast that is, how soon the rest is refused, and how
//! long it takes afterwards. Tradewind and HAProxy, before the same upstreams, in turns.

mod figures;
mod report;
mod scene;
pub(crate) mod upstream;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use self::{
    figures::{Figures, Taken},
    report::Row,
    scene::{Scene, Setting},
};
use crate::{
    contender::{Contender, turns},
    findings, machine,
    progress::{say, until_interrupted},
    stall,
    users::Users,
};

/// Of one region's capacity, before and after the spike, and in it.
const USUAL: f64 = 0.8;
const SPIKE: f64 = 10.0;
/// Who has no answer by then gives up: well above how long either proxy lets a request wait.
const DEADLINE: Duration = Duration::from_secs(2);
const CONTENDERS: [Contender; 2] = [Contender::Tradewind, Contender::Haproxy];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The `tradewind` program
    #[arg(long, value_name = "FILE", default_value = "target/release/tradewind")]
    program: PathBuf,
    /// Times that each contender has its turn; the median is told, with the least and the greatest
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long the spike lasts, and as long before and after
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Only these
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Setting::ALL)]
    only: Vec<Setting>,
    /// Whether it all works, in a minute: one round of four seconds
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Where to put the table, between its markers
    #[arg(long, value_name = "FILE")]
    docs: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let (rounds, seconds) = if options.quick { (1, 4) } else { (options.rounds, options.seconds) };
    ensure!(rounds > 0 && seconds > 0, "there is nothing to tell of no runs");
    machine::allow_open_files()?;
    let program = options.program.canonicalize().with_context(|| options.program.display().to_string())?;
    let runtime = tokio::runtime::Runtime::new().context("starting a runtime")?;
    let time = Duration::from_secs(seconds);
    let rows = runtime.block_on(until_interrupted(measure(&program, &options.only, rounds, time)))?;
    let how = if options.only == Setting::ALL && !options.quick { "" } else { ", some of it" };
    let caption = format!(
        "By `cargo xtask bench spike`{how}: {rounds} rounds of three times {seconds} s. {}; {}.",
        machine::describe(),
        machine::version("haproxy", "-v")?
    );
    let text = format!("{}\n\n{}\n\n{caption}", report::table(&rows), report::verdict(&rows));
    println!("{text}");
    match &options.docs {
        Some(docs) => findings::write(docs, "spike", &text, None),
        None => Ok(()),
    }
}

async fn measure(program: &Path, settings: &[Setting], rounds: usize, time: Duration) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for setting in settings {
        let mut of_setting = CONTENDERS.map(|contender| Row::new(*setting, contender));
        for round in 0..rounds {
            for contender in turns(&CONTENDERS, round) {
                let take = async || take(program, *setting, contender, time).await;
                let taken = stall::retake(take, |taken| taken.late).await.with_context(|| contender.name())?;
                let figures = Figures::of(&taken, time);
                say(&format!("{}, round {}: {}: {figures}", setting.label(), round + 1, contender.name()));
                for row in of_setting.iter_mut().filter(|row| row.contender == contender) {
                    row.add(figures);
                }
            }
        }
        rows.extend(of_setting);
    }
    Ok(rows)
}

/// One spike, in a new world.
async fn take(program: &Path, setting: Setting, contender: Contender, time: Duration) -> Result<Taken> {
    let scene = Scene::start(program, setting, contender).await?;
    let peak = scene.peak().await?;
    let usual = scene::CAPACITY * USUAL;
    let users = |per_second: f64| {
        let (entries, question) = (vec![scene.door], scene.question.clone());
        #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a rate")]
        let per_second = per_second as u32;
        Users { entries, question, count: 1, per_second, patience: DEADLINE }.start()
    };
    let usually = users(usual);
    sleep(time).await;
    let began = Instant::now();
    let spike = users(scene::CAPACITY * SPIKE - usual);
    sleep(time).await;
    // As seen by the users: what is still under way then is waited for below.
    let ended = Instant::now();
    let rest = spike.stop();
    let (rest, ()) = tokio::join!(rest, sleep(time));
    let (usual, extra) = (usually.stop().await?, rest?);
    let late = usual.late.max(extra.late);
    Ok(Taken { peak, began, ended, usual: usual.samples, extra: extra.samples, late })
}
