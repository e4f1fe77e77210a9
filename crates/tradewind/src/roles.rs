//! The entry points of the roles: each a process of its own, ended by SIGTERM or SIGINT.

mod repository;

use std::{
    collections::BTreeMap,
    future::Future,
    io::IsTerminal,
    net::{SocketAddr, TcpListener},
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tradewind_core::{
    ModelName, RegionName, VersionNumber,
    batch::{BatchMode, BatchOptions, ROWS_LIMIT},
    causes::{causes, chain},
};
use tradewind_replica::ModelOptions;
use tradewind_traces::Exporter;

use crate::{
    failure::Failure,
    traces::{self, TracesArgs},
};

/// Run a control plane: the API, the store, the reconcilers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind control --data-dir /var/lib/tradewind --regions us-east1,europe-west1
  tradewind control --data-dir ./control --listen 127.0.0.1:7400")]
pub(crate) struct ControlArgs {
    /// Where the store, the artifacts and the secret are kept
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Address to listen on
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7400")]
    listen: SocketAddr,
    /// Regions to make sure of, separated by commas
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    regions: Vec<RegionName>,
    /// For tests of recovery: kill this process when it has committed so many transactions
    #[arg(long, hide = true)]
    kill_after_commits: Option<u64>,
}

/// What agents and gateways have in common.
#[derive(Debug, clap::Args)]
struct MemberArgs {
    /// The region that this process belongs to
    #[arg(long, value_name = "REGION")]
    region: RegionName,
    /// Address of the control plane
    #[arg(long, value_name = "URL", default_value = crate::settings::DEFAULT_URL)]
    control: String,
    /// File with the token of this role and region, as `tradewind token issue` prints it
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// Where the last good state is kept
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// host:port under which others reach this process, if it is not the address that it listens on
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
}

/// Run the agent of a region: fetch models, supervise replicas, verify them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind agent --region us-east1 --control http://10.0.0.1:7400 --token-file agent.token --data-dir ./agent
  tradewind agent --region us-east1 --token-file agent.token --data-dir ./agent --listen 10.0.1.1:7500")]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    member: MemberArgs,
    /// Address to listen on; port 0 takes a free one and keeps it over restarts
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// Run a gateway of a region: the entry of its users
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind gateway --region us-east1 --control http://10.0.0.1:7400 --token-file gateway.token --data-dir ./gateway
  tradewind gateway --region us-east1 --token-file gateway.token --data-dir ./gateway --listen 10.0.1.1:7410 --tls-cert chain.pem --tls-key key.pem")]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    member: MemberArgs,
    /// Address to listen on, unless a listening socket is inherited (LISTEN_FDS)
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7410")]
    listen: SocketAddr,
    /// Take requests with TLS too, on the same port: this certificate, and those that lead to it, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, as PEM; both files are read again when they change
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Honour the header x-tradewind-client-region of requests
    #[arg(long)]
    trust_client_region: bool,
    /// The header in which requests have their user's key [default: x-tradewind-user]
    #[arg(long, value_name = "NAME", conflicts_with = "user_cookie", value_parser = tradewind_gateway::UserKey::header)]
    user_header: Option<tradewind_gateway::UserKey>,
    /// The cookie in which requests have their user's key, instead of a header
    #[arg(long, value_name = "NAME", value_parser = tradewind_gateway::UserKey::cookie)]
    user_cookie: Option<tradewind_gateway::UserKey>,
    /// Give clients the epoch of their answers as the cookie tradewind-epoch, and heed it like the header x-tradewind-epoch
    #[arg(long)]
    epoch_cookie: bool,
    /// Threads that serve requests [default: one for each core that the process may use]
    #[arg(long, value_name = "N")]
    workers: Option<std::num::NonZeroU16>,
    /// Reach the gateways of a region through another address
    #[arg(long, value_name = "REGION=HOST:PORT", value_parser = parse_link)]
    link: Vec<(RegionName, String)>,
    /// Log requests as lines of JSON to a file, or to stdout with `-`
    #[arg(long, value_name = "PATH", env = "TRADEWIND_ACCESS_LOG")]
    access_log: Option<PathBuf>,
    /// The part of the requests that is logged, from 0 to 1; those that failed on this side always are
    #[arg(long, value_name = "PART", env = "TRADEWIND_ACCESS_LOG_SAMPLE", default_value = "0.01", value_parser = parse_part)]
    access_log_sample: f64,
    /// The part of the requests without a trace that begin one, from 0 to 1, where traces are sent anywhere
    #[arg(long, value_name = "PART", env = "OTEL_TRACES_SAMPLER_ARG", default_value = "0", value_parser = parse_part)]
    trace_sample: f64,
}

/// Run a model server
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind replica --repository ./models --listen 127.0.0.1:8000
  tradewind replica --model digits --version 1 --bundle ./digits --listen 127.0.0.1:8000")]
