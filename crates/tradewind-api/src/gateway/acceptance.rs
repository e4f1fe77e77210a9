//! Which snapshots a gateway takes up. A bad one is refused as a whole and the last good one stays.

use std::collections::BTreeSet;

use tradewind_core::{
    Epoch, ModelName, RegionName,
    route::{Route, RouteState},
};

use super::GatewaySnapshot;

/// The most regions and the most routes of a snapshot.
pub const REGIONS_LIMIT: usize = 10_000;
pub const ROUTES_LIMIT: usize = 100_000;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the snapshot has revision {offered}, older than {current}")]
    Older { offered: u64, current: u64 },
    #[error("the snapshot has no regions")]
    Empty,
    #[error(
        "the snapshot has {regions} regions and {routes} routes, and {REGIONS_LIMIT} and {ROUTES_LIMIT} are the most"
    )]
    TooLarge { regions: usize, routes: usize },
    #[error("the snapshot takes {model} back from epoch {current} to {offered}")]
    EpochBackwards { model: ModelName, current: Epoch, offered: Epoch },
    #[error("the snapshot takes {region} from the route of {model} without a new epoch")]
    RegionsLost { model: ModelName, region: RegionName },
    #[error("the snapshot takes away {gone} of {known} models, and {deployed} are deployed")]
    ModelsLost { gone: usize, known: usize, deployed: u32 },
    #[error("the snapshot takes away {gone} of {known} regions that models are routed to")]
    MembersLost { gone: usize, known: usize },
    #[error("the snapshot has no mesh token")]
    NoMeshToken,
}

/// Judges `offered` against the snapshot that is in use. After a restore (another incarnation) numbers start over.
///
/// What shrinks sharply is taken for a mistake unless it is marked as meant: regions leave a route with a new epoch,
/// models go when so few are deployed, regions when no route names them.
pub fn check(current: Option<&GatewaySnapshot>, offered: &GatewaySnapshot) -> Result<(), Refusal> {
    if offered.regions.is_empty() {
        return Err(Refusal::Empty);
    }
    let (regions, routes) = (offered.regions.len(), offered.routes.len());
    if regions > REGIONS_LIMIT || routes > ROUTES_LIMIT {
        return Err(Refusal::TooLarge { regions, routes });
    }
    if offered.mesh_token.is_empty() {
        return Err(Refusal::NoMeshToken);
    }
    let Some(current) = current.filter(|current| current.incarnation == offered.incarnation) else { return Ok(()) };
    if offered.revision < current.revision {
        return Err(Refusal::Older { offered: offered.revision, current: current.revision });
    }
    check_routes(current, offered)?;
    check_models(current, offered)?;
    check_regions(current, offered)
}

fn check_routes(current: &GatewaySnapshot, offered: &GatewaySnapshot) -> Result<(), Refusal> {
    for (known, next) in current.routes.iter().filter_map(|known| Some((known, find(offered, &known.model)?))) {
        let (Some(known), Some(next), model) = (&known.committed, &next.committed, &known.model) else { continue };
        if next.epoch < known.epoch {
            return Err(Refusal::EpochBackwards { model: model.clone(), current: known.epoch, offered: next.epoch });
        }
        let lost = || known.regions.iter().find(|region| !next.regions.contains(region));
        if next.epoch == known.epoch
            && let Some(region) = lost()
        {
            return Err(Refusal::RegionsLost { model: model.clone(), region: region.clone() });
        }
    }
    Ok(())
}

/// A model that was undeployed is no longer counted as deployed, in the same revision of the store.
fn check_models(current: &GatewaySnapshot, offered: &GatewaySnapshot) -> Result<(), Refusal> {
    let left: BTreeSet<&ModelName> = committed(offered).map(|(model, _)| model).collect();
    let known = committed(current).count();
    let gone = committed(current).filter(|(model, _)| !left.contains(model)).count();
    let deployed = offered.deployed;
    if more_than_half(gone, known) && left.len() < deployed as usize {
        return Err(Refusal::ModelsLost { gone, known, deployed });
    }
    Ok(())
}

fn check_regions(current: &GatewaySnapshot, offered: &GatewaySnapshot) -> Result<(), Refusal> {
    let left: BTreeSet<&RegionName> = offered.regions.iter().map(|region| &region.name).collect();
    let routed: BTreeSet<&RegionName> = committed(offered).flat_map(|(_, state)| &state.regions).collect();
    let lost = |name: &&RegionName| routed.contains(name) && !left.contains(name);
    let gone = current.regions.iter().map(|region| &region.name).filter(lost).count();
    let known = current.regions.len();
    if more_than_half(gone, known) { Err(Refusal::MembersLost { gone, known }) } else { Ok(()) }
}

fn more_than_half(gone: usize, known: usize) -> bool {
    gone * 2 > known
}

fn committed(snapshot: &GatewaySnapshot) -> impl Iterator<Item = (&ModelName, &RouteState)> {
    snapshot.routes.iter().filter_map(|route| Some((&route.model, route.committed.as_ref()?)))
}

