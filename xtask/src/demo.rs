//! `cargo xtask demo`: a world of real processes on this machine, a real model, and things going wrong on purpose.
//! Every promise that is shown is also checked; one that does not hold ends the demo with a loud failure.

mod acts;
mod failures;
mod picture;
mod screen;
mod stage;
mod verdict;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{onnxruntime, workspace::Workspace};
use screen::{Screen, seconds};
use stage::Stage;

/// As a shell reports a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave a world running at the end, and say where it is and how to stop it
    #[arg(long)]
    keep: bool,
    /// Port of control; gateways listen on this + 10 and up [default: ports that are free]
    #[arg(long, value_name = "N")]
    port_base: Option<u16>,
    /// Show this binary, instead of building one
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Draw what is shown as an SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let mut screen = Screen::new(options.svg.is_some());
    screen.title("Tradewind: three regions on this machine, a real model, and things going wrong on purpose");
    let program = match &options.program {
        Some(program) => std::path::absolute(program).context("finding the binary")?,
        None => build(workspace, &mut screen)?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let code = runtime.block_on(perform(workspace, options, program, &mut screen))?;
    if let Some(path) = &options.svg {
        std::fs::write(path, picture::draw(screen.filmed())).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(code)
}

fn build(workspace: &Workspace, screen: &mut Screen) -> Result<PathBuf> {
    screen.text("ONNX Runtime: fetching it, unless it is here already");
    let began = Instant::now();
    onnxruntime::prepare(workspace)?;
    screen.text(&format!("ONNX Runtime is ready after {}", seconds(began.elapsed())));
    screen.text("tradewind: building the release binary; the first time takes some minutes");
    let began = Instant::now();
    let mut cargo = workspace.cargo();
    // Its progress is shown as it is.
    let status = cargo.args(["build", "--release", "--package", "tradewind"]).status().context("starting cargo")?;
    anyhow::ensure!(status.success(), "tradewind does not build");
    screen.text(&format!("tradewind is built after {}", seconds(began.elapsed())));
    Ok(workspace.target().join("release/tradewind"))
}

/// The whole show. Whatever way it ends, nothing of it runs on, unless it was asked to.
async fn perform(workspace: &Workspace, options: &Options, program: PathBuf, screen: &mut Screen) -> Result<ExitCode> {
    let began = Instant::now();
    let mut stage = tokio::select! {
        stage = Stage::open(workspace, program, options.port_base, screen) => stage?,
        () = interrupted() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let played = tokio::select! {
        played = acts::play(&mut stage, screen) => Some(played),
        () = interrupted() => None,
    };
    screen.text("");
    screen.text("stopping everything");
    stage.close().await?;
    let Some(played) = played else {
        screen.text("interrupted; nothing is left running");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    // An act that could not be played to its end is a promise that did not hold.
    let verdict = played?;
    let kept = verdict.show(screen, began.elapsed());
    if options.keep && kept {
        stage.leave_running(screen).await?;
    }
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// The regions of the demo, and whose users suffer.
const REGIONS: [&str; 3] = ["us-east1", "europe-west1", "asia-northeast1"];
const VICTIM: &str = "us-east1";
/// The region that is nearest to the victim.
const NEAREST: &str = "europe-west1";
const USERS_PER_GATEWAY: usize = 4;
/// Between an answer and the same user's next request.
const THINKING: Duration = Duration::from_millis(10);
