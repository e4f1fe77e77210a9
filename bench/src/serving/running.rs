//! Each server with one model, on the measured core, as its documentation has it for one core.

use std::{
    collections::BTreeMap,
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tradewind_testkit::Host;

use super::{
    contender::{Contender, Model, Route},
    question::{MODEL, Question},
};
use crate::{
    cores::Cores,
    memory::proportional_kib,
    repository,
    server::{Launch, Server, free_address},
};

/// Ray takes a quarter of it on one core.
const START_LIMIT: Duration = Duration::from_secs(90);

/// What servers are made of.
#[derive(Debug)]
pub(super) struct Kit {
    /// The `tradewind` binary.
    pub program: PathBuf,
    /// Where the models are.
    pub models: PathBuf,
    /// Virtual environments.
    pub homes: BTreeMap<Contender, PathBuf>,
    /// Where Triton's wheel is unpacked.
    pub triton: Option<PathBuf>,
}

/// Dropping it kills it.
#[derive(Debug)]
pub(super) struct Running {
    server: Server,
    http: SocketAddr,
    grpc: SocketAddr,
}

impl Running {
    /// Starts a server in a folder of its own, and waits until it gives the right answer.
    pub(super) async fn start(
        kit: &Kit,
        cores: &Cores,
        contender: Contender,
        model: Model,
        directory: &Path,
        scores: &[f32],
    ) -> Result<Self> {
        let http = free_address()?;
        // Tradewind's has one port for all.
        let grpc = if contender == Contender::Tradewind { http } else { free_address()? };
        let launch = kit.launch(contender, model, http, grpc)?;
        let visit = cores.visit()?;
        let server = Server::launched(&Host::this(), directory, launch, &[])?;
        drop(visit);
        let mut running = Self { server, http, grpc };
        let (server, http) = (&mut running.server, running.http);
        let right = || async move { check(http, contender, Route::Json, model, scores).await };
        server.ready_when(START_LIMIT, right).await?;
        for &route in contender.routes() {
            check(running.address(route), contender, route, model, scores).await?;
        }
        running.server.pids()?.into_iter().try_for_each(|pid| cores.check(pid))?;
        Ok(running)
    }

    pub(super) fn address(&self, route: Route) -> SocketAddr {
        if route == Route::Grpc { self.grpc } else { self.http }
    }

    /// Of all its processes.
    pub(super) fn memory_kib(&self) -> Result<u64> {
        proportional_kib(&self.server.pids()?)
    }
}

/// Fails unless the answer is, bit for bit, what ONNX Runtime says without a server.
pub(super) async fn check(
    address: SocketAddr,
    contender: Contender,
    route: Route,
    model: Model,
    expected: &[f32],
) -> Result<()> {
    let question = Question::of(contender, route, model);
    let answer = question.ask(address).await?;
    if route == Route::Health {
        return Ok(());
    }
    let scores = question.scores(&answer, model)?;
    ensure!(scores == expected, "asked by {}, it answers {scores:?} instead of {expected:?}", route.name());
    Ok(())
}

impl Kit {
    fn launch(&self, contender: Contender, model: Model, http: SocketAddr, grpc: SocketAddr) -> Result<Launch> {
        let services = repository::root()?.join("bench/serving");
        let file = |path: PathBuf| path.display().to_string();
        let own = services.join(contender.key());
        let (service, port) = (file(own.join("service.py")), http.port().to_string());
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (program, arguments, more) = match contender {
            Contender::Tradewind => {
                let bundle = file(self.models.clone());
                let mut arguments = words(&["replica", "--id", "bench", "--model", MODEL, "--version", "1"]);
                arguments.extend(words(&["--bundle", &bundle, "--model-file", model.file(), "--threads", "1"]));
                arguments.extend(words(&["--listen", &http.to_string()]));
                (self.program.clone(), arguments, Vec::new())
            }
            Contender::Triton => {
                let home = file(self.triton.clone().context("its wheel is not unpacked")?);
                let start = file(own.join("start.py"));
                let ports = ["--http-port", &port, "--grpc-port", &grpc.port().to_string()];
                let mut arguments = words(&[&start, "--home", &home]);
                arguments.extend(words(&ports));
                let modules = format!("{}:{}", services.display(), repository::root()?.join("tests/python").display());
                (self.program_of(contender, "python")?, arguments, vec![("PYTHONPATH", modules)])
            }
            Contender::Mlserver => {
                let environment = vec![
                    ("MLSERVER_HTTP_PORT", port),
                    ("MLSERVER_GRPC_PORT", grpc.port().to_string()),
                    ("PYTHONPATH", format!("{}:{}", services.display(), own.display())),
                ];
                (self.program_of(contender, "mlserver")?, vec!["start".to_owned(), file(own)], environment)
            }
            Contender::Kserve => {
                let ports = ["--http_port", &port, "--grpc_port", &grpc.port().to_string()];
                let quiet = ["--workers", "1", "--enable_latency_logging", "false"];
                let arguments = [words(&[&service]), words(&ports), words(&quiet)].concat();
                (self.program_of(contender, "python")?, arguments, Vec::new())
            }
            Contender::Bentoml => {
                let mut arguments = words(&["serve", "service:OnnxModel", "--host", "127.0.0.1", "--port", &port]);
                arguments.extend(words(&["--working-dir", &file(own)]));
                let environment = vec![
                    ("BENTOML_DO_NOT_TRACK", "True".to_owned()),
                    ("BENTOML_CONFIG_OPTIONS", "api_server.logging.access.enabled=false".to_owned()),
                ];
                (self.program_of(contender, "bentoml")?, arguments, environment)
            }
            Contender::Ray => {
                let environment = vec![
                    ("SERVING_PORT", port),
                    ("RAY_USAGE_STATS_ENABLED", "0".to_owned()),
                    ("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1".to_owned()),
                    ("RAY_SERVE_ENABLE_HA_PROXY", "1".to_owned()),
                ];
                (self.program_of(contender, "python")?, vec![service], environment)
            }
            Contender::Litserve => (self.program_of(contender, "python")?, vec![service], vec![("SERVING_PORT", port)]),
            Contender::Loop => bail!("the loop is no server"),
        };
        let mut environment = vec![
            ("SERVING_MODEL", file(self.models.join(model.file()))),
            ("OMP_NUM_THREADS", "1".to_owned()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
            ("PYTHONPATH", file(services)),
        ];
        // What is named last counts.
        environment.extend(more);
        Ok(Launch { program, arguments, environment })
    }

    /// Of a contender's virtual environment.
    fn program_of(&self, contender: Contender, program: &str) -> Result<PathBuf> {
        Ok(self.homes.get(&contender).context("it has no environment")?.join("bin").join(program))
    }

    /// Everything that has to be on the disk for it.
    pub(super) fn installed(&self, contender: Contender) -> Result<Vec<PathBuf>> {
        let library = || env::var_os("ORT_DYLIB_PATH").map(PathBuf::from).context("ORT_DYLIB_PATH is not set");
        Ok(match contender {
            Contender::Tradewind => vec![self.program.clone(), library()?],
            Contender::Loop => vec![library()?],
            Contender::Triton => self.homes.get(&contender).into_iter().chain(&self.triton).cloned().collect(),
            other => self.homes.get(&other).into_iter().cloned().collect(),
        })
    }
}
