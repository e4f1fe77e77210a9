//! What is watched of each revision in each region, and what is seen.

use std::time::Duration;

use tradewind_api::monitoring::{CasesView, MonitorView, ObjectiveName, ObjectiveView};
use tradewind_core::{
    RegionName, Slot,
    deployment::{Deployment, Revision},
    monitor::{
        Monitors,
        evidence::{Objective, ObjectiveKind},
        verdict,
    },
    route::Route,
};

use super::sight::Sight;
use crate::monitoring::{Ledger, Subject};

const VERDICT_WINDOW: Duration = Duration::from_secs(300);
const HOUR: Duration = Duration::from_secs(3600);
const BUDGET_WINDOW: Duration = Duration::from_secs(3 * 24 * 3600);

/// The monitors of what one slot of a deployment holds, by region.
pub(crate) fn of_slot(
    deployment: &Deployment,
    slot: Slot,
    revision: &Revision,
    route: Option<&Route>,
    sight: &Sight<'_>,
    ledger: &Ledger,
) -> Vec<MonitorView> {
    let committed = route.and_then(|route| route.committed.as_ref());
    let served = committed.and_then(|state| state.served().find(|served| served.revision == revision.number));
    let view = |region: &RegionName| {
        let subject = Subject { model: deployment.model.clone(), region: region.clone(), revision: revision.number };
        let monitors = revision.spec.monitors_of(region);
        let evidence = ledger.evidence(&subject, VERDICT_WINDOW, sight.now);
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let held = sight.slot(region, &subject.model, slot, revision.number);
        MonitorView {
            slot,
            armed: served.is_some_and(|served| served.regions.contains(region)),
            verdict: verdict::judge(&monitors, &evidence, None),
            replicas: held.map(|slot| slot.replicas).unwrap_or_default(),
            objectives: objectives(&monitors, &subject, sight, ledger),
            cases: cases(&subject, sight, ledger),
            p50_us: evidence.quantile(0.5).map(micros),
            p99_us: evidence.quantile(0.99).map(micros),
            monitors,
            model: subject.model,
            region: subject.region,
            revision: subject.revision,
        }
    };
    revision.spec.regions.iter().map(view).collect()
}

fn objectives(monitors: &Monitors, subject: &Subject, sight: &Sight<'_>, ledger: &Ledger) -> Vec<ObjectiveView> {
    // A budget is of the model in the region, whatever revision spent it.
    let over = |window| ledger.over(&subject.model, &subject.region, window, sight.now);
    let view = |objective: Objective| {
        let (missed, requests) = objective.counts(&over(BUDGET_WINDOW));
        ObjectiveView {
            name: match objective.kind {
                ObjectiveKind::Availability => ObjectiveName::Availability,
                ObjectiveKind::Latency => ObjectiveName::Latency,
            },
            objective: ((1.0 - objective.budget) * 1e9).round() / 1e9,
            requests,
            missed,
            budget_left: objective.burn(&over(BUDGET_WINDOW)).map(|burn| 1.0 - burn),
            burn_5m: objective.burn(&over(VERDICT_WINDOW)),
            burn_1h: objective.burn(&over(HOUR)),
        }
    };
    monitors.objectives().into_iter().map(view).collect()
}

fn cases(subject: &Subject, sight: &Sight<'_>, ledger: &Ledger) -> CasesView {
    let counted = ledger.over_revision(subject, HOUR, sight.now);
    let agent = sight.seen.agents.get(&subject.region);
    let told = agent.and_then(|agent| {
        agent.report.cases.iter().find(|told| told.model == subject.model && told.revision == subject.revision)
    });
    CasesView {
        asked: counted.cases,
        wrong: counted.wrong,
        unanswered: counted.unanswered,
        asked_at: told.and_then(|told| told.asked_at),
        last_wrong: told.and_then(|told| told.last_wrong.clone()),
    }
}
