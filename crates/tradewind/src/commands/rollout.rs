//! `tradewind rollout list/show/pause/resume/promote/abort MODEL`

use tradewind_api::deploy::{AudienceView, DecisionRequest, PromoteRequest, RolloutList, RolloutView};
use tradewind_core::{
    ModelName, RolloutNumber, Timestamp,
    rollout::{Action, RolloutFailure, RolloutKind, RolloutState, Soak, StepResult},
};

use crate::{
    failure::Failure,
    session::{Session, requested_by},
    terminal::{self, Format, OutputArgs, Paint, Table, Tone, table::Cell, units},
};

/// The rollouts of a deployment and their steps
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind rollout show digits
  tradewind rollout abort digits")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: RolloutCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RolloutCommand {
    /// Every rollout of a model, newest first
    #[command(after_help = "\
Examples:
  tradewind rollout list digits
  tradewind rollout list digits -o json")]
    List {
        /// The model
        model: ModelName,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// The steps of a rollout, with the result of every check
    #[command(after_help = "\
Examples:
  tradewind rollout show digits
  tradewind rollout show digits 3 -o json")]
    Show {
        /// The model
        model: ModelName,
        /// The rollout's number [default: the latest]
        rollout: Option<RolloutNumber>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Begin nothing new until told to go on; what soaks is judged all the same
    #[command(after_help = "\
Examples:
  tradewind rollout pause digits
  tradewind rollout pause digits -o json")]
    Pause {
        /// The model
        model: ModelName,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Go on, and try once more what has failed
    #[command(after_help = "\
Examples:
  tradewind rollout resume digits
  tradewind rollout resume digits -o json")]
    Resume {
        /// The model
        model: ModelName,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Go on without what has failed, and without the rest of a soak; never without verification
    #[command(after_help = "\
Examples:
  tradewind rollout promote digits
  tradewind rollout promote digits --full")]
    Promote {
        /// The model
        model: ModelName,
        /// To everybody at once: skip the steps of the canary that are left
        #[arg(long)]
        full: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Stop the rollout that runs; everybody gets what served before it
    #[command(after_help = "\
Examples:
  tradewind rollout abort digits
  tradewind rollout abort digits -o json")]
    Abort {
        /// The model
        model: ModelName,
        #[command(flatten)]
        output: OutputArgs,
    },
}

impl Args {
    pub(crate) fn format(&self) -> Format {
        match &self.command {
            RolloutCommand::List { output, .. }
            | RolloutCommand::Show { output, .. }
            | RolloutCommand::Pause { output, .. }
            | RolloutCommand::Resume { output, .. }
            | RolloutCommand::Promote { output, .. }
            | RolloutCommand::Abort { output, .. } => output.format,
        }
    }
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let paint = Paint::for_stdout();
    match args.command {
        RolloutCommand::List { model, output } => {
            let list = session.client.rollouts(&model).await?;
            match output.format {
                Format::Json => terminal::print_json(&list),
                Format::Table => terminal::print(&render_list(&list, paint)),
            }
        }
        RolloutCommand::Show { model, rollout, output } => {
            let number = rollout.map_or_else(|| "latest".to_owned(), |number| number.to_string());
            let view = session.client.rollout(&model, &number).await?;
            match output.format {
                Format::Json => terminal::print_json(&view),
                Format::Table => terminal::print(&render(&view, paint)),
            }
        }
        RolloutCommand::Pause { model, output } => {
            let view = session.client.pause_rollout(&model, &asked()).await?;
            told(&view, output.format, &format!("is paused; go on with `tradewind rollout resume {model}`"))
        }
        RolloutCommand::Resume { model, output } => {
            let view = session.client.resume_rollout(&model, &asked()).await?;
            told(&view, output.format, &format!("goes on; watch it with `tradewind status {model} --watch`"))
        }
        RolloutCommand::Promote { model, full, output } => {
            let request = PromoteRequest { full, requested_by: requested_by() };
            let view = session.client.promote_rollout(&model, &request).await?;
            told(&view, output.format, &format!("is promoted; watch it with `tradewind status {model} --watch`"))
        }
        RolloutCommand::Abort { model, output } => {
            let view = session.client.abort_rollout(&model, &asked()).await?;
            told(&view, output.format, &format!("is aborted; {}", still_serves(&view)))?;
            match output.format {
                Format::Json => Ok(()),
                Format::Table => terminal::say(&format!("see what it did with `tradewind rollout show {model}`")),
            }
        }
    }
}

fn asked() -> DecisionRequest {
    DecisionRequest { requested_by: requested_by() }
}

/// What became of a rollout that was told something.
fn told(view: &RolloutView, format: Format, what: &str) -> Result<(), Failure> {
    match format {
        Format::Json => terminal::print_json(view),
        Format::Table => terminal::say(&format!("{}: rollout {} {what}", view.model, view.rollout)),
    }
}

fn render_list(list: &RolloutList, paint: Paint) -> String {
    let now = Timestamp::now();
    let mut table =
        Table::new(&["ROLLOUT", "KIND", "REVISION", "VERSION", "STATE", "SOAK", "REGIONS", "STARTED", "TOOK"]);
    for rollout in &list.rollouts {
        let took = rollout.finished_at.map(|at| units::took(units::between(rollout.created_at, at)));
        table.row([
            rollout.rollout.to_string().into(),
            kind_word(rollout.kind).into(),
            rollout.revision.to_string().into(),
            rollout.version.to_string().into(),
            state_cell(rollout.state),
            soak_word(rollout.soak).into(),
            rollout.regions.to_string().into(),
            units::ago(rollout.created_at, now).into(),
            took.unwrap_or_else(|| "-".to_owned()).into(),
        ]);
    }
    table.render(paint)
}

pub(super) fn render(view: &RolloutView, paint: Paint) -> String {
    let now = Timestamp::now();
    let mut text = format!(
        "  {} {}, revision {}, rollout {}: {}, soak {}\n\n",
        view.model,
        view.version,
        view.revision,
        view.rollout,
        state_word(view.state),
        soak_word(view.soak)
    );
    if let Some(pause) = &view.paused {
        let waits = if pause.by.is_some() { "" } else { "waits for a person: " };
        text += &format!("  {}\n\n", paint.on(&format!("{waits}{}", pause.reason), Tone::Warn));
    }
    text += &steps_table(view, now).render(paint);
    if let Some(failure) = &view.failure {
        let (headline, causes) = explain(failure);
        text += &format!("\n  {}\n", paint.on(&headline, Tone::Bad));
        causes.iter().for_each(|cause| text += &format!("    caused by: {cause}\n"));
    }
    text
}

pub(super) fn steps_table(view: &RolloutView, now: Timestamp) -> Table {
    let mut table = Table::new(&["STEP", "ACTION", "REGION", "RESULT", "TOOK", "NEXT", "DETAIL"]);
    for step in &view.steps {
        let took = step.started_at.map(|start| units::took(units::between(start, step.finished_at.unwrap_or(now))));
        let detail = match step.attempts {
            0 | 1 => step.detail.clone(),
            attempts => format!("{} (attempt {attempts})", step.detail).trim_start().to_owned(),
        };
        table.row([
            step.step.to_string().into(),
            step.action.words().into(),
            step.region.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string).into(),
            result_cell(step.result),
            took.unwrap_or_else(|| "-".to_owned()).into(),
            step.next.as_deref().unwrap_or("-").into(),
            detail.into(),
        ]);
    }
    table
}

/// What failed, in one phrase, and why, outermost first.
pub(super) fn explain(failure: &RolloutFailure) -> (String, Vec<String>) {
    let RolloutFailure { region, action, failure } = failure;
    match region {
        Some(region) if !failure.message.contains(region.as_str()) => {
            let causes = std::iter::once(failure.message.clone()).chain(failure.causes.iter().cloned());
            (format!("{} failed in {region}", noun(*action)), causes.collect())
        }
        _ => (failure.message.clone(), failure.causes.clone()),
    }
}

fn noun(action: Action) -> &'static str {
    match action {
        Action::SelectRegions => "selecting regions",
        Action::Deploy => "deployment",
        Action::ConfigureMonitoring => "configuring monitoring",
        Action::Verify => "verification",
        Action::Route => "routing",
        Action::ArmMonitoring => "arming monitoring",
        Action::Retire => "retiring the old slot",
    }
}

fn result_cell(result: Option<StepResult>) -> Cell {
    match result {
        None => "-".into(),
        Some(StepResult::Running) => Cell::new("running", Tone::Notice),
        Some(StepResult::Success) => Cell::new("success", Tone::Good),
        Some(StepResult::Failed) => Cell::new("failed", Tone::Bad),
        Some(StepResult::Deferred) => Cell::new("deferred", Tone::Warn),
    }
}

pub(super) fn state_cell(state: RolloutState) -> Cell {
    let tone = match state {
        RolloutState::Succeeded => Tone::Good,
        RolloutState::Failed => Tone::Bad,
        RolloutState::Superseded => Tone::Faint,
        _ => Tone::Notice,
    };
    Cell::new(state_word(state), tone)
}

pub(super) fn state_word(state: RolloutState) -> &'static str {
    match state {
        RolloutState::Regions => "in its regions",
        RolloutState::Preparing => "preparing the route",
        RolloutState::Committing => "switching",
        RolloutState::Arming => "arming monitoring",
        RolloutState::Soaking => "soaking",
        RolloutState::Succeeded => "succeeded",
        RolloutState::Failed => "failed",
        RolloutState::Superseded => "superseded",
    }
}

pub(super) fn soak_word(soak: Soak) -> &'static str {
    match soak {
        Soak::Pending => "pending",
        Soak::Running => "running",
        Soak::Passed => "passed",
        Soak::Inconclusive => "inconclusive",
        Soak::Failed => "failed",
        Soak::Skipped => "skipped",
    }
}

fn kind_word(kind: RolloutKind) -> &'static str {
    match kind {
        RolloutKind::Deploy => "deploy",
        RolloutKind::Switch => "switch",
        RolloutKind::Rollback => "rollback",
    }
}

/// `10 % of users`
pub(super) fn users(users: AudienceView) -> String {
    match users {
        AudienceView::Everyone => "all users".to_owned(),
        AudienceView::OfRegions(count) => format!("users of {}", units::count(count, "region")),
        AudienceView::Share(share) => format!("{share} of users"),
    }
}

/// `digits 2 serves in 2 regions, as before`
pub(super) fn still_serves(view: &RolloutView) -> String {
    match &view.serving {
        Some(serving) => {
            let regions = units::count(serving.regions, "region");
            format!("{} {} serves in {regions}, as before", view.model, serving.version)
        }
        None => format!("no version of {} serves", view.model),
    }
}
