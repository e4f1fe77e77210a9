//! A model's replicas on this machine, under load: what `tune` compares and `optimize` reports.

mod local;
mod question;

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;
use tradewind_core::{
    ModelName,
    histogram::Histogram,
    inference::{InferRequest, InferResponse},
    tune::{Measured, Setup},
};

use crate::failure::Failure;

pub(crate) use self::{
    local::Local,
    question::{HEADER_LENGTH, Question},
};

/// A replica has loaded its model by then.
const READY_LIMIT: Duration = Duration::from_secs(120);
const READY_INTERVAL: Duration = Duration::from_millis(20);
/// What comes in this part of a measurement is left out: connections open, batches and caches settle.
const SETTLING: f64 = 0.2;

/// Replicas of one setup; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Served {
    setup: Setup,
    replicas: Vec<Child>,
    addresses: Vec<SocketAddr>,
}

impl Served {
    /// Starts replicas of the bundle in `directory`, and waits until all are ready.
    pub(crate) async fn start(local: &Local, directory: &Path, setup: Setup) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| failed("cannot find this program", &error))?;
        let mut served = Self { setup, replicas: Vec::new(), addresses: Vec::new() };
        for number in 0..setup.replicas {
            let address = free_address().map_err(|error| failed("cannot find a free port", &error))?;
            let child = command(&program, local, directory, setup, number, address).spawn();
            served.replicas.push(child.map_err(|error| failed("cannot start a replica", &error))?);
            served.addresses.push(address);
        }
        for (replica, address) in served.replicas.iter_mut().zip(&served.addresses) {
            ready(replica, *address).await?;
        }
        Ok(served)
    }

    /// Resident memory of all replicas, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let resident = |child: &Child| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()?)).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        };
        self.replicas.iter().filter_map(resident).sum::<u64>() << 10
    }

    /// What the model answers to these requests, one after the other; `None` for one that it refuses.
    pub(crate) async fn answers(
        &self,
        model: &ModelName,
        requests: impl Iterator<Item = &InferRequest>,
    ) -> Result<Vec<Option<InferResponse>>, Failure> {
        let mut connection = Connection::open(self.addresses[0]).await?;
        let mut answers = Vec::new();
        for request in requests {
            let body = serde_json::to_vec(request).map_err(|error| failed("a request cannot be written", &error))?;
            let post = Request::post(format!("/v2/models/{model}/infer")).body(Full::new(body.into()));
            let (status, body) = connection.send(post).await?;
            answers.push(if status == StatusCode::OK { serde_json::from_slice(&body).ok() } else { None });
        }
        Ok(answers)
    }

    /// So many clients ask as long as `duration` says, each again as soon as it is answered.
    pub(crate) async fn load(
        &self,
        question: &Question,
        clients: u32,
        duration: Duration,
    ) -> Result<Measured, Failure> {
        let began = Instant::now();
        let (from, until) = (began + duration.mul_f64(SETTLING), began + duration);
        let mut asking = JoinSet::new();
        for client in 0..clients as usize {
            let address = self.addresses[client % self.addresses.len()];
            asking.spawn(ask(address, question.clone(), from, until));
        }
        let mut latencies = Histogram::default();
        while let Some(asked) = asking.join_next().await {
            match asked {
                Ok(asked) => latencies.add(&asked?),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        let micros = |quantile| latencies.quantile(quantile).map_or(0, |time| time.as_micros() as u64);
        if latencies.is_empty() {
            let message = format!("no answer came within {:.1} s", duration.as_secs_f64());
            return Err(Failure::failed(message).hint("measure for longer with --duration"));
        }
        Ok(Measured {
            setup: self.setup,
            clients,
            throughput: latencies.count() as f64 / (until - from).as_secs_f64(),
            p50_us: micros(0.5),
            p99_us: micros(0.99),
        })
    }
}

fn command(program: &Path, local: &Local, directory: &Path, setup: Setup, number: u32, address: SocketAddr) -> Command {
    let Setup { threads, max_batch_rows, .. } = setup;
    let mut command = Command::new(program);
    command
        .args(["replica", "--id", &format!("measured-{number}"), "--model", local.name().as_str()])
        .args(["--version", &local.version.version.to_string(), "--bundle"])
        .arg(directory)
        .args(["--model-file", &local.version.manifest.model, "--threads", &threads.to_string()])
        .args(["--batch", if max_batch_rows > 1 { "auto" } else { "off" }])
        .args(["--max-batch-rows", &max_batch_rows.to_string(), "--listen", &address.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Nobody listens there now. Somebody may before the replica does: then it ends, and that is said.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

async fn ready(replica: &mut Child, address: SocketAddr) -> Result<(), Failure> {
    let began = Instant::now();
    while began.elapsed() < READY_LIMIT {
        if let Ok(Some(status)) = replica.try_wait() {
            return Err(Failure::failed(format!("a replica ended while it was starting: {status}"))
                .hint("see why with `tradewind models push`, or deploy it and look at its logs"));
        }
        if let Ok(mut connection) = Connection::open(address).await
            && connection.is_ready().await
        {
            return Ok(());
        }
        tokio::time::sleep(READY_INTERVAL).await;
    }
    Err(Failure::failed(format!("a replica was not ready after {} s", READY_LIMIT.as_secs())))
}

/// How long each answer took that came in the measured time.
async fn ask(address: SocketAddr, question: Question, from: Instant, until: Instant) -> Result<Histogram, Failure> {
    let mut connection = Connection::open(address).await?;
    let mut latencies = Histogram::default();
    loop {
        let asked = Instant::now();
        if asked >= until {
            return Ok(latencies);
        }
        connection.ask(&question).await?;
        let answered = Instant::now();
        if answered >= from && answered < until {
            latencies.record(answered - asked);
        }
    }
}

/// A kept connection to a replica.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self, Failure> {
        let lost = |error: &dyn std::error::Error| failed("cannot reach a replica", error);
        let stream = TcpStream::connect(address).await.map_err(|error| lost(&error))?;
        stream.set_nodelay(true).map_err(|error| lost(&error))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
        // How it ends is told to whoever waits for an answer.
        let driver = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
        Ok(Self { sender, _driver: driver })
    }

    async fn is_ready(&mut self) -> bool {
        let sent = self.send(Request::get("/v2/health/ready").body(Full::default())).await;
        sent.is_ok_and(|(status, _)| status == StatusCode::OK)
    }

    async fn ask(&mut self, question: &Question) -> Result<(), Failure> {
        let post = Request::post(&question.path).header(HEADER_LENGTH, question.header_length);
        let (status, body) = self.send(post.body(Full::new(question.body.clone()))).await?;
        if status == StatusCode::OK {
            return Ok(());
        }
        let said: String = String::from_utf8_lossy(&body).chars().take(500).collect();
        Err(Failure::failed("the model does not answer its golden case").cause(format!("{status}: {said}")))
    }

    async fn send(&mut self, request: http::Result<Request<Full<Bytes>>>) -> Result<(StatusCode, Bytes), Failure> {
        let lost = |error: hyper::Error| failed("a replica was lost", &error);
        let mut request = request.map_err(|error| failed("a request cannot be sent", &error))?;
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("replica"));
        self.sender.ready().await.map_err(lost)?;
        let response = self.sender.send_request(request).await.map_err(lost)?;
        let status = response.status();
        Ok((status, response.into_body().collect().await.map_err(lost)?.to_bytes()))
    }
}

fn failed(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::failed(what.to_owned()).cause(error.to_string())
}
