//! `tradewind token issue`: offline, on the machine that holds control's secret.

use std::path::{Path, PathBuf};

use tradewind_api::{
    Code,
    auth::{Authority, SECRET_FILE, Scope},
};
use tradewind_core::RegionName;

use crate::{failure::Failure, terminal};

/// Where `up` keeps its control plane's data, within its own data directory.
const CONTROL_DIRECTORY: &str = "control";

/// Issue tokens for people, agents, gateways and monitoring
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: TokenCommand,
}

const EXAMPLES: &str = "\
Examples:
  tradewind token issue --role agent --region us-east1 --data-dir /var/lib/tradewind
  tradewind token issue --role admin --data-dir /var/lib/tradewind > token";

#[derive(Debug, clap::Subcommand)]
enum TokenCommand {
    Issue(IssueArgs),
}

/// Print a token; needs control's data directory and no running control plane
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
struct IssueArgs {
    /// What the token is for
    #[arg(long, value_enum)]
    role: Role,
    /// The region of the agent or gateway
    #[arg(long, value_name = "REGION", required_if_eq_any([("role", "agent"), ("role", "gateway")]))]
    region: Option<RegionName>,
    /// Control's data directory, which holds its secret, or that of `tradewind up`
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    /// What the agents of one region need
    Agent,
    /// What the gateways of one region need
    Gateway,
    /// Everything that people do
    Admin,
    /// To find everything that shows metrics
    Monitoring,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let TokenCommand::Issue(args) = &args.command;
    let scope = match (args.role, args.region.clone()) {
        (Role::Admin, None) => Scope::Admin,
        (Role::Agent, Some(region)) => Scope::Agent(region),
        (Role::Gateway, Some(region)) => Scope::Gateway(region),
        (Role::Monitoring, None) => Scope::Monitoring,
        (Role::Admin | Role::Monitoring, Some(_)) => {
            return Err(Failure::usage("a token of this role is for all regions").hint("leave out --region"));
        }
        (Role::Agent | Role::Gateway, None) => unreachable!("clap requires the region for these roles"),
    };
    terminal::say(&open(&args.data_dir)?.issue(&scope))
}

/// A secret that is not there is not made: tokens of a new one would open nothing.
fn open(data_dir: &Path) -> Result<Authority, Failure> {
    let candidates = [data_dir.to_owned(), data_dir.join(CONTROL_DIRECTORY)];
    let Some(found) = candidates.iter().find(|directory| directory.join(SECRET_FILE).is_file()) else {
        return Err(Failure::new(Code::NotFound, format!("there is no secret in {}", data_dir.display()))
            .hint("--data-dir is the data directory of a control plane that was started once"));
    };
    Authority::open(found).map_err(|error| Failure::from_error(Code::Internal, &error))
}
