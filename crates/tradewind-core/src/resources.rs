//! What a replica may take of its machine, as people write it: `1.5` cores, `512MiB` of memory.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

/// Time on cores, in thousandths of a core. Written as a number of cores, such as `1.5`; flags also take `1500m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = f64, minimum = 0, examples(1.5))]
pub struct Cpu(u32);

/// Bytes of memory. Written with its unit, such as `512MiB` or `2GB`; `Mi` and `Gi` are read too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String, pattern = r"^[0-9]+\s*([KMGT]i?B|[KMGT]i|B)$", examples("512MiB"))]
pub struct Memory(u64);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a number of cores: write 2, 1.5 or 500m")]
pub struct InvalidCpu(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount of memory: write 512MiB, 2GiB or 1500MB")]
pub struct InvalidMemory(String);

/// From the largest to the smallest; what is printed is among the first five.
const UNITS: [(&str, u64); 13] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
];

impl Cpu {
    pub const fn from_milli(milli: u32) -> Self {
        Self(milli)
    }

    pub const fn milli(self) -> u32 {
        self.0
    }

    /// In whole thousandths, if it is no more than fit and no less than none.
    fn from_cores(cores: f64) -> Option<Self> {
        let milli = (cores * 1000.0).round();
        ((0.0..=f64::from(u32::MAX)).contains(&milli)).then_some(Self(milli as u32))
    }
}

impl FromStr for Cpu {
    type Err = InvalidCpu;

    fn from_str(text: &str) -> Result<Self, InvalidCpu> {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let read = match text.strip_suffix('m') {
            Some(milli) => milli.parse().ok().map(Self),
            None if is_plain => text.parse().ok().and_then(Self::from_cores),
            None => None,
        };
        read.ok_or_else(|| InvalidCpu(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1000.0)
    }
}

impl Serialize for Cpu {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Cpu {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let cores = f64::deserialize(deserializer)?;
        Self::from_cores(cores).ok_or_else(|| de::Error::custom(InvalidCpu(cores.to_string())))
    }
}

impl Memory {
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Memory {
    type Err = InvalidMemory;

    fn from_str(text: &str) -> Result<Self, InvalidMemory> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (count, unit) = text.split_at(digits);
        let factor = UNITS.iter().find(|(name, _)| *name == unit.trim_start()).map(|(_, factor)| *factor);
        let bytes = count.parse::<u64>().ok().zip(factor).and_then(|(count, factor)| count.checked_mul(factor));
        bytes.map(Self).ok_or_else(|| InvalidMemory(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitting = UNITS.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        let (unit, factor) = fitting.copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cores_are_read_as_people_write_them() {
        for (text, milli) in [("2", 2000), ("1.5", 1500), ("500m", 500), ("0.05", 50), ("0", 0)] {
            assert_eq!(text.parse::<Cpu>().unwrap().milli(), milli, "{text}");
        }
        for bad in ["", "m", ".", "-1", "1e3", "1.5m", "inf", "NaN", "1 core", "9999999", "+1", "99999999999m"] {
            assert!(bad.parse::<Cpu>().is_err(), "{bad:?} was accepted");
        }
        for (json, milli) in [("1.5", Some(1500)), ("2", Some(2000)), ("-1", None), ("1e300", None), ("\"1\"", None)] {
            assert_eq!(serde_json::from_str(json).ok().map(Cpu::milli), milli, "{json}");
        }
    }

    #[test]
    fn memory_is_read_as_people_write_it() {
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("2GiB", 2 << 30),
            ("2Gi", 2 << 30),
            ("1500MB", 1_500_000_000),
            ("64 MiB", 64 << 20),
            ("100B", 100),
            ("0B", 0),
        ] {
            assert_eq!(text.parse::<Memory>().unwrap().bytes(), bytes, "{text}");
        }
        for bad in ["", "512", "MiB", "1.5GiB", "-1MiB", "512m", "99999999999TiB", "1 Gi B", "1GiB "] {
            assert!(bad.parse::<Memory>().is_err(), "{bad:?} was accepted");
        }
        assert_eq!(Memory::from_bytes(1536 << 20).to_string(), "1536MiB");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(milli: u32, bytes: u64) {
            let (cpu, memory) = (Cpu::from_milli(milli), Memory::from_bytes(bytes));
            prop_assert_eq!(cpu.to_string().parse::<Cpu>(), Ok(cpu));
            prop_assert_eq!(memory.to_string().parse::<Memory>(), Ok(memory));
            prop_assert_eq!(serde_json::from_str::<Cpu>(&serde_json::to_string(&cpu).unwrap()).unwrap(), cpu);
        }
    }
}
