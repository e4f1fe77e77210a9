//! The command line as clap sees it. Each verb's arguments stand with the verb, in `commands`.

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{
    commands::{
        alerts, completion, deploy, diff, drill, events, history, infer, logs, models, monitors, optimize, pipeline,
        reference, regions, rollback, rollout, route, scale, simulate, status, switch, token, top, tune, undeploy,
    },
    roles,
    settings::Connection,
    terminal::Format,
    traces::TracesArgs,
    up, usage,
};

/// Carries machine-learning models to many regions and keeps them serving near every user
#[derive(Debug, Parser)]
#[command(name = "tradewind", version, arg_required_else_help = true, after_help = ROOT_EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Say on stderr what happens inside; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) traces: TracesArgs,
}

const ROOT_EXAMPLES: &str = "\
Examples:
  tradewind deploy --regions us-east1,europe-west1 examples/digits/v1
  tradewind status --watch";

/// The verbs. A new one is named in [`GROUPS`] too.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(up::Args),
    Control(roles::ControlArgs),
    Agent(roles::AgentArgs),
    Gateway(roles::GatewayArgs),
    Replica(roles::ReplicaArgs),
    #[command(hide = true)]
    Inspect(roles::InspectArgs),
    Models(models::Args),
    Deploy(Box<deploy::Args>),
    Simulate(simulate::Args),
    Scale(scale::Args),
    Infer(infer::Args),
    Tune(tune::Args),
    Optimize(optimize::Args),
    Pipeline(pipeline::Args),
    Status(status::Args),
    Top(top::Args),
    Rollout(rollout::Args),
    Route(route::Args),
    History(history::Args),
    Diff(diff::Args),
    Events(events::Args),
    Monitors(monitors::Args),
    Alerts(alerts::Args),
    Logs(logs::Args),
    Switch(switch::Args),
    Rollback(rollback::Args),
    Undeploy(undeploy::Args),
    Regions(regions::Args),
    Drill(drill::Args),
    Token(token::Args),
    Completion(completion::Args),
    #[command(hide = true)]
    Reference(reference::Args),
}

/// What people want to do, and the verbs for it: the order of `tradewind help`.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Run a world", &["up", "control", "agent", "gateway", "replica"]),
    ("Ship a model", &["deploy", "scale", "simulate", "models", "infer", "tune", "optimize", "pipeline"]),
    ("Look", &["status", "top", "monitors", "alerts", "rollout", "route", "history", "diff", "events", "logs"]),
    ("Undo", &["rollback", "switch", "undeploy"]),
    ("Operate", &["regions", "drill", "token", "completion"]),
];

impl Command {
    /// How errors are printed: the way the data would have been.
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Up(args) => args.output.format,
            Self::Models(args) => args.format(),
            Self::Deploy(args) => args.output.format,
            Self::Simulate(args) => args.output.format,
            Self::Scale(args) => args.output.format,
            Self::Infer(args) => args.output.format,
            Self::Tune(args) => args.output.format,
            Self::Optimize(args) => args.output.format,
            Self::Pipeline(args) => args.format(),
            Self::Status(args) => args.output.format,
            Self::Rollout(args) => args.format(),
            Self::Route(args) => args.format(),
            Self::History(args) => args.output.format,
            Self::Diff(args) => args.output.format,
            Self::Switch(args) => args.output.format,
            Self::Rollback(args) => args.output.format,
            Self::Events(args) => args.output.format,
            Self::Monitors(args) => args.format(),
            Self::Alerts(args) => args.format(),
            Self::Regions(args) => args.format(),
            Self::Drill(args) => args.format(),
            Self::Control(_) | Self::Agent(_) | Self::Gateway(_) | Self::Replica(_) | Self::Inspect(_) => Format::Table,
            Self::Top(_)
            | Self::Undeploy(_)
            | Self::Logs(_)
            | Self::Token(_)
            | Self::Completion(_)
            | Self::Reference(_) => Format::Table,
        }
    }
}

/// The whole command line, its help grouped by intent.
pub(crate) fn command() -> clap::Command {
    let command = Cli::command();
    let groups = groups_help(&command);
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n{groups}\nOptions:\n{{options}}{{after-help}}"
    ))
}

fn groups_help(command: &clap::Command) -> String {
    let width = GROUPS.iter().flat_map(|(_, verbs)| verbs.iter()).map(|verb| verb.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (intent, verbs) in GROUPS.iter().filter(|(_, verbs)| !verbs.is_empty()) {
        text += &format!("\n{intent}:\n");
        for verb in *verbs {
            let about = command.find_subcommand(verb).and_then(clap::Command::get_about);
            text += &format!("  {verb:width$}  {}\n", about.map(ToString::to_string).unwrap_or_default());
        }
    }
    text
}

/// Reads the arguments. What is left when that ends the program (help, version, wrong usage) is the exit code.
pub(crate) fn parse(args: Vec<OsString>) -> Result<Cli, ExitCode> {
    let command = command();
    usage::check_regions(&args, &command).map_err(|failure| failure.report(Format::Table))?;
    command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches)).map_err(|error| {
        // Nobody is left to be told that the help could not be printed.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command that is not hidden, with its full name.
    fn all(command: &clap::Command, name: &str, found: &mut Vec<(String, clap::Command)>) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            let name = format!("{name} {}", sub.get_name());
            all(sub, &name, found);
            found.push((name, sub.clone()));
        }
    }

    #[test]
    fn clap_finds_no_fault() {
        command().debug_assert();
    }

    #[test]
    fn every_visible_verb_stands_in_one_group() {
        let command = command();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, verbs)| verbs.iter().copied()).collect();
        let mut visible: Vec<&str> =
            command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(clap::Command::get_name).collect();
        grouped.sort_unstable();
        visible.sort_unstable();
        assert_eq!(grouped, visible);
    }

    #[test]
    fn every_help_ends_with_two_examples() {
        let mut commands = Vec::new();
        all(&command(), "tradewind", &mut commands);
        assert!(commands.len() > 15);
        for (name, command) in commands {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = after.lines().filter(|line| line.starts_with("  tradewind ")).count();
            assert!(after.starts_with("Examples:\n") && examples == 2, "{name} shows {examples} examples: {after}");
        }
    }
}
