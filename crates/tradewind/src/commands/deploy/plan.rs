//! What is about to happen, and what a deploy without a rollout says.

use tradewind_api::deploy::{DeployAnswer, DeployPlan, PlannedStep};
use tradewind_core::bundle::ModelVersion;

use super::push;
use crate::{
    failure::Failure,
    terminal::{self, Format, Paint, Table, Tone},
};

/// The model in one line, the revision in another.
pub(super) fn head(version: &ModelVersion, plan: &DeployPlan) -> String {
    format!("{}  revision {}  {}  {}\n", push::describe(version), plan.revision, plan.slot, plan.summary)
}

/// A dry run, or a deploy of exactly what runs.
pub(super) fn end_without_rollout(answer: &DeployAnswer, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return terminal::print_json(answer);
    }
    let plan = &answer.plan;
    if plan.unchanged {
        return terminal::say(&format!(
            "\n  exactly this runs already: nothing to do. See it: tradewind status {}",
            plan.model
        ));
    }
    terminal::print(&difference(plan, Paint::for_stdout()))
}

fn difference(plan: &DeployPlan, paint: Paint) -> String {
    let mut text = String::from("\n");
    for change in &plan.changes {
        text += &format!("  {} {change}\n", paint.on("~", Tone::Notice));
    }
    let mut table = Table::new(&["STEP", "ACTION", "REGION"]);
    for (number, PlannedStep { action, region }) in (1..).zip(&plan.steps) {
        let region = region.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        table.row([number.to_string().into(), action.words().into(), region.into()]);
    }
    text += &format!("\n{}", table.render(paint));
    text + "\n  a dry run: nothing was deployed. Leave out --dry-run to do it\n"
}
