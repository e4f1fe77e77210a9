//! Alerts: what is found wrong, held back until it lasts, told once, and taken back when it is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ModelName, ReceiverName, RegionName, Timestamp, duration::Span};

mod kind;
pub mod receiver;
pub mod silence;

pub use kind::{AlertKind, UnknownKind};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody should look at it in the next days.
    Warning,
    /// Users feel it, or are about to: somebody is woken.
    Critical,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// What an alert is about. Two findings with one key are one alert.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct AlertKey {
    pub kind: AlertKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionName>,
}

impl fmt::Display for AlertKey {
    /// `ErrorBudgetBurn of digits in us-east1`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.kind)?;
        if let Some(model) = &self.model {
            write!(formatter, " of {model}")?;
        }
        match &self.region {
            Some(region) => write!(formatter, " in {region}"),
            None => Ok(()),
        }
    }
}

/// What a monitor sees now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It is as it should be.
    Well,
    /// It is not; one phrase says how.
    Bad { severity: Severity, detail: String },
    /// Nobody knows, so nothing changes.
    Unknown,
}

/// An alert, from when it fires. Stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// Grows with time, and is unique.
    pub id: String,
    #[serde(flatten)]
    pub key: AlertKey,
    pub severity: Severity,
    /// One phrase: `no agent for 12 s`.
    pub detail: String,
    /// When it was first seen.
    #[schema(value_type = String)]
    pub since: Timestamp,
    #[schema(value_type = String)]
    pub fired_at: Timestamp,
    #[schema(value_type = Option<String>)]
    pub resolved_at: Option<Timestamp>,
    /// It was silenced when it resolved: who was not told of its beginning is told nothing.
    #[serde(default)]
    pub hushed: bool,
    /// Who is told of it.
    #[serde(default)]
    pub deliveries: BTreeMap<ReceiverName, Delivery>,
}

/// How far one receiver has been told.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Delivery {
    #[schema(value_type = Option<String>)]
    pub firing_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    pub resolved_at: Option<Timestamp>,
    /// How bad it was when the receiver was told of it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
}

impl Alert {
    pub fn is_firing(&self) -> bool {
        self.resolved_at.is_none()
    }
}

/// What changes about an alert.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Fire {
        key: AlertKey,
        severity: Severity,
        detail: String,
        since: Timestamp,
    },
    /// It goes on, and is worse, or otherwise bad.
    Update {
        key: AlertKey,
        severity: Severity,
        detail: String,
    },
    Resolve {
        key: AlertKey,
    },
}

/// How long each finding has been as it is. Held in memory: whoever starts anew waits anew.
#[derive(Debug, Clone, Default)]
pub struct Holds {
    bad_since: BTreeMap<AlertKey, Timestamp>,
    well_since: BTreeMap<AlertKey, Timestamp>,
}

impl Holds {
    /// What changes, by what is found now and what fires already. A key that is not found at all is not watched any more,
    /// and resolves like one that is well.
    pub fn advance(
        &mut self,
        findings: &BTreeMap<AlertKey, Finding>,
        firing: &BTreeMap<AlertKey, Alert>,
        now: Timestamp,
    ) -> Vec<Change> {
        self.bad_since.retain(|key, _| findings.contains_key(key));
        self.well_since.retain(|key, _| firing.contains_key(key));
        let keys: BTreeSet<&AlertKey> = findings.keys().chain(firing.keys()).collect();
        let change = |key: &AlertKey| match (findings.get(key).unwrap_or(&Finding::Well), firing.get(key)) {
            (Finding::Bad { severity, detail }, fires) => self.is_bad(key, *severity, detail, fires, now),
            (Finding::Well, fires) => self.is_well(key, fires.is_some(), now),
            (Finding::Unknown, _) => None,
        };
        keys.into_iter().filter_map(change).collect()
    }

    fn is_bad(
        &mut self,
        key: &AlertKey,
        severity: Severity,
        detail: &str,
        fires: Option<&Alert>,
        now: Timestamp,
    ) -> Option<Change> {
        self.well_since.remove(key);
        let since = *self.bad_since.entry(key.clone()).or_insert(now);
        let (key, detail) = (key.clone(), detail.to_owned());
        match fires {
            // The detail alone changes with every look.
            Some(alert) => (alert.severity < severity).then_some(Change::Update { key, severity, detail }),
            None => lasts(since, now, key.kind.hold()).then_some(Change::Fire { key, severity, detail, since }),
        }
    }

    fn is_well(&mut self, key: &AlertKey, fires: bool, now: Timestamp) -> Option<Change> {
        self.bad_since.remove(key);
        if !fires {
            return None;
        }
        let since = *self.well_since.entry(key.clone()).or_insert(now);
        lasts(since, now, key.kind.calm()).then(|| Change::Resolve { key: key.clone() })
    }
}

fn lasts(since: Timestamp, now: Timestamp, hold: Duration) -> bool {
    Duration::try_from(now.duration_since(since)).is_ok_and(|lasted| lasted >= hold)
}

/// A receiver is not tried any longer after this time: what is so old is in the list of alerts.
pub const DELIVERY_LIMIT: Span = Span::from_secs(24 * 3600);

#[cfg(test)]
mod tests;
