//! For those who watch the world with tools of their own.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::Json,
};
use tradewind_api::metrics::TargetGroup;
use tradewind_core::{
    RegionName,
    bundle::{ModelVersion, Runtime},
    region::MemberRole,
};

use super::{Result, Shared};
use crate::{app::App, keys, repository};

/// Every role that shows metrics, by region, in the form of Prometheus' HTTP service discovery.
#[utoipa::path(get, path = "/v1/monitoring/targets", tag = "monitoring", responses((status = 200, body = Vec<TargetGroup>)))]
pub(super) async fn list(State(app): Shared, headers: HeaderMap) -> Result<Json<Vec<TargetGroup>>> {
    // This control plane is where the one who asks has reached it.
    let own = headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let mut groups: Vec<TargetGroup> =
        own.map(|own| TargetGroup::new("control", None, vec![own])).into_iter().collect();
    let mut members: BTreeMap<(&str, RegionName), Vec<String>> = BTreeMap::new();
    for member in app.members.all() {
        let role = match member.role {
            MemberRole::Agent => "agent",
            MemberRole::Gateway => "gateway",
        };
        members.entry((role, member.region)).or_default().push(member.address);
    }
    for (region, addresses) in replicas(&app).await? {
        members.insert(("replica", region), addresses);
    }
    let of = |((role, region), targets): ((_, RegionName), _)| TargetGroup::new(role, Some(region.as_str()), targets);
    groups.extend(members.into_iter().map(of));
    Ok(Json(groups))
}

/// Tradewind's own replicas. Servers of somebody's own have metrics of their own, or none.
async fn replicas(app: &App) -> repository::Result<BTreeMap<RegionName, Vec<String>>> {
    let mut reported = Vec::new();
    for (region, agent) in &app.hub.seen().agents {
        let replicas = agent.report.replicas.iter();
        reported.extend(
            replicas.map(|replica| (region.clone(), replica.model.clone(), replica.version, replica.address.clone())),
        );
    }
    let versions: BTreeSet<_> = reported.iter().map(|(_, model, version, _)| (model.clone(), *version)).collect();
    let mut own = BTreeSet::new();
    for (model, version) in versions {
        let found = app.repository.get::<ModelVersion>(keys::version(&model, version)).await?;
        if found.is_some_and(|found| found.value.manifest.runtime == Runtime::Onnx) {
            own.insert((model, version));
        }
    }
    let mut addresses: BTreeMap<RegionName, Vec<String>> = BTreeMap::new();
    for (region, model, version, address) in reported {
        if own.contains(&(model, version)) {
            addresses.entry(region).or_default().push(address);
        }
    }
    Ok(addresses)
}