pub(crate) struct ReplicaArgs {
    /// What it is called where there are several
    #[arg(long, default_value = "replica")]
    id: String,
    /// Serve all bundles and .onnx files of a directory; clients load and unload them
    #[arg(long, value_name = "DIR", required_unless_present = "bundle", conflicts_with_all = ["model", "version", "bundle", "model_file", "case"])]
    repository: Option<PathBuf>,
    /// Directory of the one bundle to serve
    #[arg(long, value_name = "DIR", requires_all = ["model", "version"])]
    bundle: Option<PathBuf>,
    /// Its name
    #[arg(long, value_name = "NAME")]
    model: Option<ModelName>,
    /// Its version
    #[arg(long, value_name = "N")]
    version: Option<VersionNumber>,
    /// Its model, relative to the bundle
    #[arg(long, value_name = "FILE", default_value = "model.onnx")]
    model_file: String,
    /// A golden case to warm the model up on, relative to the bundle
    #[arg(long, value_name = "FILE")]
    case: Vec<String>,
    /// Threads of ONNX Runtime for one inference
    #[arg(long, value_name = "N", default_value = "1")]
    threads: NonZeroUsize,
    /// Inferences that run side by side
    #[arg(long, value_name = "N", default_value = "1")]
    instances: NonZeroUsize,
    /// Whether requests run together that wait at the same time: auto, on or off
    #[arg(long, value_name = "MODE", default_value = "auto")]
    batch: BatchMode,
    /// The most rows of one inference for several requests
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_LIMIT)))]
    max_batch_rows: u32,
    /// Serve on the listening socket that was passed (LISTEN_FDS)
    #[arg(long, conflicts_with = "listen")]
    inherit_listener: bool,
    /// Address to listen on; port 0 is a free one, which the log tells
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// Say what a model file is, as JSON
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// Directory of the bundle
    #[arg(long)]
    dir: PathBuf,
    /// The model file, relative to it
    #[arg(long)]
    model: String,
    /// Another file that the bundle lists
    #[arg(long)]
    file: Vec<String>,
}

fn parse_link(text: &str) -> Result<(RegionName, String), String> {
    let (region, address) = text.split_once('=').ok_or("write REGION=HOST:PORT")?;
    Ok((region.parse().map_err(|error: tradewind_core::names::InvalidName| error.to_string())?, address.to_owned()))
}

pub(crate) fn parse_part(text: &str) -> Result<f64, String> {
    let part: f64 = text.parse().map_err(|_| "write a number from 0 to 1")?;
    if (0.0..=1.0).contains(&part) { Ok(part) } else { Err("write a number from 0 to 1".to_owned()) }
}

pub(crate) fn control(args: ControlArgs, traces: &TracesArgs) -> Result<(), Failure> {
    let options = tradewind_control::ControlOptions {
        data_dir: args.data_dir,
        listen: args.listen,
        regions: args.regions,
        program: this_program()?,
        kill_after_commits: args.kill_after_commits,
    };
    let exporter = traces.install("tradewind-control", 0.0, Vec::new())?;
    serve("control", exporter, |shutdown| tradewind_control::run(options, shutdown))
}

pub(crate) fn agent(args: AgentArgs, traces: &TracesArgs) -> Result<(), Failure> {
    let options = tradewind_agent::AgentOptions {
        region: args.member.region,
        control: args.member.control,
        token: read_token(&args.member.token_file)?,
        data_dir: args.member.data_dir,
        listen: args.listen,
        advertise: args.member.advertise,
        program: this_program()?,
    };
    let exporter = traces.install("tradewind-agent", 0.0, vec![("tradewind.region", options.region.to_string())])?;
    serve("agent", exporter, |shutdown| tradewind_agent::run(options, shutdown))
}

pub(crate) fn gateway(args: GatewayArgs, traces: &TracesArgs) -> Result<(), Failure> {
    let sample = args.trace_sample;
    let options = tradewind_gateway::GatewayOptions {
        region: args.member.region,
        control_url: args.member.control,
        token: read_token(&args.member.token_file)?,
        data_dir: args.member.data_dir,
        listen: tradewind_gateway::Listen::Inherited(inherited_or_bound(args.listen)?),
        advertise: args.member.advertise,
        trust_client_region: args.trust_client_region,
        user_key: args.user_header.or(args.user_cookie),
        epoch_cookie: args.epoch_cookie,
        workers: args.workers,
        tls: args
            .tls_cert
            .zip(args.tls_key)
            .map(|(certificate, key)| tradewind_gateway::TlsOptions { certificate, key }),
        links: args.link.into_iter().collect::<BTreeMap<_, _>>(),
        access_log: args.access_log.map(|path| tradewind_gateway::AccessLogOptions {
            destination: match path.as_os_str() == "-" {
                true => tradewind_gateway::Destination::Stdout,
                false => tradewind_gateway::Destination::File(path),
            },
            sample: args.access_log_sample,
        }),
    };
    let exporter =
        traces.install("tradewind-gateway", sample, vec![("tradewind.region", options.region.to_string())])?;
    serve("gateway", exporter, |shutdown| tradewind_gateway::run(options, shutdown))
}

