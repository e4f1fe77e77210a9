//! Why a request would go where it goes.

use http::StatusCode;
use tradewind_api::gateway::{ExplainQuery, Explanation, RegionVerdict, ReplicaVerdict};

use tradewind_core::RegionName;

use crate::{
    clock::Millis,
    gateway::Gateway,
    message::Request,
    replica::Replica,
    reply::Reply,
    world::{Serving, World, describe},
};

/// The number of a request that is in no share but that of all.
const NO_DRAW: u64 = 0;

pub(crate) fn answer<B>(gateway: &Gateway, world: &World, request: &Request<B>) -> Reply {
    let query = request.head.path.query().unwrap_or_default();
    let query: ExplainQuery = match serde_urlencoded::from_str(query) {
        Ok(query) => query,
        Err(error) => return Reply::error(StatusCode::BAD_REQUEST, format!("the query does not parse: {error}")),
    };
    let Some(model) = world.models.get(query.model.as_str()) else {
        return Reply::error(StatusCode::NOT_FOUND, format!("no model is called `{}`", query.model));
    };
    let Some(routed) = &model.committed else {
        return Reply::error(StatusCode::NOT_FOUND, format!("model `{}` is not routed yet", query.model));
    };
    let from = query.from.clone().unwrap_or_else(|| gateway.region.clone());
    // Without a key most get what is live.
    let pinned = model.pin_of(query.user.as_deref().map(str::as_bytes)).and_then(|target| routed.of_pin(target));
    let serving = match query.user.as_deref() {
        _ if pinned.is_some() => pinned.unwrap_or(&routed.live),
        Some(user) => routed.of_user(&from, Some(user.as_bytes()), || 0),
        None => routed.of_user(&from, None, || NO_DRAW),
    };
    let Some(order) = world.order_from(&from) else {
        return Reply::error(StatusCode::NOT_FOUND, format!("no region is called `{from}`"));
    };
    let own = &gateway.region;
    let own_able = world.condition(query.model.as_str(), serving, own).eligible();
    // Where users come back gradually, some of them are still served elsewhere.
    let away = from == *own && own_able && model.lane.returning.is_away(query.user.as_deref().map(str::as_bytes));
    let regions: Vec<RegionVerdict> = order
        .iter()
        .map(|name| {
            let mut verdict = verdict(world, &from, query.model.as_str(), serving, name);
            if away && name == own {
                verdict.reason = "takes its users back gradually, this one later".to_owned();
            }
            verdict
        })
        .collect();
    let eligible = |verdict: &&RegionVerdict| verdict.eligible;
    let elsewhere = regions.iter().filter(eligible).find(|verdict| !away || verdict.region != *own);
    let goes_to = elsewhere.or_else(|| regions.iter().find(eligible)).map(|verdict| verdict.region.clone());
    let explanation = Explanation {
        model: query.model,
        gateway: gateway.address.clone(),
        region: own.clone(),
        from,
        epoch: serving.state.epoch,
        revision: serving.state.revision,
        slot: serving.state.live,
        goes_to,
        regions,
        replicas: serving.replicas.iter().map(|replica| of_replica(replica)).collect(),
    };
    Reply::json(StatusCode::OK, &explanation)
}

fn verdict(world: &World, from: &RegionName, model: &str, serving: &Serving, name: &RegionName) -> RegionVerdict {
    let condition = world.condition_for(from, model, serving, name);
    let round_trip = world.regions.get(name).and_then(|region| region.round_trip());
    let (eligible, reason) = match condition.check() {
        Err(_) if !serving.state.may_go(from, name) => (false, format!("may not take requests from {from}")),
        Ok(()) if *name == world.own && serving.resting => {
            (true, "is scaled to zero, and starts when asked".to_owned())
        }
        Ok(()) => (true, format!("has {} ready", condition.ready)),
        Err(reason) => (false, describe(reason).to_owned()),
    };
    RegionVerdict {
        region: name.clone(),
        eligible,
        reason,
        ready: condition.ready,
        round_trip_us: round_trip.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
    }
}

fn of_replica(replica: &Replica) -> ReplicaVerdict {
    let now = Millis::now();
    let target = &replica.target;
    ReplicaVerdict {
        id: replica.endpoint.id.clone(),
        address: replica.endpoint.address.clone(),
        ready: replica.ready(),
        ejected: target.ejected(now),
        in_flight: target.in_flight(),
        limit: target.limit(),
        latency_us: target.load(now).latency_us,
    }
}
