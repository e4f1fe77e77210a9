//! Alerts as documents.

use tradewind_api::monitoring::AlertView;
use tradewind_core::{
    Timestamp,
    alert::{Alert, AlertKind, silence::Silence},
};

/// Where the documentation says what to do.
pub(crate) fn runbook(kind: AlertKind) -> String {
    format!("docs/alerts/{}.md", kind.page())
}

pub(crate) fn view_of(alert: Alert, silenced: bool) -> AlertView {
    let kind = alert.key.kind;
    AlertView { summary: kind.summary().to_owned(), runbook: runbook(kind), silenced, alert }
}

/// Those that fire, the worst first; then the newest `limit` of those that are over.
pub(crate) fn view(alerts: Vec<Alert>, silences: &[Silence], limit: usize, now: Timestamp) -> Vec<AlertView> {
    let (mut firing, mut over): (Vec<Alert>, Vec<Alert>) = alerts.into_iter().partition(Alert::is_firing);
    firing.sort_by(|one, other| other.severity.cmp(&one.severity).then_with(|| one.id.cmp(&other.id)));
    over.sort_by(|one, other| other.id.cmp(&one.id));
    over.truncate(limit);
    let is_silenced = |alert: &Alert| silences.iter().any(|silence| silence.covers(&alert.key, now));
    let view = |alert: Alert| {
        let silenced = alert.is_firing() && is_silenced(&alert);
        view_of(alert, silenced)
    };
    firing.into_iter().chain(over).map(view).collect()
}
