//! Tokens: derived from one secret by scope, so that nothing but the secret is stored.
//!
//! A token is `tw1.<scope>.<64 hexadecimal digits>`; the digits are BLAKE3, keyed by the secret, of the scope. Whoever
//! holds the secret (control, and `up` on the same machine) can issue and check tokens for every scope.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use tradewind_core::RegionName;

/// The secret's file in control's data directory.
pub const SECRET_FILE: &str = "secret";

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everything that people do.
    Admin,
    /// What the agents of one region need.
    Agent(RegionName),
    /// What the gateways of one region need.
    Gateway(RegionName),
    /// To find everything that shows metrics, and nothing else.
    Monitoring,
    /// What agents and gateways show each other.
    Mesh,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.write_str("admin"),
            Self::Agent(region) => write!(f, "agent/{region}"),
            Self::Gateway(region) => write!(f, "gateway/{region}"),
            Self::Monitoring => f.write_str("monitoring"),
            Self::Mesh => f.write_str("mesh"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a scope: admin, monitoring, agent/REGION, gateway/REGION or mesh")]
pub struct InvalidScope(String);

impl FromStr for Scope {
    type Err = InvalidScope;
    fn from_str(value: &str) -> Result<Self, InvalidScope> {
        let invalid = || InvalidScope(value.chars().take(120).collect());
        let region = |name: &str| name.parse().map_err(|_| invalid());
        match value.split_once('/') {
            None if value == "admin" => Ok(Self::Admin),
            None if value == "monitoring" => Ok(Self::Monitoring),
            None if value == "mesh" => Ok(Self::Mesh),
            Some(("agent", name)) => Ok(Self::Agent(region(name)?)),
            Some(("gateway", name)) => Ok(Self::Gateway(region(name)?)),
            _ => Err(invalid()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the secret {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is not a secret of 32 bytes; restore it from a backup, or remove it to have new tokens made", path.display())]
    Malformed { path: PathBuf },
}

/// Issues and checks tokens.
#[derive(Clone)]
pub struct Authority {
    secret: [u8; 32],
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// Reads the secret in `data_dir`, making it at the first start, readable by its owner alone.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        let path = data_dir.join(SECRET_FILE);
        match fs::read(&path) {
            Ok(bytes) => {
                let secret = bytes.try_into().map_err(|_| Error::Malformed { path })?;
                Ok(Self { secret })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secret: [u8; 32] = rand::random();
                write_private(&path, &secret).map_err(|source| Error::Write { path: path.clone(), source })?;
                // Two first starts at once: whoever renamed last has won, and both read that.
                fs::read(&path)
                    .map_err(|source| Error::Read { path: path.clone(), source })?
                    .try_into()
                    .map(|secret| Self { secret })
                    .map_err(|_| Error::Malformed { path })
            }
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    pub fn issue(&self, scope: &Scope) -> String {
        format!("tw1.{scope}.{}", blake3::keyed_hash(&self.secret, scope.to_string().as_bytes()).to_hex())
    }

    /// What the token allows; `None` for anything that this authority did not issue. Takes the same time for all.
    pub fn check(&self, token: &str) -> Option<Scope> {
        let (scope, digits) = token.strip_prefix("tw1.")?.rsplit_once('.')?;
        let scope: Scope = scope.parse().ok()?;
        let presented = blake3::Hash::from_hex(digits).ok()?;
        // The comparison of two hashes is constant-time.
        (blake3::keyed_hash(&self.secret, scope.to_string().as_bytes()) == presented).then_some(scope)
    }
}

/// Writes a file that only its owner may read, by rename, durably.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let temporary = directory.join(format!(".{:016x}.tmp", rand::random::<u64>()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file
        .write_all(content)
        .and_then(|()| file.set_permissions(fs::Permissions::from_mode(0o600)))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| fs::File::open(directory)?.sync_all());
    if written.is_err() {
        // The error that matters is the one above; a leftover is only untidy.
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(seed: u8) -> Authority {
        Authority { secret: [seed; 32] }
    }

    #[test]
    fn a_token_allows_its_scope_and_nothing_else() {
        let region: RegionName = "us-east1".parse().unwrap();
        let authority = authority(1);
        for scope in
            [Scope::Admin, Scope::Monitoring, Scope::Mesh, Scope::Agent(region.clone()), Scope::Gateway(region)]
        {
            assert_eq!(authority.check(&authority.issue(&scope)), Some(scope));
        }
        let agent = authority.issue(&"agent/us-east1".parse().unwrap());
        assert_eq!(authority.check(&agent.replace("us-east1", "europe-west1")), None);
        assert_eq!(authority.check(&agent.replace("agent/us-east1", "admin")), None);
    }

    #[test]
    fn tokens_of_another_secret_and_nonsense_are_refused() {
        let other = authority(2).issue(&Scope::Admin);
        for token in [other.as_str(), "", "tw1.", "tw1.admin.", "tw1.admin.00", "tw1.root.aa", "Bearer x"] {
            assert_eq!(authority(1).check(token), None, "{token}");
        }
    }
}
