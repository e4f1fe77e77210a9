//! `tradewind alerts receivers list/add/rm/test`

use std::path::PathBuf;

use tradewind_api::monitoring::{ReceiverRequest, ReceiverView};
use tradewind_core::{ReceiverName, alert::receiver};

use crate::{
    failure::Failure,
    session::Session,
    terminal::{self, Format, OutputArgs, Paint, Table, Tone, table::Cell},
};

/// Who is told of alerts: webhooks, chats, an Alertmanager
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind alerts receivers add pager https://example.com/hooks/tradewind --secret-file pager.secret
  tradewind alerts receivers test pager")]
pub(super) struct Args {
    #[command(subcommand)]
    command: ReceiversCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ReceiversCommand {
    /// Every receiver, and whether it takes what it is sent
    #[command(after_help = "\
Examples:
  tradewind alerts receivers list
  tradewind alerts receivers list -o json")]
    List {
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Add a receiver, or change one
    #[command(after_help = "\
Examples:
  tradewind alerts receivers add pager https://example.com/hooks/tradewind --secret-file pager.secret
  tradewind alerts receivers add team https://hooks.slack.com/services/T0/B0/abc --format slack")]
    Add {
        name: ReceiverName,
        /// Where alerts are posted to; of an Alertmanager, its address
        #[arg(value_name = "WEBHOOK")]
        address: String,
        /// What it is sent
        #[arg(long = "format", value_enum, default_value_t, value_name = "FORMAT")]
        takes: FormatChoice,
        /// A file with the secret that deliveries are signed with: `whsec_` and base64
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Tell it of nothing any more
    #[command(after_help = "\
Examples:
  tradewind alerts receivers rm pager
  tradewind alerts receivers list && tradewind alerts receivers rm team")]
    Rm { name: ReceiverName },
    /// Send it a message that is no alert
    #[command(after_help = "\
Examples:
  tradewind alerts receivers test pager
  tradewind alerts receivers test team")]
    Test { name: ReceiverName },
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum FormatChoice {
    /// JSON, signed after the Standard Webhooks specification
    #[default]
    Json,
    /// A text that Slack, Mattermost and others take
    Slack,
    /// The API of Prometheus' Alertmanager
    Alertmanager,
}

impl From<FormatChoice> for receiver::Format {
    fn from(choice: FormatChoice) -> Self {
        match choice {
            FormatChoice::Json => Self::Json,
            FormatChoice::Slack => Self::Slack,
            FormatChoice::Alertmanager => Self::Alertmanager,
        }
    }
}

impl Args {
    pub(super) fn format(&self) -> Format {
        match &self.command {
            ReceiversCommand::List { output } | ReceiversCommand::Add { output, .. } => output.format,
            ReceiversCommand::Rm { .. } | ReceiversCommand::Test { .. } => Format::Table,
        }
    }
}

pub(super) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    match args.command {
        ReceiversCommand::List { output } => list(output.format, session).await,
        ReceiversCommand::Add { name, address, takes, secret_file, output } => {
            let secret = secret_file.map(|path| read_secret(&path)).transpose()?;
            let request = ReceiverRequest { url: endpoint(address, takes), format: takes.into(), secret };
            let added = session.client.put_receiver(&name, &request).await?;
            match output.format {
                Format::Json => terminal::print_json(&added),
                Format::Table => terminal::say(&format!(
                    "{name} is told of alerts from now on. Try it: tradewind alerts receivers test {name}"
                )),
            }
        }
        ReceiversCommand::Rm { name } => {
            session.client.remove_receiver(&name).await?;
            terminal::say(&format!("{name} is told of nothing any more"))
        }
        ReceiversCommand::Test { name } => {
            session.client.test_receiver(&name).await?;
            terminal::say(&format!("{name} took a message"))
        }
    }
}

/// An Alertmanager is known by its address alone.
fn endpoint(url: String, format: FormatChoice) -> String {
    const PATH: &str = "/api/v2/alerts";
    let is_base = matches!(format, FormatChoice::Alertmanager) && !url.ends_with(PATH);
    if is_base { format!("{}{PATH}", url.trim_end_matches('/')) } else { url }
}

fn read_secret(path: &std::path::Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path);
    let text =
        text.map_err(|error| Failure::usage(format!("cannot read {}", path.display())).cause(error.to_string()))?;
    Ok(text.trim().to_owned())
}

async fn list(format: Format, session: &Session) -> Result<(), Failure> {
    let list = session.client.receivers().await?;
    match format {
        Format::Json => terminal::print_json(&list),
        Format::Table if list.receivers.is_empty() => {
            terminal::say("nobody is told of alerts. Next: tradewind alerts receivers add NAME https://HOST/PATH")
        }
        Format::Table => terminal::print(&table(&list.receivers, Paint::for_stdout())),
    }
}

fn table(receivers: &[ReceiverView], paint: Paint) -> String {
    let mut table = Table::new(&["RECEIVER", "FORMAT", "SIGNED", "DELIVERED", "STATE", "URL"]);
    for receiver in receivers {
        let state = match &receiver.failing {
            Some(problem) => Cell::new(format!("failing: {problem}"), Tone::Bad),
            None => Cell::new("ok", Tone::Good),
        };
        table.row([
            receiver.name.as_str().into(),
            receiver.format.as_str().into(),
            if receiver.signed { "yes" } else { "no" }.into(),
            receiver.delivered.to_string().into(),
            state,
            receiver.url.as_str().into(),
        ]);
    }
    table.render(paint)
}
