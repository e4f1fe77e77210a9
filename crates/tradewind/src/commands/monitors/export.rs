//! `tradewind monitors export`: what Prometheus and Grafana need to watch this world.

mod grafana;
mod objectives;
#[cfg(test)]
mod queries;
mod rules;
mod scrape;

use std::path::PathBuf;

use tradewind_core::duration::Span;

use crate::{failure::Failure, session::Session, terminal};

/// Print what Prometheus or Grafana needs to watch this world
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind monitors export --prometheus-rules > /etc/prometheus/tradewind.rules.yml
  tradewind monitors export --prometheus-scrape --token-file /etc/prometheus/tradewind.token")]
pub(crate) struct Args {
    #[command(flatten)]
    what: What,
    /// How long any condition lasts before its alert fires [default: each has its own time]
    #[arg(long = "for", value_name = "DURATION", requires = "prometheus_rules")]
    hold: Option<Span>,
    /// Where the pages that say what to do are published; they are the files of docs/alerts
    #[arg(long, value_name = "URL", requires = "prometheus_rules", default_value = "docs/alerts")]
    runbooks: String,
    /// Where Prometheus finds its token for this control plane
    #[arg(long, value_name = "FILE", requires = "prometheus_scrape", default_value = "tradewind.token")]
    token_file: PathBuf,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Recording and alerting rules, with the objectives of what is deployed now
    #[arg(long)]
    prometheus_rules: bool,
    /// The part of Prometheus' configuration that finds every role of this world
    #[arg(long)]
    prometheus_scrape: bool,
    /// A dashboard, to be imported into Grafana
    #[arg(long)]
    grafana: bool,
}

pub(super) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    match args.what {
        What { prometheus_rules: true, .. } => {
            let objectives = objectives::of(session).await?;
            let style = rules::Style { hold: args.hold, runbooks: &args.runbooks };
            terminal::print(&rules::file(&objectives, &style))
        }
        What { prometheus_scrape: true, .. } => {
            terminal::print(&scrape::config(session.client.base(), &args.token_file))
        }
        What { .. } => terminal::print_json(&grafana::dashboard()),
    }
}
