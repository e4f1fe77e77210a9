//! The catalogue of alerts. Each has a page in the documentation that says what to do.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub enum AlertKind {
    /// A region that serves has no agent or no gateway.
    RegionDown,
    /// A region that should serve a model has no replica of it that is ready.
    ModelUnavailable,
    /// It has some, and fewer than it should.
    ReplicasMissing,
    /// Golden cases are answered wrongly.
    WrongAnswers,
    /// Requests fail so often that the error budget will not last.
    ErrorBudgetBurn,
    /// Answers are so slow that the latency's budget will not last.
    LatencyBudgetBurn,
    /// Replicas have nearly as much in flight as they can.
    Saturation,
    /// A disk is nearly full.
    DiskRoom,
    /// A region serves another revision than users should get.
    VersionDrift,
    /// A gateway does not take up what control tells it.
    GatewayStale,
    /// If the region were lost, the others could not carry its users.
    FailoverUnfit,
}

impl AlertKind {
    pub const ALL: [Self; 11] = [
        Self::RegionDown,
        Self::ModelUnavailable,
        Self::ReplicasMissing,
        Self::WrongAnswers,
        Self::ErrorBudgetBurn,
        Self::LatencyBudgetBurn,
        Self::Saturation,
        Self::DiskRoom,
        Self::VersionDrift,
        Self::GatewayStale,
        Self::FailoverUnfit,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::RegionDown => "RegionDown",
            Self::ModelUnavailable => "ModelUnavailable",
            Self::ReplicasMissing => "ReplicasMissing",
            Self::WrongAnswers => "WrongAnswers",
            Self::ErrorBudgetBurn => "ErrorBudgetBurn",
            Self::LatencyBudgetBurn => "LatencyBudgetBurn",
            Self::Saturation => "Saturation",
            Self::DiskRoom => "DiskRoom",
            Self::VersionDrift => "VersionDrift",
            Self::GatewayStale => "GatewayStale",
            Self::FailoverUnfit => "FailoverUnfit",
        }
    }

    /// What is wrong, in one sentence.
    pub fn summary(self) -> &'static str {
        match self {
            Self::RegionDown => "a region that serves users has no agent or no gateway",
            Self::ModelUnavailable => "no replica of the model is ready in the region",
            Self::ReplicasMissing => "fewer replicas of the model are ready in the region than there should be",
            Self::WrongAnswers => "replicas of the model answered golden cases wrongly",
            Self::ErrorBudgetBurn => "requests fail so often that the error budget will not last",
            Self::LatencyBudgetBurn => "answers are so slow that the latency budget will not last",
            Self::Saturation => "the region's replicas have nearly as much in flight as they can",
            Self::DiskRoom => "a disk is nearly full",
            Self::VersionDrift => "the region serves another revision than it should",
            Self::GatewayStale => "a gateway does not take up what the control plane tells it",
            Self::FailoverUnfit => "if the region were lost, the others could not carry its users",
        }
    }

    /// Where the documentation says what to do: the last part of its path.
    pub fn page(self) -> String {
        let mut page = String::new();
        for letter in self.as_str().chars() {
            if letter.is_ascii_uppercase() && !page.is_empty() {
                page.push('-');
            }
            page.push(letter.to_ascii_lowercase());
        }
        page
    }

    /// It must last so long before it fires. What is proved by counts, or by silence that was waited for, needs no more; what
    /// happens at every deploy or restart for a moment does.
    pub fn hold(self) -> Duration {
        Duration::from_secs(match self {
            Self::RegionDown | Self::WrongAnswers | Self::ErrorBudgetBurn | Self::LatencyBudgetBurn => 0,
            Self::ModelUnavailable => 5,
            Self::GatewayStale | Self::DiskRoom => 15,
            Self::ReplicasMissing | Self::Saturation | Self::VersionDrift | Self::FailoverUnfit => 60,
        })
    }

    /// It must be well for so long before it resolves, so that what comes and goes is one alert.
    pub fn calm(self) -> Duration {
        Duration::from_secs(match self {
            Self::RegionDown | Self::ModelUnavailable | Self::GatewayStale | Self::VersionDrift => 10,
            Self::WrongAnswers | Self::ReplicasMissing | Self::DiskRoom => 60,
            Self::ErrorBudgetBurn | Self::LatencyBudgetBurn | Self::Saturation | Self::FailoverUnfit => 120,
        })
    }
}

impl fmt::Display for AlertKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no alert is called `{0}`")]
pub struct UnknownKind(String);

impl FromStr for AlertKind {
    type Err = UnknownKind;

    /// In any case, with or without hyphens.
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let plain = |text: &str| text.replace('-', "").to_ascii_lowercase();
        let named = |kind: &Self| plain(kind.as_str()) == plain(text);
        Self::ALL.into_iter().find(named).ok_or_else(|| UnknownKind(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_their_names_and_pages() {
        for kind in AlertKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(kind.page().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!(AlertKind::ErrorBudgetBurn.page(), "error-budget-burn");
        assert_eq!("RegionGone".parse::<AlertKind>().unwrap_err().to_string(), "no alert is called `RegionGone`");
    }
}
