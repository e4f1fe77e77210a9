//! What receivers are sent, in each format.

use serde_json::{Value, json};
use tradewind_api::monitoring::{AlertView, Notification};
use tradewind_core::{
    Timestamp,
    alert::{
        Alert, Severity,
        receiver::{Format, State},
    },
};

/// While it fires, an Alertmanager is told again this often, and takes silence of so many times as long for the end.
pub(super) const REFRESH: std::time::Duration = std::time::Duration::from_secs(60);
const REFRESHES_MISSED: u32 = 5;

/// What is told of one alert.
pub(super) struct Change {
    pub(super) alert: AlertView,
    pub(super) state: State,
    /// How bad the receiver takes it for, if it has got worse.
    pub(super) was: Option<Severity>,
}

/// The body for a change of one alert.
pub(super) fn change(format: Format, change: &Change, now: Timestamp) -> Value {
    let Change { alert, state, was } = change;
    match format {
        Format::Json => {
            let kind = format!("alert.{}", state.as_str());
            let notification = Notification { kind, timestamp: now, data: alert.clone() };
            serde_json::to_value(notification).expect("a notification has no keys but strings")
        }
        Format::Slack => json!({ "text": text(alert, *state) }),
        Format::Alertmanager => {
            let ends_at = match state {
                State::Resolved => alert.alert.resolved_at.unwrap_or(now),
                State::Firing => unless_refreshed(now),
            };
            let current = for_alertmanager(alert, alert.alert.severity, ends_at);
            // Its severity is part of what it is there: the one before has to end.
            let before = was.map(|severity| for_alertmanager(alert, severity, now));
            [current].into_iter().chain(before).collect()
        }
    }
}

/// The body that says that alerts still fire, for receivers that forget.
pub(super) fn refresh(alerts: &[AlertView], now: Timestamp) -> Value {
    alerts.iter().map(|alert| for_alertmanager(alert, alert.alert.severity, unless_refreshed(now))).collect()
}

/// The body that tries a receiver out.
pub(super) fn test(format: Format, now: Timestamp) -> Value {
    match format {
        Format::Json => json!({ "type": "test", "timestamp": now, "data": {} }),
        Format::Slack => json!({ "text": "Tradewind reaches this channel." }),
        Format::Alertmanager => json!([]),
    }
}

/// `*CRITICAL* RegionDown in us-east1: no agent for 12 s`
fn text(alert: &AlertView, state: State) -> String {
    let Alert { key, severity, detail, .. } = &alert.alert;
    let (mark, word) = match (state, severity) {
        (State::Resolved, _) => (":large_green_circle:", "RESOLVED"),
        (State::Firing, Severity::Critical) => (":red_circle:", "CRITICAL"),
        (State::Firing, Severity::Warning) => (":large_yellow_circle:", "WARNING"),
    };
    format!("{mark} *{word}* {key}: {detail}\n{}. What to do: {}", alert.summary, alert.runbook)
}

/// When an Alertmanager takes silence for the end.
fn unless_refreshed(now: Timestamp) -> Timestamp {
    now.checked_add(REFRESH * REFRESHES_MISSED).unwrap_or(now)
}

fn for_alertmanager(alert: &AlertView, severity: Severity, ends_at: Timestamp) -> Value {
    let Alert { key, detail, fired_at, .. } = &alert.alert;
    let mut labels = json!({ "alertname": key.kind, "severity": severity, "source": "tradewind" });
    for (name, value) in
        [("model", key.model.as_ref().map(AsRef::as_ref)), ("region", key.region.as_ref().map(AsRef::as_ref))]
    {
        let value: Option<&str> = value;
        if let Some(value) = value {
            labels[name] = value.into();
        }
    }
    json!({
        "labels": labels,
        "annotations": { "summary": alert.summary, "description": detail, "runbook_url": alert.runbook },
        "startsAt": fired_at,
        "endsAt": ends_at,
    })
}

#[cfg(test)]
mod tests {
    use tradewind_core::alert::{AlertKey, AlertKind};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn check(format: Format, state: State, was: Option<Severity>, expected: &Value) {
        let key = AlertKey { kind: AlertKind::RegionDown, model: None, region: Some("us-east1".parse().unwrap()) };
        let alert = Alert {
            id: "17".to_owned(),
            key,
            severity: Severity::Critical,
            detail: "no agent for 12 s".to_owned(),
            since: at(0),
            fired_at: at(1),
            resolved_at: (state == State::Resolved).then(|| at(9)),
            hushed: false,
            deliveries: Default::default(),
        };
        let told = Change { alert: crate::view::alerts::view_of(alert, false), state, was };
        assert_eq!(change(format, &told, at(10)), *expected);
    }

    #[test]
    fn slack_gets_one_text() {
        let expected = json!({
            "text": ":red_circle: *CRITICAL* RegionDown in us-east1: no agent for 12 s\na region that serves users has no agent or no gateway. What to do: docs/alerts/region-down.md",
        });
        check(Format::Slack, State::Firing, None, &expected);
    }

    #[test]
    fn alertmanager_gets_labels_and_an_end() {
        let of = |severity: &str, ends_at: &str| {
            json!({
                "labels": { "alertname": "RegionDown", "severity": severity, "source": "tradewind", "region": "us-east1" },
                "annotations": {
                    "summary": "a region that serves users has no agent or no gateway",
                    "description": "no agent for 12 s",
                    "runbook_url": "docs/alerts/region-down.md",
                },
                "startsAt": "2023-11-14T22:13:21Z",
                "endsAt": ends_at,
            })
        };
        let (resolved, later) = (of("critical", "2023-11-14T22:13:29Z"), of("critical", "2023-11-14T22:18:30Z"));
        check(Format::Alertmanager, State::Resolved, None, &json!([resolved]));
        check(Format::Alertmanager, State::Firing, None, &json!([later]));
        let before = of("warning", "2023-11-14T22:13:30Z");
        check(Format::Alertmanager, State::Firing, Some(Severity::Warning), &json!([later, before]));
    }
}
