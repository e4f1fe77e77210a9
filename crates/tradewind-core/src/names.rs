//! Names, numbers and digests: one type each, checked where they enter.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::ToSchema;

/// The longest model or region name, in bytes: it must fit a path component and a key.
pub const NAME_LIMIT: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    #[error("a {kind} name may not be empty")]
    Empty { kind: &'static str },
    #[error("a {kind} name has at most {NAME_LIMIT} characters, this one has {length}")]
    TooLong { kind: &'static str, length: usize },
    #[error("`{value}` is not a {kind} name: use letters, digits, `.`, `_` and `-`, and begin with a letter or digit")]
    Character { kind: &'static str, value: String },
}

fn check_name(kind: &'static str, value: &str) -> Result<(), InvalidName> {
    let Some(first) = value.chars().next() else { return Err(InvalidName::Empty { kind }) };
    if value.len() > NAME_LIMIT {
        return Err(InvalidName::TooLong { kind, length: value.chars().count() });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !first.is_ascii_alphanumeric() || !value.chars().all(allowed) {
        return Err(InvalidName::Character { kind, value: value.to_owned() });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
        #[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length = 100)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(value: &str) -> Result<Self, InvalidName> {
                check_name($kind, value)?;
                Ok(Self(value.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

name!(
    /// A model's name, `[A-Za-z0-9][A-Za-z0-9._-]*`.
    ModelName,
    "model"
);
name!(
    /// A region's name, such as `us-east1` or one of your own.
    RegionName,
    "region"
);

name!(
    /// The name of a receiver of alerts, such as `pager`.
    ReceiverName,
    "receiver"
);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(value: &str) -> Result<Self, Self::Err> {
                value.parse().map(Self)
            }
        }
    };
}

number!(
    /// The number of an immutable version of a model, from 1.
    VersionNumber
);
number!(
    /// The number of a revision of a deployment, from 1.
    RevisionNumber
);
number!(
    /// The number of a rollout of a deployment, from 1.
    RolloutNumber
);
number!(
    /// The number of a drill, from 1.
    DrillNumber
);
number!(
    /// Counts the changes of a model's route, fleet-wide. Nobody goes back to an older one.
    Epoch
);
number!(
    /// Counts the changes of an assignment. An agent refuses an older one.
    Generation
);

/// One of the two environments that every region has for a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    Blue,
    Green,
}

impl Slot {
    pub const BOTH: [Self; 2] = [Self::Blue, Self::Green];

    pub fn named(text: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|slot| slot.as_str() == text)
    }

    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a BLAKE3 digest: 64 hexadecimal digits, with or without `blake3:` before them")]
pub struct InvalidDigest(String);

/// A BLAKE3 digest of 256 bits, written `blake3:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lower-case hexadecimal digits, without the prefix.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The form people read: `blake3:` and the first ten digits.
    pub fn short(&self) -> String {
        format!("blake3:{}", &self.to_hex()[..10])
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;
    fn from_str(value: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest(value.chars().take(80).collect());
        let hex = value.strip_prefix("blake3:").unwrap_or(value).as_bytes();
        if hex.len() != 64 {
            return Err(invalid());
        }
        let nibble = |c: u8| (c as char).to_digit(16).filter(|_| !c.is_ascii_uppercase()).map(|d| d as u8);
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0]).zip(nibble(pair[1])).map(|(high, low)| high << 4 | low).ok_or_else(invalid)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_where_they_enter() {
        assert!("digits".parse::<ModelName>().is_ok());
        assert!("resnet-50_v1.5".parse::<ModelName>().is_ok());
        for bad in ["", "../etc", ".hidden", "a b", "naïve", "-x", "a/b", &"x".repeat(NAME_LIMIT + 1)] {
            assert!(bad.parse::<ModelName>().is_err(), "{bad:?} was accepted");
        }
        assert!(serde_json::from_str::<RegionName>("\"us east\"").is_err());
    }

    #[test]
    fn digests_round_trip_and_refuse_other_spellings() {
        let digest = Digest::from_bytes([0xa7; 32]);
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert_eq!(digest.to_hex().parse::<Digest>().unwrap(), digest);
        assert_eq!(digest.short(), "blake3:a7a7a7a7a7");
        assert!(digest.to_hex().to_uppercase().parse::<Digest>().is_err());
        assert!("blake3:12".parse::<Digest>().is_err());
    }
}
