//! Asking a model what it takes and gives, in a child process: a file that crashes ONNX Runtime crashes only that.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
};
use tradewind_api::{Code, Problem};
use tradewind_core::bundle::Signature;

/// A model that has not loaded after so long is refused.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The most bytes of an answer.
const ANSWER_LIMIT: u64 = 4 << 20;
/// The most bytes of complaints that are kept for the log.
const COMPLAINTS_LIMIT: u64 = 16 << 10;

/// What a model says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Inspection {
    pub signature: Signature,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    error: String,
    hint: Option<String>,
}

/// Runs `program inspect --dir DIR --model FILE --file LISTED...`. The child is killed when this takes too long or is
/// dropped.
pub(crate) async fn inspect(
    program: &Path,
    directory: &Path,
    model: &str,
    listed: &[&str],
) -> Result<Inspection, Problem> {
    let mut command = Command::new(program);
    command.arg("inspect").arg("--dir").arg(directory).arg("--model").arg(model);
    for file in listed {
        command.arg("--file").arg(file);
    }
    command.env_remove("TRADEWIND_TOKEN").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match tokio::time::timeout(TIMEOUT, run(command.kill_on_drop(true))).await {
        Ok(Ok(finished)) => finished.judge(model),
        Ok(Err(error)) => {
            let program: PathBuf = program.to_owned();
            tracing::error!(error = &error as &dyn std::error::Error, ?program, "the inspector does not run");
            Err(internal())
        }
        Err(_) => {
            Err(Problem::new(Code::InvalidBundle, format!("{model} did not load within {} s", TIMEOUT.as_secs()))
                .hint("a model that needs longer would hold up every restart of a replica; make it smaller"))
        }
    }
}

struct Finished {
    status: ExitStatus,
    answer: Vec<u8>,
    complaints: Vec<u8>,
}

async fn run(command: &mut Command) -> std::io::Result<Finished> {
    let mut child = command.spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (answer, complaints, status) =
        tokio::join!(bounded(stdout, ANSWER_LIMIT), bounded(stderr, COMPLAINTS_LIMIT), child.wait());
    Ok(Finished { status: status?, answer: answer?, complaints: complaints? })
}

/// Reads to the end, so that the child is not held up, and keeps the beginning.
async fn bounded(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let Some(mut pipe) = pipe else { return Ok(kept) };
    (&mut pipe).take(limit).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok(kept)
}

impl Finished {
    fn judge(self, model: &str) -> Result<Inspection, Problem> {
        use std::os::unix::process::ExitStatusExt;
        if let Some(signal) = self.status.signal() {
            return Err(Problem::new(
                Code::InvalidBundle,
                format!("loading {model} crashed the process that tried it (signal {signal})"),
            )
            .hint("the file is damaged, or uses an operator in a way that ONNX Runtime does not stand"));
        }
        let refusal = || serde_json::from_slice::<Refusal>(&self.answer).ok();
        if self.status.success() {
            if let Ok(inspection) = serde_json::from_slice(&self.answer) {
                return Ok(inspection);
            }
        } else if let Some(refusal) = refusal() {
            let problem = Problem::new(Code::InvalidBundle, refusal.error);
            return Err(match refusal.hint {
                Some(hint) => problem.hint(hint),
                None => problem,
            });
        }
        let complaints = String::from_utf8_lossy(&self.complaints).into_owned();
        tracing::error!(status = %self.status, complaints, "the inspector gave no answer");
        Err(internal())
    }
}

fn internal() -> Problem {
    Problem::new(Code::Internal, "the model could not be inspected").hint("see the control plane's log")
}
