//! Users who get what somebody has chosen for them, whatever all others get.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{RevisionNumber, Timestamp, duration::Span};

/// The most users that are pinned one by one: they travel with the route.
pub const USERS_LIMIT: usize = 1000;
/// The longest key of a user, in bytes.
pub const KEY_LIMIT: usize = 256;
/// A pin lasts so long unless told otherwise.
pub const USUAL_TIME: Span = Span::from_secs(7 * 24 * 3600);
/// The longest that a pin may last.
pub const LONGEST_TIME: Span = Span::from_secs(366 * 24 * 3600);

/// The pins of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Pins {
    /// By the user's key.
    pub users: BTreeMap<String, Pin>,
}

/// What a user gets until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pin {
    #[schema(value_type = String)]
    pub to: PinTarget,
    #[schema(value_type = String)]
    pub until: Timestamp,
}

/// What a pin names: `live`, `candidate`, or the number of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PinTarget {
    Live,
    Candidate,
    Revision(RevisionNumber),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is nothing to pin users to: write live, candidate, or the number of a revision")]
pub struct NoTarget(String);

impl std::str::FromStr for PinTarget {
    type Err = NoTarget;

    fn from_str(text: &str) -> Result<Self, NoTarget> {
        match text {
            "live" => Ok(Self::Live),
            "candidate" => Ok(Self::Candidate),
            _ => text.parse().map(Self::Revision).map_err(|_| NoTarget(text.to_owned())),
        }
    }
}

impl TryFrom<String> for PinTarget {
    type Error = NoTarget;

    fn try_from(text: String) -> Result<Self, NoTarget> {
        text.parse()
    }
}

impl From<PinTarget> for String {
    fn from(target: PinTarget) -> Self {
        target.to_string()
    }
}

impl std::fmt::Display for PinTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Live => f.write_str("live"),
            Self::Candidate => f.write_str("candidate"),
            Self::Revision(number) => write!(f, "{number}"),
        }
    }
}

impl Pins {
    /// What somebody has chosen for a user.
    pub fn of(&self, user: &[u8], now: Timestamp) -> Option<PinTarget> {
        let pin = self.users.get(std::str::from_utf8(user).ok()?)?;
        (pin.until > now).then_some(pin.to)
    }

    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Forgets what has expired.
    pub fn expire(&mut self, now: Timestamp) {
        self.users.retain(|_, pin| pin.until > now);
    }

    /// Whether somebody is pinned to that revision.
    pub fn name(&self, revision: RevisionNumber) -> bool {
        self.users.values().any(|pin| pin.to == PinTarget::Revision(revision))
    }
}

impl PinTarget {
    /// Which kind of target it is.
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Candidate => "candidate",
            Self::Revision(_) => "revision",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_last_until_their_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let pin = Pin { to: PinTarget::Candidate, until: at(10) };
        let mut pins = Pins { users: [("ada".to_owned(), pin)].into() };
        assert_eq!(pins.of(b"ada", at(9)), Some(PinTarget::Candidate));
        assert_eq!(pins.of(b"ada", at(10)), None);
        assert_eq!((pins.of(b"bob", at(9)), pins.of(b"\xff", at(9))), (None, None));
        pins.expire(at(9));
        assert!(!pins.is_empty());
        pins.expire(at(10));
        assert!(pins.is_empty());
    }

    #[test]
    fn targets_are_written_as_people_say_them() {
        for text in ["live", "candidate", "7"] {
            let target: PinTarget = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
            assert_eq!(serde_json::to_value(target).unwrap(), text);
        }
        let error = "blue".parse::<PinTarget>().unwrap_err().to_string();
        assert_eq!(error, "`blue` is nothing to pin users to: write live, candidate, or the number of a revision");
    }
}
