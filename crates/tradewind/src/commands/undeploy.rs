//! `tradewind undeploy MODEL`

use tradewind_core::{ModelName, RegionName};

use crate::{
    failure::Failure,
    session::Session,
    terminal::{self, units},
};

/// Take a model out of every region; its versions stay in the registry
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind undeploy digits
  tradewind undeploy digits --yes")]
pub(crate) struct Args {
    /// The model
    model: ModelName,
    /// Do it without asking
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let model = &args.model;
    let status = session.client.deployment_status(model).await?;
    let regions: Vec<&str> = status.regions.iter().map(RegionName::as_str).collect();
    if !args.yes {
        let question = format!("Take {model} out of {}? Its users will get errors.", regions.join(", "));
        if !terminal::confirm(&question)? {
            return Err(Failure::failed(format!("{model} was left as it is")));
        }
    }
    session.client.undeploy(model).await?;
    terminal::say(&format!(
        "{model} leaves {}: routed no more, replicas drain",
        units::count(regions.len(), "region")
    ))?;
    terminal::say(&format!("its versions stay: tradewind models show {model}"))
}
