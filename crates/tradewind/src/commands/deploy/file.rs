//! `deployment.toml`: a deployment as people keep it beside their code.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use tradewind_api::{
    Code,
    deploy::{HealthChange, MonitorsChange, ScaleChange},
};
use tradewind_core::{
    RegionName, VersionNumber,
    deployment::{MaxParallel, OnFailure},
    duration::Span,
};

use crate::{failure::Failure, settings};

/// What the file says. What it does not say stays as the deployment has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DeploymentFile {
    /// A name, `name:version`, or a path relative to the file.
    pub(super) model: Option<String>,
    pub(super) version: Option<VersionNumber>,
    pub(super) regions: Option<Vec<RegionName>>,
    /// Requests of these regions' users never leave them.
    pub(super) stay_in: Option<Vec<RegionName>>,
    pub(super) strategy: StrategyTable,
    pub(super) scale: Option<ScaleChange>,
    pub(super) health: Option<HealthChange>,
    /// `[region_health.us-east1]`: regions that are probed in a way of their own.
    pub(super) region_health: Option<BTreeMap<RegionName, HealthChange>>,
    pub(super) monitors: Option<MonitorsChange>,
    /// `[region_monitors.us-east1]`: regions that are watched in a way of their own.
    pub(super) region_monitors: Option<BTreeMap<RegionName, MonitorsChange>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StrategyTable {
    pub(super) max_parallel: Option<MaxParallel>,
    pub(super) retries: Option<u32>,
    pub(super) progress_deadline: Option<Span>,
    pub(super) on_failure: Option<OnFailure>,
    pub(super) min_regions: Option<u32>,
    pub(super) soak: Option<Span>,
    pub(super) standby: Option<Span>,
}

impl DeploymentFile {
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let code = match error.kind() {
                std::io::ErrorKind::NotFound => Code::NotFound,
                _ => Code::Invalid,
            };
            Failure::new(code, format!("cannot read {}", path.display())).cause(error.to_string())
        })?;
        settings::parse_toml(&text, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
model = "digits"
version = 2
regions = ["us-east1", "europe-west1"]
stay_in = ["europe-west1"]
[strategy]
max_parallel = "all"
retries = 2
progress_deadline = "10m"
on_failure = "continue"
min_regions = 2
soak = "1m30s"
[scale]
replicas = 1
concurrency = 8
[health]
interval = "1s"
[region_health.us-east1]
unhealthy_after = 3
"#;

    #[test]
    fn whatever_it_says_it_is_read_or_its_line_is_named() {
        let read = |text: &str| settings::parse_toml::<DeploymentFile>(text, Path::new("deployment.toml"));
        assert_eq!(read(WHOLE).unwrap().regions.unwrap().len(), 2);
        tradewind_fuzz::fuzz(&[WHOLE], |input| {
            let Ok(text) = std::str::from_utf8(input) else { return };
            if let Err(failure) = read(text) {
                let message = format!("{failure:?}");
                assert!(message.contains("deployment.toml, line "), "{message}");
            }
        });
    }
}
