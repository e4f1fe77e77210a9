//! `deployment.toml`: a deployment as people keep it beside their code.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use tradewind_api::{
    Code,
    deploy::{DeployRequest, HealthChange, MonitorsChange, ScaleChange},
};
use tradewind_core::{
    RegionName, VersionNumber,
    duration::Span,
    rollout::strategy::{MaxParallel, OnFailure, Percent, Switch},
};

use crate::{failure::Failure, settings};

/// What the file says. What it does not say stays as the deployment has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DeploymentFile {
    /// A name, `name:version`, or a path relative to the file.
    pub(crate) model: Option<String>,
    pub(crate) version: Option<VersionNumber>,
    pub(crate) regions: Option<Vec<RegionName>>,
    /// Requests of these regions' users never leave them.
    pub(crate) stay_in: Option<Vec<RegionName>>,
    pub(crate) strategy: StrategyTable,
    pub(crate) scale: Option<ScaleChange>,
    /// `[region_scale.us-east1]`: regions that have replicas of their own kind or number.
    pub(crate) region_scale: Option<BTreeMap<RegionName, ScaleChange>>,
    pub(crate) health: Option<HealthChange>,
    /// `[region_health.us-east1]`: regions that are probed in a way of their own.
    pub(crate) region_health: Option<BTreeMap<RegionName, HealthChange>>,
    pub(crate) monitors: Option<MonitorsChange>,
    /// `[region_monitors.us-east1]`: regions that are watched in a way of their own.
    pub(crate) region_monitors: Option<BTreeMap<RegionName, MonitorsChange>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StrategyTable {
    pub(crate) max_parallel: Option<MaxParallel>,
    /// Regions in turn, each of them once.
    pub(crate) waves: Option<Vec<Vec<RegionName>>>,
    pub(crate) first: Option<Vec<RegionName>>,
    pub(crate) switch: Option<Switch>,
    pub(crate) canary: Option<Vec<Percent>>,
    pub(crate) allow: Option<Vec<String>>,
    pub(crate) retries: Option<u32>,
    pub(crate) progress_deadline: Option<Span>,
    pub(crate) on_failure: Option<OnFailure>,
    pub(crate) min_regions: Option<u32>,
    pub(crate) soak: Option<Span>,
    pub(crate) standby: Option<Span>,
}

impl DeploymentFile {
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let code = match error.kind() {
                std::io::ErrorKind::NotFound => Code::NotFound,
                _ => Code::Invalid,
            };
            Failure::new(code, format!("cannot read {}", path.display())).cause(error.to_string())
        })?;
        settings::parse_toml(&text, path)
    }

    /// What it asks for, of whatever model.
    pub(crate) fn request(self) -> DeployRequest {
        let table = self.strategy;
        DeployRequest {
            version: self.version,
            regions: self.regions,
            scale: self.scale,
            region_scale: self.region_scale,
            health: self.health,
            region_health: self.region_health,
            monitors: self.monitors,
            region_monitors: self.region_monitors,
            stay_in: self.stay_in,
            max_parallel: table.max_parallel,
            waves: table.waves,
            first: table.first,
            switch: table.switch,
            canary: table.canary,
            allow: table.allow,
            retries: table.retries,
            progress_deadline: table.progress_deadline,
            on_failure: table.on_failure,
            min_regions: table.min_regions,
            soak: table.soak,
            standby: table.standby,
            ..DeployRequest::default()
        }
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
switch = "canary"
canary = [1, 10.5, 100]
waves = [["us-east1"], ["europe-west1"]]
min_regions = 2
soak = "1m30s"
[scale]
replicas = 1
concurrency = 8
[region_scale.us-east1]
replicas = 2
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