/// Routes stand in the order of their models' names.
fn find<'a>(snapshot: &'a GatewaySnapshot, model: &ModelName) -> Option<&'a Route> {
    let at = snapshot.routes.binary_search_by(|route| route.model.cmp(model)).ok()?;
    snapshot.routes.get(at)
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::{
        super::fixtures::{region, route, snapshot},
        *,
    };

    const HOME: &[&str] = &["us-east1"];

    /// The models are routed at these epochs, and as many are deployed.
    fn of(revision: u64, epochs: &[(&str, u64)]) -> GatewaySnapshot {
        let routes = epochs.iter().map(|(model, epoch)| route(model, *epoch, HOME)).collect();
        GatewaySnapshot { routes, deployed: epochs.len() as u32, ..snapshot("a", revision) }
    }

    #[test]
    fn takes_up_what_is_new_and_refuses_what_is_old_or_empty() {
        let current = of(7, &[("digits", 3)]);
        let judge = |offered: &GatewaySnapshot| check(Some(&current), offered);
        assert_eq!(judge(&of(7, &[("digits", 3)])), Ok(()));
        assert_eq!(judge(&of(8, &[("digits", 4)])), Ok(()));
        assert_eq!(judge(&of(6, &[("digits", 3)])), Err(Refusal::Older { offered: 6, current: 7 }));
        assert!(matches!(judge(&of(8, &[("digits", 2)])), Err(Refusal::EpochBackwards { .. })));
        assert_eq!(judge(&GatewaySnapshot { incarnation: "restored".to_owned(), ..of(1, &[("digits", 1)]) }), Ok(()));
        let empty = GatewaySnapshot { regions: vec![], ..of(9, &[("digits", 3)]) };
        assert_eq!(judge(&empty), Err(Refusal::Empty));
        assert_eq!(check(None, &empty), Err(Refusal::Empty));
        let regions = vec![region("us-east1"); REGIONS_LIMIT + 1];
        let large = GatewaySnapshot { regions, ..of(9, &[("digits", 3)]) };
        assert!(matches!(check(None, &large), Err(Refusal::TooLarge { .. })));
    }

    #[test]
    fn what_shrinks_sharply_must_be_marked() {
        let four = [("bert", 1), ("cats", 1), ("digits", 1), ("llama", 1)];
        let current = of(7, &four);
        let judge = |offered: GatewaySnapshot| check(Some(&current), &offered);
        assert_eq!(judge(of(8, &four[..1])), Ok(()), "three were undeployed");
        assert_eq!(judge(of(8, &[])), Ok(()));
        assert_eq!(judge(GatewaySnapshot { deployed: 4, ..of(8, &four[..2]) }), Ok(()), "half of them is not sharp");
        let partial = GatewaySnapshot { deployed: 4, ..of(8, &four[..1]) };
        assert_eq!(judge(partial), Err(Refusal::ModelsLost { gone: 3, known: 4, deployed: 4 }));

        let mut moved = current.clone();
        moved.routes[2] = route("digits", 1, &["us-west1"]);
        let lost = Refusal::RegionsLost { model: "digits".parse().unwrap(), region: "us-east1".parse().unwrap() };
        assert_eq!(judge(moved.clone()), Err(lost));
        moved.routes[2] = route("digits", 2, &["us-west1"]);
        assert_eq!(judge(moved), Ok(()));

        let elsewhere = GatewaySnapshot { regions: vec![region("us-west1")], ..of(8, &four) };
        assert_eq!(judge(elsewhere.clone()), Err(Refusal::MembersLost { gone: 1, known: 1 }));
        assert_eq!(
            judge(GatewaySnapshot { routes: vec![], deployed: 0, ..elsewhere }),
            Ok(()),
            "nobody is routed there"
        );
    }

    proptest! {
        /// Whatever is offered, a gateway that started from one snapshot never goes back.
        #[test]
        fn epochs_and_revisions_only_grow(offers in collection::vec((0..9_u64, 0..5_u64, 0..5_u64), 1..20)) {
            let mut held = of(1, &[("cats", 1), ("digits", 1)]);
            for (revision, cats, digits) in offers {
                let offered = of(revision, &[("cats", cats), ("digits", digits)]);
                prop_assert_eq!(check(Some(&held), &held), Ok(()), "what is held is no worse than itself");
                let older = |known: &GatewaySnapshot| {
                    let epoch = |at: usize| known.routes[at].committed.as_ref().unwrap().epoch.0;
                    (epoch(0), epoch(1), known.revision)
                };
                let (before, after) = (older(&held), older(&offered));
                let grown = after.0 >= before.0 && after.1 >= before.1 && after.2 >= before.2;
                prop_assert_eq!(check(Some(&held), &offered).is_ok(), grown);
                if grown {
                    held = offered;
                }
            }
        }
    }
}
