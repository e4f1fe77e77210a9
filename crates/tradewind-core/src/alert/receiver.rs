//! Who is told of alerts, and what each has to be told next.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Alert, DELIVERY_LIMIT, Severity};
use crate::{ReceiverName, Timestamp};

/// The most receivers.
pub const RECEIVERS_LIMIT: usize = 50;

/// A webhook. Stored; its secret is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    pub name: ReceiverName,
    pub url: String,
    pub format: Format,
    /// What deliveries are signed with, in base64.
    pub secret: Option<String>,
    pub created_at: Timestamp,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, url, format, .. } = self;
        formatter.debug_struct("Receiver").field("name", name).field("url", url).field("format", format).finish()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// An alert as JSON, signed after the Standard Webhooks specification.
    Json,
    /// `{"text": ...}`, which Slack, Mattermost and others take.
    Slack,
    /// `POST /api/v2/alerts` of Prometheus' Alertmanager.
    Alertmanager,
}

impl Format {
    pub const ALL: [Self; 3] = [Self::Json, Self::Slack, Self::Alertmanager];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Slack => "slack",
            Self::Alertmanager => "alertmanager",
        }
    }
}

/// What a receiver is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Firing,
    Resolved,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// What the receiver has to be told next of this alert. It is told of the end only if it was told of the beginning, and
/// always in this order; also of one that was over before it could be told. It is told again when it gets worse. What
/// fires while it is silenced is told when the silence ends, if it still fires then; what was over before the receiver was
/// made is not told.
pub fn next(alert: &Alert, receiver: &Receiver, silenced: bool, now: Timestamp) -> Option<State> {
    let told = alert.deliveries.get(&receiver.name).cloned().unwrap_or_default();
    let newest = alert.resolved_at.unwrap_or(now);
    let is_too_old = newest.checked_add(DELIVERY_LIMIT.duration()).is_ok_and(|limit| limit <= now);
    if is_too_old {
        return None;
    }
    let concerns = alert.is_firing() || (!alert.hushed && receiver.created_at <= alert.fired_at);
    match (told.firing_at, told.resolved_at) {
        (None, _) => (concerns && !silenced).then_some(State::Firing),
        (Some(_), None) if !alert.is_firing() => Some(State::Resolved),
        (Some(_), _) => (worse_than_told(alert, receiver).is_some() && !silenced).then_some(State::Firing),
    }
}

/// How bad the receiver takes it for, if it is worse by now.
pub fn worse_than_told(alert: &Alert, receiver: &Receiver) -> Option<Severity> {
    let told = alert.deliveries.get(&receiver.name)?.severity?;
    (alert.is_firing() && told < alert.severity).then_some(told)
}

/// Whether the receiver was told that it fires, and it does. One that forgets is told again, also while it is silenced: it
/// would take our silence for the end.
pub fn holds(alert: &Alert, receiver: &Receiver) -> bool {
    let is_told = alert.deliveries.get(&receiver.name).is_some_and(|told| told.firing_at.is_some());
    is_told && alert.is_firing()
}

impl Alert {
    /// It is over.
    pub fn resolve(&mut self, silenced: bool, now: Timestamp) {
        self.resolved_at = Some(now);
        self.hushed = silenced;
    }

    /// The receiver took it.
    pub fn told(&mut self, receiver: &ReceiverName, state: State, now: Timestamp) {
        let delivery = self.deliveries.entry(receiver.clone()).or_default();
        match state {
            State::Firing => (delivery.firing_at, delivery.severity) = (Some(now), Some(self.severity)),
            State::Resolved => delivery.resolved_at = Some(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{AlertKey, AlertKind};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn receiver(created_at: i64) -> Receiver {
        Receiver {
            name: "pager".parse().unwrap(),
            url: "http://127.0.0.1:9/".to_owned(),
            format: Format::Json,
            secret: Some("secret".to_owned()),
            created_at: at(created_at),
        }
    }

    fn alert() -> Alert {
        Alert {
            id: "a".to_owned(),
            key: AlertKey { kind: AlertKind::RegionDown, model: None, region: None },
            severity: Severity::Warning,
            detail: String::new(),
            since: at(99),
            fired_at: at(100),
            resolved_at: None,
            hushed: false,
            deliveries: Default::default(),
        }
    }

    /// What a receiver is told, step by step: `s` while silenced, `w` it gets worse, `r` it resolves, `.` nothing happens.
    fn check(created_at: i64, script: &str, expected: &str) {
        let (mut alert, receiver) = (alert(), receiver(created_at));
        let mut silenced = false;
        let told: String = script
            .chars()
            .zip(100..)
            .map(|(step, second)| {
                match step {
                    's' => silenced = true,
                    'u' => silenced = false,
                    'w' => alert.severity = Severity::Critical,
                    'r' => alert.resolve(silenced, at(second)),
                    _ => {}
                }
                let state = next(&alert, &receiver, silenced, at(second));
                if let Some(state) = state {
                    alert.told(&receiver.name, state, at(second));
                }
                state.map_or('-', |state| if state == State::Firing { 'F' } else { 'R' })
            })
            .collect();
        assert_eq!(told, expected, "{script}");
    }

    #[test]
    fn receivers_are_told_of_the_beginning_then_of_the_end_and_of_each_once() {
        check(0, "..r..", "F-R--");
        check(0, "r...", "FR--");
        check(0, "s..u..r.", "---F--R-");
        check(0, "s..r.u..", "--------");
        check(0, ".sr.", "F-R-");
        check(150, "...r", "F--R");
        check(150, "r...", "----");
        check(0, ".w.r", "FF-R");
        check(0, ".sw.u.r", "F---F-R");
        check(0, "sw.u.r", "---F-R");
        check(0, ".swr", "F--R");
    }

    #[test]
    fn a_receiver_holds_what_it_was_told_of_until_that_is_over() {
        let (mut alert, receiver) = (alert(), receiver(0));
        assert!(!holds(&alert, &receiver));
        alert.told(&receiver.name, State::Firing, at(100));
        assert!(holds(&alert, &receiver));
        assert!(!holds(&alert, &Receiver { name: "other".parse().unwrap(), ..receiver.clone() }));
        alert.resolve(true, at(200));
        assert!(!holds(&alert, &receiver));
    }

    #[test]
    fn what_is_over_for_too_long_is_left() {
        let (mut alert, receiver) = (alert(), receiver(0));
        alert.resolve(false, at(200));
        let limit = 200 + DELIVERY_LIMIT.duration().as_secs() as i64;
        assert_eq!(next(&alert, &receiver, false, at(limit - 1)), Some(State::Firing));
        assert_eq!(next(&alert, &receiver, false, at(limit)), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(!format!("{:?}", receiver(0)).contains("secret"));
    }
}
