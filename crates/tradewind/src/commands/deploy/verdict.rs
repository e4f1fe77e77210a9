//! How a deploy ended, in words.

use std::{path::Path, time::Duration};

use tradewind_api::deploy::{RegionView, RolloutView};
use tradewind_core::{
    ModelName, RegionName, Timestamp,
    probe::Probe,
    rollout::{RegionPhase, RolloutState, Soak, course::Pause},
};

use super::lines;
use crate::{commands::rollout, failure::Failure, session::Session, terminal::units};

/// Why this rollout is no success; nothing if it is one.
pub(super) fn failure(view: &RolloutView) -> Option<Failure> {
    let (model, version) = (&view.model, view.version);
    if let Some(pause) = view.paused.as_ref().filter(|_| !view.state.is_final()) {
        return Some(waiting(view, pause));
    }
    match view.state {
        RolloutState::Failed => Some(failed(view)),
        RolloutState::Superseded => Some(
            Failure::failed(format!("{model} {version} was not deployed: a later deployment took over"))
                .hint(format!("see what users get with `tradewind status {model}`")),
        ),
        _ => None,
    }
}

/// It goes on when a person says so.
fn waiting(view: &RolloutView, pause: &Pause) -> Failure {
    let (model, version) = (&view.model, view.version);
    let failure = Failure::waiting(format!("{model} {version} waits for a person: {}", pause.reason));
    let failure =
        failure.note(format!("{}.", lines::users(view))).hint(format!("see it with `tradewind rollout show {model}`"));
    failure.hint(format!(
        "try again with `tradewind rollout resume {model}`, go on all the same with `tradewind rollout promote {model}`, \
         give up with `tradewind rollout abort {model}`"
    ))
}

fn failed(view: &RolloutView) -> Failure {
    let (model, version) = (&view.model, view.version);
    let Some(cause) = &view.failure else {
        return Failure::failed(format!("{model} {version} was not deployed")).note(standing(view));
    };
    let (headline, causes) = rollout::explain(cause);
    let fate = if view.soak == Soak::Failed { "was rolled back" } else { "was not deployed" };
    let failure = Failure::failed(format!("{model} {version} {fate}: {headline}"));
    let failure = causes.into_iter().fold(failure, Failure::cause).note(standing(view));
    let failure = match &cause.failure.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    };
    let checks = format!("see every check with `tradewind rollout show {model}`");
    match &cause.region {
        Some(region) => failure.hint(format!(
            "{checks}, the replica's log with `tradewind logs {model} --region {region} --revision {}`",
            view.revision
        )),
        None => failure.hint(checks),
    }
}

/// `Nothing was routed. digits 2 serves in 2 regions, as before.`
fn standing(view: &RolloutView) -> String {
    let serves = rollout::still_serves(view);
    if view.routing.as_ref().is_some_and(|routing| routing.committed) {
        let mut letters = serves.chars();
        let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
        return format!("{first}{}.", letters.as_str());
    }
    format!("Nothing was routed. {serves}.")
}

pub(super) fn detached(model: &ModelName) -> Failure {
    Failure::unfinished(format!("left {model} before it was deployed")).note("The rollout goes on.").hint(format!(
        "pick it up with `tradewind status {model} --watch`, stop it with `tradewind rollout abort {model}`"
    ))
}

/// What users get now, what comes next, and how to try it.
pub(super) async fn success(session: &Session, view: &RolloutView, local: Option<&Path>, took: Duration) -> String {
    let (model, version) = (&view.model, view.version);
    let regions = units::count(lines::routed(view), "region");
    let mut text = format!(
        "\n  {model} {version} serves in {regions} after {}. {}: tradewind status {model}\n",
        units::seconds(took),
        soak(session, view).await
    );
    for (phase, words) in
        [(RegionPhase::Deferred, "deferred until it returns"), (RegionPhase::Failed, "failed, and gets no users")]
    {
        let left: Vec<&str> = in_phase(view, phase).map(RegionName::as_str).collect();
        if !left.is_empty() {
            text += &format!("  {words}: {}\n", left.join(", "));
        }
    }
    let routed: Vec<&RegionName> = in_phase(view, RegionPhase::Verified).collect();
    if let Some(attempt) = try_it(session, view, &routed, local).await {
        text += &format!("  try it:  {attempt}\n");
    }
    text
}

fn in_phase(view: &RolloutView, phase: RegionPhase) -> impl Iterator<Item = &RegionName> {
    view.regions.iter().filter(move |region: &&RegionView| region.phase == phase).map(|region| &region.region)
}

async fn soak(session: &Session, view: &RolloutView) -> String {
    match view.soak {
        Soak::Passed => return "Soak passed".to_owned(),
        Soak::Failed => return "Soak failed, and there is nothing better to go back to".to_owned(),
        Soak::Inconclusive => return "Soak inconclusive, the old version stays warm".to_owned(),
        Soak::Pending | Soak::Running | Soak::Skipped => {}
    }
    // Only how long it takes is asked for here; that control went away right now is no reason to fail.
    let until = session.client.deployment_status(&view.model).await.ok().and_then(|status| status.rollout.soak_until);
    match until {
        Some(until) => format!("Soaking for {}", units::roughly(units::between(Timestamp::now(), until))),
        None => "Soaking".to_owned(),
    }
}

/// A command that works as it stands: the example request beside the bundle, or else the model's metadata. Of a server
/// of somebody's own no path is known but the one that says whether it is ready.
async fn try_it(session: &Session, view: &RolloutView, routed: &[&RegionName], local: Option<&Path>) -> Option<String> {
    let model = &view.model;
    let (gateway, _) = session.gateway(routed.first().copied()).await.ok()?;
    let version = session.client.version(model, view.version).await.ok();
    if let Some(server) = version.as_ref().and_then(|version| version.manifest.server()) {
        return match &server.ready {
            Probe::Http(path) => Some(format!("curl {gateway}/models/{model}{path}")),
            Probe::Connect => None,
        };
    }
    let beside = |path: &Path| Some(path.parent()?.join("request.json")).filter(|request| request.is_file());
    Some(match local.and_then(beside) {
        Some(request) => format!("curl {gateway}/v2/models/{model}/infer -d @{}", request.display()),
        None => format!("curl {gateway}/v2/models/{model}"),
    })
}
