//! Silences: alerts that somebody knows of already, and nobody is told of.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AlertKey, AlertKind};
use crate::{ModelName, RegionName, Timestamp};

/// Alerts that match everything that is named here. Stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Silence {
    pub id: String,
    #[serde(flatten)]
    pub matcher: Matcher,
    #[schema(value_type = String)]
    pub until: Timestamp,
    /// Why, for others.
    pub comment: String,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    pub created_by: String,
}

/// What is absent matches anything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Matcher {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<AlertKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionName>,
}

impl Matcher {
    pub fn matches(&self, key: &AlertKey) -> bool {
        self.kind.is_none_or(|kind| kind == key.kind)
            && self.model.as_ref().is_none_or(|model| key.model.as_ref() == Some(model))
            && self.region.as_ref().is_none_or(|region| key.region.as_ref() == Some(region))
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Silence {
    pub fn covers(&self, key: &AlertKey, now: Timestamp) -> bool {
        now < self.until && self.matcher.matches(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_named_must_match() {
        let key = AlertKey { kind: AlertKind::RegionDown, model: None, region: Some("us-east1".parse().unwrap()) };
        let check = |kind: Option<AlertKind>, model: Option<&str>, region: Option<&str>, expected| {
            let matcher = Matcher {
                kind,
                model: model.map(|name| name.parse().unwrap()),
                region: region.map(|name| name.parse().unwrap()),
            };
            assert_eq!(matcher.matches(&key), expected, "{matcher:?}");
        };
        check(None, None, None, true);
        check(Some(AlertKind::RegionDown), None, None, true);
        check(Some(AlertKind::DiskRoom), None, Some("us-east1"), false);
        check(None, None, Some("us-east1"), true);
        check(None, None, Some("europe-west1"), false);
        check(None, Some("digits"), Some("us-east1"), false);
    }
}
