//! The verbs, one file each.

use std::future::Future;

use tracing_subscriber::EnvFilter;

use crate::{
    cli::{Cli, Command},
    failure::Failure,
    roles,
    session::Session,
    settings::Connection,
    traces::{self, TracesArgs},
    up,
};

pub(crate) mod alerts;
mod capacity;
pub(crate) mod completion;
pub(crate) mod deploy;
pub(crate) mod diff;
pub(crate) mod drill;
pub(crate) mod events;
pub(crate) mod history;
pub(crate) mod infer;
pub(crate) mod logs;
pub(crate) mod models;
pub(crate) mod monitors;
mod moves;
pub(crate) mod optimize;
pub(crate) mod pipeline;
pub(crate) mod reference;
pub(crate) mod regions;
pub(crate) mod rollback;
pub(crate) mod rollout;
pub(crate) mod route;
pub(crate) mod scale;
pub(crate) mod simulate;
pub(crate) mod status;
pub(crate) mod switch;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod tune;
pub(crate) mod undeploy;

pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { command, verbose, connection, traces } = cli;
    let to = &Conversation { connection: &connection, traces: &traces, verbose };
    match command {
        Command::Models(args) => converse(to, async |session| models::run(args, &session).await),
        Command::Deploy(args) => converse(to, async |session| {
            session.traced("tradewind deploy", async |session| deploy::run(*args, session).await).await
        }),
        Command::Infer(args) => converse(to, async |session| {
            session.traced("tradewind infer", async |session| infer::run(args, session).await).await
        }),
        Command::Tune(args) => converse(to, async |session| tune::run(args, &session).await),
        Command::Optimize(args) => converse(to, async |session| optimize::run(args, &session).await),
        Command::Pipeline(args) => converse(to, async |session| pipeline::run(args, &session).await),
        Command::Status(args) => converse(to, async |session| status::run(args, &session).await),
        Command::Top(args) => converse(to, async |session| top::run(args, &session).await),
        Command::Rollout(args) => converse(to, async |session| rollout::run(args, &session).await),
        Command::Route(args) => converse(to, async |session| route::run(args, &session).await),
        Command::History(args) => converse(to, async |session| history::run(args, &session).await),
        Command::Diff(args) => converse(to, async |session| diff::run(args, &session).await),
        Command::Events(args) => converse(to, async |session| events::run(args, &session).await),
        Command::Monitors(args) => converse(to, async |session| monitors::run(args, &session).await),
        Command::Alerts(args) => converse(to, async |session| alerts::run(args, &session).await),
        Command::Logs(args) => converse(to, async |session| logs::run(args, &session).await),
        Command::Switch(args) => converse(to, async |session| {
            session.traced("tradewind switch", async |session| switch::run(args, session).await).await
        }),
        Command::Rollback(args) => converse(to, async |session| {
            session.traced("tradewind rollback", async |session| rollback::run(args, session).await).await
        }),
        Command::Scale(args) => converse(to, async |session| scale::run(args, &session).await),
        Command::Undeploy(args) => converse(to, async |session| undeploy::run(args, &session).await),
        Command::Regions(args) => converse(to, async |session| regions::run(args, &session).await),
        Command::Drill(args) => converse(to, async |session| drill::run(args, &session).await),
        Command::Up(args) => up::run(args, traces),
        Command::Control(args) => roles::control(args, &traces),
        Command::Agent(args) => roles::agent(args, &traces),
        Command::Gateway(args) => roles::gateway(args, &traces),
        Command::Replica(args) => roles::replica(args, &traces),
        Command::Inspect(args) => roles::inspect(args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Completion(args) => completion::run(&args),
        Command::Reference(args) => reference::run(&args),
    }
}

/// With whom a verb talks, and who is told of it.
struct Conversation<'a> {
    connection: &'a Connection,
    traces: &'a TracesArgs,
    verbose: u8,
}

/// Runs a verb that talks to a control plane.
fn converse<F: Future<Output = Result<(), Failure>>>(
    with: &Conversation<'_>,
    verb: impl FnOnce(Session) -> F,
) -> Result<(), Failure> {
    log_to_stderr(with.verbose);
    let session = Session::open(with.connection)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("cannot start the async runtime").cause(error.to_string()))?;
    let exporter = with.traces.install("tradewind-cli", 0.0, Vec::new())?;
    runtime.block_on(traces::exporting(exporter, verb(session)))
}

/// Verbs log nothing unless asked to.
fn log_to_stderr(verbose: u8) {
    let filter = match verbose {
        0 => return,
        1 => "warn,tradewind=debug,tradewind_api=debug",
        _ => "debug",
    };
    tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter)).with_writer(std::io::stderr).init();
}
