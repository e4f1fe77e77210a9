//! Where everything of a world is: directories, addresses, tokens.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use tradewind_api::auth::{Authority, Scope, write_private};
use tradewind_core::RegionName;

use super::{REGIONS_LIMIT, loopback};
use crate::{failure::Failure, roles, settings::world::WORLD_FILE, traces::TracesArgs};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    Control,
    Agent,
    Gateway,
    Replica,
}

impl Role {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Agent => "agent",
            Self::Gateway => "gateway",
            Self::Replica => "replica",
        }
    }
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
    regions: Vec<RegionName>,
    port_base: u16,
    program: PathBuf,
    traces: TracesArgs,
}

/// Held for as long as this `up` works on its directory.
#[derive(Debug)]
pub(super) struct Lock {
    _file: fs::File,
}

impl Layout {
    /// Where everything will be. Changes nothing.
    pub(super) fn plan(
        root: &Path,
        regions: &[RegionName],
        port_base: u16,
        traces: TracesArgs,
    ) -> Result<Self, Failure> {
        let root = std::path::absolute(root).map_err(|error| cannot("find", root, &error))?;
        Ok(Self { root, regions: regions.to_vec(), port_base, program: roles::this_program()?, traces })
    }

    /// Where all of them send their traces, if `up` was told.
    pub(super) fn otlp_endpoint(&self) -> Option<&str> {
        self.traces.otlp_endpoint.as_deref()
    }

    /// Makes sure that no other `up` works here; `None` where none has ever worked. Changes nothing.
    pub(super) fn lock(&self) -> Result<Option<Lock>, Failure> {
        let path = self.lock_file();
        match fs::File::options().append(true).open(&path) {
            Ok(file) => self.take(file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(cannot("open", &path, &error)),
        }
    }

    /// Makes the directories and tokens, and the lock where there was none.
    pub(super) fn establish(&self, lock: Option<Lock>) -> Result<Lock, Failure> {
        // Nobody else on the machine needs to read the state of the fleet.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.logs())
            .map_err(|error| cannot("make", &self.root, &error))?;
        let lock = match lock {
            Some(lock) => lock,
            None => {
                let path = self.lock_file();
                let file = fs::File::options().create(true).append(true).open(&path);
                self.take(file.map_err(|error| cannot("open", &path, &error))?)?
            }
        };
        self.write_tokens()?;
        Ok(lock)
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("up.lock")
    }

    fn take(&self, file: fs::File) -> Result<Lock, Failure> {
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Failure::new(
                tradewind_api::Code::Refused,
                format!("another `tradewind up` runs on {}", self.root.display()),
            )
            .hint("stop it, or choose another directory with --data-dir")
        })?;
        Ok(Lock { _file: file })
    }

    fn write_tokens(&self) -> Result<(), Failure> {
        let control = self.directory(Role::Control, None);
        fs::create_dir_all(&control).map_err(|error| cannot("make", &control, &error))?;
        let authority =
            Authority::open(&control).map_err(|error| Failure::from_error(tradewind_api::Code::Internal, &error))?;
        let mut tokens = vec![(self.token_file(), Scope::Admin)];
        for region in &self.regions {
            tokens.push((self.member_token(Role::Agent, region), Scope::Agent(region.clone())));
            tokens.push((self.member_token(Role::Gateway, region), Scope::Gateway(region.clone())));
        }
        for (path, scope) in tokens {
            let token = authority.issue(&scope);
            if fs::read_to_string(&path).is_ok_and(|kept| kept == token) {
                continue;
            }
            write_private(&path, token.as_bytes()).map_err(|error| cannot("write", &path, &error))?;
        }
        Ok(())
    }

    /// The `tradewind` binary, found once: the file may be replaced while the world runs.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn regions(&self) -> &[RegionName] {
        &self.regions
    }

    pub(super) fn directory(&self, role: Role, region: Option<&RegionName>) -> PathBuf {
        match region {
            Some(region) => self.root.join(format!("{}s", role.as_str())).join(region.as_str()),
            None => self.root.join(role.as_str()),
        }
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub(super) fn world_file(&self) -> PathBuf {
        self.root.join(WORLD_FILE)
    }

    pub(super) fn roster_file(&self) -> PathBuf {
        self.root.join("roster.json")
    }

    pub(super) fn control_url(&self) -> String {
        format!("http://{}", self.address(Role::Control, None))
    }

    /// The admin's token, as control itself writes it.
    pub(super) fn token_file(&self) -> PathBuf {
        self.directory(Role::Control, None).join("admin.token")
    }

    pub(super) fn member_token(&self, role: Role, region: &RegionName) -> PathBuf {
        self.directory(role, Some(region)).join("token")
    }

    pub(super) fn address(&self, role: Role, region: Option<&RegionName>) -> SocketAddr {
        let place = region.and_then(|region| self.regions.iter().position(|known| known == region)).unwrap_or(0);
        let place = u16::try_from(place).expect("the number of regions is limited");
        let limit = u16::try_from(REGIONS_LIMIT).expect("the limit is small");
        loopback(match role {
            Role::Agent => self.port_base + 10 + limit + place,
            Role::Gateway => self.port_base + 10 + place,
            Role::Control | Role::Replica => self.port_base,
        })
    }
}

pub(super) fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::failed(format!("cannot {what} {}", path.display())).cause(error.to_string());
    if tradewind_artifacts::is_full(error) {
        return failure.hint("make room on the disk, or choose another one with --data-dir");
    }
    failure
}
