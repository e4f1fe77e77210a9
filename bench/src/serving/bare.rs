//! ONNX Runtime in a loop, with nothing around it, in a process of its own: what no server of it can exceed. The session
//! is opened as the replica opens its own.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use ort::{
    session::{Session, builder::GraphOptimizationLevel},
    value::Tensor,
};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::contender::Model;
use crate::{cores::Cores, spread::quantile};

const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";
const WARM_UP: Duration = Duration::from_millis(300);

/// The process.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    models: PathBuf,
    #[arg(long, value_enum)]
    model: Model,
    /// Images of one inference
    #[arg(long)]
    batch: usize,
    #[arg(long)]
    millis: u64,
}

/// What it prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Figures {
    pub images_per_second: f64,
    /// Of an inference.
    pub p50: Duration,
    pub p99: Duration,
    /// Of the first image.
    pub scores: Vec<f32>,
    /// In KiB.
    pub memory: u64,
}

/// Starts one on the measured core, and waits for its end.
pub(super) async fn measure(
    cores: &Cores,
    models: &Path,
    model: Model,
    batch: usize,
    time: Duration,
) -> Result<Figures> {
    let mut command = Command::new(env::current_exe().context("asking where this program is")?);
    command
        .args(["serving-loop", "--model", model.name()])
        .args(["--batch", &batch.to_string(), "--millis", &time.as_millis().to_string()])
        .arg("--models")
        .arg(models)
        .kill_on_drop(true);
    let visit = cores.visit()?;
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("starting the loop")?;
    drop(visit);
    let output = child.wait_with_output().await.context("waiting for the loop")?;
    ensure!(output.status.success(), "the loop failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("reading what the loop found")
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let figures = figures(options)?;
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

fn figures(options: &Options) -> Result<Figures> {
    let Options { models, model, batch, millis } = options;
    let mut session = open(&models.join(model.file()))?;
    let images: Vec<f32> = (0..*batch).flat_map(|number| model.image(number)).collect();
    let shape: Vec<usize> = [*batch].iter().chain(model.shape()).copied().collect();
    let images = Tensor::from_array((shape, images)).map_err(told)?;
    let mut infer = || -> Result<Vec<f32>> {
        let outputs = session.run(ort::inputs![&images]).map_err(told)?;
        Ok(outputs[0].try_extract_tensor::<f32>().map_err(told)?.1[..model.classes()].to_vec())
    };
    let warm = Instant::now() + WARM_UP;
    while Instant::now() < warm {
        infer()?;
    }
    let (began, time) = (Instant::now(), Duration::from_millis(*millis));
    let (mut times, mut scores) = (Vec::new(), Vec::new());
    while began.elapsed() < time {
        let asked = Instant::now();
        scores = infer()?;
        times.push(asked.elapsed());
    }
    let images_per_second = (times.len() * batch) as f64 / began.elapsed().as_secs_f64();
    times.sort_unstable();
    let memory = crate::memory::proportional_kib(&[std::process::id()])?;
    Ok(Figures { images_per_second, p50: quantile(&times, 0.5), p99: quantile(&times, 0.99), scores, memory })
}

fn open(file: &Path) -> Result<Session> {
    let library = env::var(LIBRARY_VARIABLE).with_context(|| format!("{LIBRARY_VARIABLE} is not set"))?;
    let environment = ort::init_from(library).map_err(told)?.with_telemetry(false).build().map_err(told)?;
    let session = || {
        Session::builder(&environment)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .commit_from_file(file)
    };
    session().map_err(told)
}

/// Its errors know no threads.
fn told(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}
