//! How a server is asked whether it is ready.

use std::{convert::Infallible, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The path that the Open Inference Protocol has for it.
pub const V2_READY_PATH: &str = "/v2/health/ready";
/// Stands for a probe that only connects.
const CONNECT: &str = "tcp";
/// The longest path, in bytes.
pub const PATH_BYTES_LIMIT: usize = 1024;

/// Reads and prints as the path, or as `tcp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Probe {
    /// `GET` of this path is answered with 2xx.
    Http(String),
    /// A connection is accepted: for servers that speak gRPC alone.
    Connect,
}

impl Probe {
    pub fn is_well_formed(&self) -> bool {
        match self {
            Self::Connect => true,
            Self::Http(path) => {
                let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
                path.starts_with('/') && plain && path.len() <= PATH_BYTES_LIMIT
            }
        }
    }
}

impl Default for Probe {
    fn default() -> Self {
        Self::Http(V2_READY_PATH.to_owned())
    }
}

impl FromStr for Probe {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.to_owned().into())
    }
}

impl From<String> for Probe {
    fn from(text: String) -> Self {
        if text == CONNECT { Self::Connect } else { Self::Http(text) }
    }
}

impl From<Probe> for String {
    fn from(probe: Probe) -> Self {
        match probe {
            Probe::Http(path) => path,
            Probe::Connect => CONNECT.to_owned(),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http(path) => path,
            Self::Connect => CONNECT,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_a_path_or_a_connection() {
        let check = |text: &str, expected: Probe, well_formed: bool| {
            let probe: Probe = serde_json::from_value(text.into()).unwrap();
            assert_eq!((&probe, probe.is_well_formed()), (&expected, well_formed));
            assert_eq!(serde_json::to_value(&probe).unwrap(), text);
            assert_eq!(probe.to_string(), text);
        };
        check("/health?full=1", Probe::Http("/health?full=1".to_owned()), true);
        check("tcp", Probe::Connect, true);
        check("health", Probe::Http("health".to_owned()), false);
        check("/a b", Probe::Http("/a b".to_owned()), false);
        check("/a#b", Probe::Http("/a#b".to_owned()), false);
        assert!(!Probe::Http("/".repeat(PATH_BYTES_LIMIT + 1)).is_well_formed());
    }
}