pub(crate) fn replica(args: ReplicaArgs, traces: &TracesArgs) -> Result<(), Failure> {
    let listen = if args.inherit_listener {
        tradewind_replica::Listen::Inherited
    } else {
        tradewind_replica::Listen::Address(args.listen)
    };
    let usual = repository::Usual {
        threads: args.threads,
        instances: args.instances,
        batching: BatchOptions { mode: args.batch, max_rows: args.max_batch_rows },
    };
    let mut attributes = vec![("tradewind.replica", args.id.clone())];
    let models = match (args.repository, args.bundle, args.model, args.version) {
        (Some(directory), ..) => {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let runtime = runtime.map_err(|error| Failure::failed("cannot start").cause(error.to_string()))?;
            tradewind_replica::Models::Many(runtime.block_on(repository::read(&directory, usual))?)
        }
        (None, Some(bundle), Some(model), Some(version)) => {
            attributes.insert(0, ("tradewind.model", model.to_string()));
            let repository::Usual { threads, instances, batching } = usual;
            let (model_file, cases) = (args.model_file, args.case);
            let model = ModelOptions { model, version, bundle, model_file, cases, threads, instances, batching };
            tradewind_replica::Models::One(model)
        }
        (None, ..) => unreachable!("the flags require each other"),
    };
    let options = tradewind_replica::ReplicaOptions { id: args.id, models, listen };
    let exporter = traces.install("tradewind-replica", 0.0, attributes)?;
    serve("replica", exporter, |shutdown| tradewind_replica::run(options, shutdown))
}

/// Prints an inspection as JSON on stdout, also when it fails: then the exit code says so.
pub(crate) fn inspect(args: InspectArgs) -> Result<(), Failure> {
    match tradewind_replica::inspect(&args.dir, &args.model, &args.file) {
        Ok(inspection) => crate::terminal::print_json(&inspection),
        Err(error) => {
            let message = chain(&error);
            crate::terminal::print_json(&serde_json::json!({ "error": message, "hint": error.hint() }))?;
            Err(Failure::failed(message))
        }
    }
}

/// Runs a role until a signal ends it.
fn serve<E, F>(role: &str, exporter: Option<Exporter>, run: impl FnOnce(CancellationToken) -> F) -> Result<(), Failure>
where
    E: std::error::Error + 'static,
    F: Future<Output = Result<(), E>>,
{
    log_events();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start {role}")).cause(error.to_string()))?;
    runtime.block_on(traces::exporting(exporter, async {
        let mut signals = StopSignals::catch();
        let shutdown = CancellationToken::new();
        let running = run(shutdown.clone());
        tokio::pin!(running);
        let result = tokio::select! {
            result = &mut running => result,
            () = signals.any() => {
                shutdown.cancel();
                running.await
            }
        };
        result.map_err(|error| {
            let mut words = causes(&error).map(ToString::to_string);
            let failure = Failure::failed(words.next().unwrap_or_default());
            words.fold(failure, Failure::cause)
        })
    }))
}

/// SIGTERM and SIGINT, which end nothing by themselves from the moment this is made.
#[derive(Debug)]
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    pub(crate) fn catch() -> Self {
        Self {
            terminate: signal(SignalKind::terminate()).expect("SIGTERM can be handled"),
            interrupt: signal(SignalKind::interrupt()).expect("SIGINT can be handled"),
        }
    }

    /// Resolves at the first of them.
    pub(crate) async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Roles log to stderr: text for people, JSON where `TRADEWIND_LOG_FORMAT=json` asks for it; `TRADEWIND_LOG` filters.
fn log_events() {
    let filter = EnvFilter::try_from_env("TRADEWIND_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::env::var_os("TRADEWIND_LOG_FORMAT").is_some_and(|format| format == "json") {
        builder.json().init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).init();
    }
}

pub(crate) fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::failed("cannot find this program's file").cause(error.to_string()))
}

fn read_token(path: &Path) -> Result<String, Failure> {
    let token = std::fs::read_to_string(path).map_err(|error| {
        Failure::failed(format!("cannot read the token file {}", path.display()))
            .cause(error.to_string())
            .hint("make one where control runs: tradewind token issue --role agent --region REGION --data-dir DIR")
    })?;
    Ok(token.trim().to_owned())
}

fn inherited_or_bound(address: SocketAddr) -> Result<TcpListener, Failure> {
    let inherited = tradewind_process::inherited_listeners()
        .map_err(|error| Failure::failed("cannot take over the inherited socket").cause(error.to_string()))?;
    match inherited.into_iter().next() {
        Some(listener) => Ok(listener),
        None => bind(address)
            .map_err(|failure| failure.hint("something else listens there; stop it, or choose another with --listen")),
    }
}

/// Binds, or says which port is busy.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .map_err(|error| Failure::failed(format!("cannot listen on {address}: {}", plain_io(&error))))
}

fn plain_io(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "the port is in use".to_owned(),
        std::io::ErrorKind::PermissionDenied => "not allowed".to_owned(),
        _ => error.to_string(),
    }
}
