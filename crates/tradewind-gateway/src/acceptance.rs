//! Which snapshots are taken up. A bad one is refused as a whole and the last good one stays.

use tradewind_api::gateway::GatewaySnapshot;
use tradewind_core::{Epoch, ModelName};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the snapshot has revision {offered}, older than {current}")]
    Older { offered: u64, current: u64 },
    #[error("the snapshot has no regions")]
    Empty,
    #[error("the snapshot takes {model} back from epoch {current} to {offered}")]
    EpochBackwards { model: ModelName, current: Epoch, offered: Epoch },
    #[error("the snapshot has no mesh token")]
    NoMeshToken,
}

/// Judges `offered` against the snapshot that is in use. After a restore (another incarnation) numbers start over.
pub(crate) fn check(current: Option<&GatewaySnapshot>, offered: &GatewaySnapshot) -> Result<(), Refusal> {
    if offered.regions.is_empty() {
        return Err(Refusal::Empty);
    }
    if offered.mesh_token.is_empty() {
        return Err(Refusal::NoMeshToken);
    }
    let Some(current) = current.filter(|current| current.incarnation == offered.incarnation) else { return Ok(()) };
    if offered.revision < current.revision {
        return Err(Refusal::Older { offered: offered.revision, current: current.revision });
    }
    for route in &offered.routes {
        let Some(next) = &route.committed else { continue };
        let known = current.routes.iter().find(|known| known.model == route.model);
        let Some(known) = known.and_then(|known| known.committed.as_ref()) else { continue };
        if next.epoch < known.epoch {
            return Err(Refusal::EpochBackwards {
                model: route.model.clone(),
                current: known.epoch,
                offered: next.epoch,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tradewind_api::gateway::RegionMembers;
    use tradewind_core::{
        RevisionNumber, Slot, VersionNumber,
        deployment::HealthPolicy,
        route::{Route, RouteState},
    };

    use super::*;

    fn snapshot(incarnation: &str, revision: u64, epoch: u64) -> GatewaySnapshot {
        GatewaySnapshot {
            incarnation: incarnation.to_owned(),
            revision,
            mesh_token: "mesh".to_owned(),
            regions: vec![RegionMembers {
                name: "us-east1".parse().unwrap(),
                location: None,
                drained: false,
                gateways: vec![],
                agents: vec![],
            }],
            routes: vec![Route {
                model: "digits".parse().unwrap(),
                committed: Some(RouteState {
                    epoch: Epoch(epoch),
                    live: Slot::Blue,
                    revision: RevisionNumber(1),
                    version: VersionNumber(1),
                    regions: vec![],
                    health: HealthPolicy::default(),
                    region_health: Default::default(),
                    stay_in: Default::default(),
                }),
                prepared: None,
            }],
            health: HealthPolicy::default(),
        }
    }

    #[test]
    fn takes_up_what_is_new_and_refuses_what_is_old_or_empty() {
        let current = snapshot("a", 7, 3);
        let judge = |offered: &GatewaySnapshot| check(Some(&current), offered);
        assert_eq!(judge(&snapshot("a", 7, 3)), Ok(()));
        assert_eq!(judge(&snapshot("a", 8, 4)), Ok(()));
        assert_eq!(judge(&snapshot("a", 6, 3)), Err(Refusal::Older { offered: 6, current: 7 }));
        assert!(matches!(judge(&snapshot("a", 8, 2)), Err(Refusal::EpochBackwards { .. })));
        assert_eq!(judge(&snapshot("restored", 1, 1)), Ok(()));
        let removed = GatewaySnapshot { routes: vec![], ..snapshot("a", 8, 3) };
        assert_eq!(judge(&removed), Ok(()), "a model may be taken away");
        let empty = GatewaySnapshot { regions: vec![], ..snapshot("a", 9, 3) };
        assert_eq!(judge(&empty), Err(Refusal::Empty));
        assert_eq!(check(None, &empty), Err(Refusal::Empty));
    }
}
