//! `tradewind alerts silence/silences/unsilence`

use tradewind_api::monitoring::SilenceRequest;
use tradewind_core::{
    ModelName, RegionName, Timestamp,
    alert::{
        AlertKind,
        silence::{Matcher, Silence},
    },
    duration::Span,
};

use super::parse_kind;
use crate::{
    failure::Failure,
    session::{Session, requested_by},
    terminal::{self, Format, OutputArgs, Paint, Table, units},
};

/// Tell nobody of some alerts, for a while
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind alerts silence RegionDown --region us-east1 --for 2h --comment 'the data centre moves'
  tradewind alerts silence --model digits --for 30m")]
pub(super) struct SilenceArgs {
    /// Only alerts of this name
    #[arg(value_parser = parse_kind)]
    kind: Option<AlertKind>,
    /// Only alerts of this model
    #[arg(long)]
    model: Option<ModelName>,
    /// Only alerts of this region
    #[arg(long, value_name = "REGION")]
    region: Option<RegionName>,
    /// How long, such as 30m, 2h, 1d
    #[arg(long = "for", value_name = "DURATION")]
    lasts: Span,
    /// Why, for others
    #[arg(long, default_value = "")]
    comment: String,
    /// Silence every alert, if neither a name, a model nor a region is given
    #[arg(long)]
    everything: bool,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

pub(super) async fn silence(args: SilenceArgs, session: &Session) -> Result<(), Failure> {
    let matcher = Matcher { kind: args.kind, model: args.model, region: args.region };
    if matcher.is_empty() && !args.everything {
        return Err(Failure::usage("this would silence every alert of the world")
            .hint("name an alert, --model or --region, or say --everything"));
    }
    let SilenceArgs { lasts, comment, .. } = args;
    let request = SilenceRequest { matcher, lasts, comment, created_by: requested_by() };
    let silence = session.client.silence(&request).await?;
    match args.output.format {
        Format::Json => terminal::print_json(&silence),
        Format::Table => {
            terminal::say(&format!("{} silenced until {}", words(&silence.matcher), units::clock(silence.until)))?;
            terminal::say(&format!("end it sooner: tradewind alerts unsilence {}", silence.id))
        }
    }
}

/// `RegionDown in us-east1`
fn words(matcher: &Matcher) -> String {
    let mut words = matcher.kind.map_or("every alert".to_owned(), |kind| kind.to_string());
    if let Some(model) = &matcher.model {
        words += &format!(" of {model}");
    }
    if let Some(region) = &matcher.region {
        words += &format!(" in {region}");
    }
    words
}

/// The silences that are not over
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind alerts silences
  tradewind alerts silences -o json")]
pub(super) struct ListArgs {
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

pub(super) async fn list(args: ListArgs, session: &Session) -> Result<(), Failure> {
    let list = session.client.silences().await?;
    match args.output.format {
        Format::Json => terminal::print_json(&list),
        Format::Table if list.silences.is_empty() => terminal::say("nothing is silenced"),
        Format::Table => {
            let mut table = Table::new(&["ID", "ALERTS", "FOR ANOTHER", "BY", "WHY"]);
            let now = Timestamp::now();
            let row = |silence: &Silence| {
                table.row([
                    silence.id.as_str().into(),
                    words(&silence.matcher).into(),
                    units::roughly(units::between(now, silence.until)).into(),
                    silence.created_by.as_str().into(),
                    silence.comment.as_str().into(),
                ]);
            };
            list.silences.iter().for_each(row);
            terminal::print(&table.render(Paint::for_stdout()))
        }
    }
}

/// End a silence before its time
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind alerts unsilence 4f2a91c0
  tradewind alerts silences && tradewind alerts unsilence 4f2a91c0")]
pub(super) struct UnsilenceArgs {
    /// As `tradewind alerts silences` lists it
    id: String,
}

pub(super) async fn unsilence(args: UnsilenceArgs, session: &Session) -> Result<(), Failure> {
    session.client.unsilence(&args.id).await?;
    terminal::say(&format!("silence {} is over", args.id))
}
