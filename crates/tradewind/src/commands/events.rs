//! `tradewind events`

use tokio::time;
use tradewind_api::{Code, client, ndjson, status::EventQuery};
use tradewind_core::{
    ModelName, RegionName,
    event::{Event, EventKind, Severity},
};

use crate::{
    failure::Failure,
    outage::{GIVE_UP_AFTER, Next, Outage},
    session::Session,
    terminal::{self, Format, OutputArgs, Paint, Table, Tone, table::Cell, units},
};

/// What happened: rollouts, failovers, restarts, repairs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind events --follow
  tradewind events --model digits --region us-east1 --limit 20 -o json")]
pub(crate) struct Args {
    /// Go on with what happens from now on
    #[arg(short, long)]
    follow: bool,
    /// Only those of this model
    #[arg(long)]
    model: Option<ModelName>,
    /// Only those of this region
    #[arg(long, value_name = "REGION")]
    region: Option<RegionName>,
    /// The newest so many [default: 100]
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let query = EventQuery { after: None, limit: args.limit, model: args.model, region: args.region, follow: false };
    if args.follow {
        return follow(query, args.output.format, session).await;
    }
    let list = session.client.events(&query).await?;
    match args.output.format {
        Format::Json => terminal::print_json(&list),
        Format::Table => {
            let mut table = Table::new(&HEADINGS);
            list.events.iter().for_each(|event| table.row(row(event)));
            terminal::print(&table.render(Paint::for_stdout()))
        }
    }
}

/// Prints events as they come, each once, also when control is restarted in between.
async fn follow(mut query: EventQuery, format: Format, session: &Session) -> Result<(), Failure> {
    let mut outage = Outage::default();
    loop {
        let error = match session.client.follow_events(&query).await {
            Ok(mut events) => loop {
                match events.next().await {
                    Ok(event) => {
                        outage.over();
                        query.after = Some(event.sequence);
                        print_one(&event, format)?;
                    }
                    Err(ndjson::Error::Malformed { source }) => {
                        return Err(Failure::failed("an event does not parse").cause(source.to_string()));
                    }
                    Err(_) => break None,
                }
            },
            Err(error) if error.retryable() => Some(error),
            Err(error) => return Err(error.into()),
        };
        match outage.failed() {
            Next::Retry { after, say } => {
                if say {
                    terminal::complain("control does not answer; trying again\n");
                }
                time::sleep(after).await;
            }
            Next::GiveUp => return Err(gave_up(error, session.client.base())),
        }
    }
}

fn gave_up(error: Option<client::Error>, url: &str) -> Failure {
    error
        .map_or_else(|| Failure::new(Code::Unreachable, format!("the connection to {url} broke off")), Failure::from)
        .note(format!("Tried again for {} s.", GIVE_UP_AFTER.as_secs()))
}

fn print_one(event: &Event, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => terminal::print_json(event),
        Format::Table => {
            let mut table = Table::bare();
            table.row(row(event));
            terminal::print(&table.render(Paint::for_stdout()))
        }
    }
}

pub(super) const HEADINGS: [&str; 5] = ["TIME", "REGION", "MODEL", "EVENT", ""];

/// What stands under [`HEADINGS`].
pub(super) fn row(event: &Event) -> [Cell; 5] {
    let tone = match event.record.severity {
        Severity::Info => Tone::Plain,
        Severity::Warning => Tone::Warn,
        Severity::Error => Tone::Bad,
    };
    let dash = || "-".to_owned();
    [
        Cell::new(units::clock(event.record.at), Tone::Faint),
        event.record.region.as_ref().map_or_else(dash, ToString::to_string).into(),
        event.record.model.as_ref().map_or_else(dash, ToString::to_string).into(),
        Cell::new(word(event.record.kind), tone),
        event.record.message.as_str().into(),
    ]
}

/// The stable word of the API.
fn word(kind: EventKind) -> String {
    serde_json::to_value(kind).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}
