//! A verb's conversation with one control plane.

use tradewind_api::{Client, suggest};
use tradewind_core::{RegionName, VersionNumber};
use tradewind_traces::Kind;

use crate::{
    failure::Failure,
    settings::{Connection, Settings},
};

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
}

impl Session {
    /// Runs a verb as the beginning of a trace, to which belongs all that it asks for, if traces are exported.
    pub(crate) async fn traced<T>(
        &self,
        name: &'static str,
        verb: impl AsyncFnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Some(mut span) = tradewind_traces::root(name, Kind::Client, None) else { return verb(self).await };
        let result = verb(&Self { client: self.client.clone().traced(span.context()) }).await;
        if let Err(failure) = &result {
            span.fail(failure.to_string());
        }
        result
    }

    pub(crate) fn open(connection: &Connection) -> Result<Self, Failure> {
        let settings = Settings::of_this_user(connection)?;
        tracing::debug!(url = settings.url, token = settings.token.is_some(), "found the control plane");
        Ok(Self { client: Client::new(&settings.url, settings.token) })
    }

    /// `http://host:port` of a gateway, of `region` or else of the first region that has one; and its region.
    pub(crate) async fn gateway(&self, region: Option<&RegionName>) -> Result<(String, RegionName), Failure> {
        let regions = self.client.regions().await?.regions;
        let wanted = regions.iter().filter(|status| region.is_none_or(|name| status.name == *name));
        let mut gateways = wanted.clone().flat_map(|status| status.gateways.iter().map(move |member| (status, member)));
        // One that reports is better, but one that lost sight of control serves too.
        let found = gateways.clone().find(|(_, member)| member.alive).or_else(|| gateways.next());
        match (found, region) {
            (Some((status, member)), _) => Ok((format!("http://{}", member.address), status.name.clone())),
            (None, Some(name)) if wanted.count() == 0 => Err(unknown_region(name, regions.iter().map(|r| &r.name))),
            (None, Some(name)) => Err(no_gateway(&format!("region {name} has no gateway"))),
            (None, None) => Err(no_gateway("no region has a gateway")),
        }
    }
}

fn no_gateway(detail: &str) -> Failure {
    Failure::new(tradewind_api::Code::Unreachable, detail).hint("see what runs with `tradewind regions list`")
}

/// The error for a region that is not there, with the nearest name that is.
pub(crate) fn unknown_region<'a>(name: &RegionName, known: impl Iterator<Item = &'a RegionName>) -> Failure {
    let known: Vec<&str> = known.map(RegionName::as_str).collect();
    let failure = Failure::from(suggest::unknown("region", name.as_str(), &known));
    if known.is_empty() { failure.hint("make one with `tradewind regions add NAME`") } else { failure }
}

/// `user@host`, for those who read who asked.
pub(crate) fn requested_by() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME"));
    let user = user.unwrap_or_else(|| format!("uid{}", rustix::process::getuid().as_raw()));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| variable("HOSTNAME"));
    format!("{user}@{}", host.as_deref().map_or("unknown", str::trim))
}

/// `digits` or `digits:2`
pub(crate) fn parse_model(text: &str) -> Result<(tradewind_core::ModelName, Option<VersionNumber>), String> {
    let (name, version) = match text.split_once(':') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    let name = name.parse().map_err(|error: tradewind_core::names::InvalidName| error.to_string())?;
    let version = version
        .map(|version| {
            version.parse().map_err(|_| format!("`{version}` is not a version: write a number, as in digits:2"))
        })
        .transpose()?;
    Ok((name, version))
}
