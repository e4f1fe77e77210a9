//! Who sent a request, and which state of the route it gets.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use tradewind_core::{Epoch, RegionName, Slot};

use super::ask::Named;
use crate::{
    body::Answer,
    epoch_cookie,
    gateway::Gateway,
    headers::{Headers, name, same_token},
    message::Response,
    reply::{Dialect, Reply},
    world::{Model, Routed, Serving, World},
};

/// The most times that one request is sent.
const ATTEMPTS_LIMIT: u32 = 3;
/// The value of [`name::UNAVAILABLE`] when no replica has seen the request.
pub(super) const NOT_SENT: &str = "not-sent";
/// The value when it could serve the model, and has as much to do as it can.
pub(super) const FULL: &str = "full";
/// The value when a replica was lost while it had the request.
pub(super) const LOST: &str = "lost";

/// Who sent the request.
#[derive(Debug)]
pub(super) enum Origin {
    /// A user of that region, or of the gateway's own, who may say which epoch the last answer had.
    User { region: Option<RegionName>, seen: Option<Epoch> },
    /// A gateway of another region, which serves this epoch and has chosen that slot for its user. A spilled request is one
    /// that its own region had no room for, though it could have served it.
    Peer { epoch: Epoch, slot: Option<Slot>, spilled: bool },
}

impl Origin {
    pub(super) fn read(gateway: &Gateway, world: &World, headers: &Headers) -> Self {
        let epoch = headers.text(&name::EPOCH).and_then(|epoch| epoch.parse().ok());
        let token = headers.get(&name::PEER);
        if token.is_some_and(|token| same_token(token, world.snapshot.mesh_token.as_bytes())) {
            let epoch = epoch.unwrap_or_default();
            let slot = headers.text(&name::SLOT).and_then(Slot::named);
            return Self::Peer { epoch, slot, spilled: headers.contains(&name::SPILL) };
        }
        let told = || headers.text(&name::CLIENT_REGION)?.parse().ok();
        let known = |region: &RegionName| world.regions.contains_key(region);
        let region = if gateway.trust_client_region { told().filter(known) } else { None };
        let seen = epoch.or_else(|| if gateway.epoch_cookie { epoch_cookie::seen(headers) } else { None });
        Self::User { region, seen }
    }

    pub(super) fn is_user(&self) -> bool {
        matches!(self, Self::User { .. })
    }

    /// The most times that the request is sent: only the first gateway tries again.
    pub(super) fn attempts(&self) -> u32 {
        if self.is_user() { ATTEMPTS_LIMIT } else { 1 }
    }

    /// A reply for who may find the answer elsewhere: a peer asks another region, a user is told.
    pub(super) fn refuse(&self, reply: Reply, dialect: Dialect) -> Response<Answer> {
        let elsewhere = matches!(reply.status, StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE);
        match self {
            // This gateway may be behind the one that asks.
            Self::Peer { .. } if elsewhere => decline(NOT_SENT),
            _ => reply.respond(dialect),
        }
    }
}

/// Tells a peer to ask another region, and whether a replica may have begun to work on the request. Between gateways it
/// is a plain 503 in every dialect.
pub(super) fn decline(value: &'static str) -> Response<Answer> {
    let mut response = Reply::unavailable("this region cannot serve the model now").respond(Dialect::Rest);
    response.headers.insert(&name::UNAVAILABLE, HeaderValue::from_static(value));
    response
}

/// A model in a world, and the state of its route that a request gets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'w> {
    pub(super) name: &'w Arc<str>,
    pub(super) model: &'w Model,
    pub(super) serving: &'w Serving,
    /// What a user is told who is pinned.
    pub(super) pin: Option<&'static str>,
}

/// What a user is told whose revision is not there any more.
const RETIRED: &str = "retired";

/// `draw` is for a user without a key.
pub(super) fn find<'w>(
    world: &'w World,
    named: Named<'_>,
    origin: &Origin,
    user: Option<&[u8]>,
    draw: impl FnOnce() -> u64,
) -> Result<Found<'w>, Reply> {
    let Some((name, model)) = world.models.get_key_value(named.model) else {
        return Err(Reply::error(StatusCode::NOT_FOUND, format!("no model is called `{}`", printable(named.model))));
    };
    let chosen = match origin {
        Origin::User { region, .. } => {
            let from = region.as_ref().unwrap_or(&world.own);
            let of_user = |routed: &'w Routed| match model.pin_of(user) {
                Some(target) => match routed.of_pin(target) {
                    Some(serving) => (serving, Some(target.word())),
                    None => (&routed.live, Some(RETIRED)),
                },
                None => (routed.of_user(from, user, draw), None),
            };
            model.committed.as_ref().map(of_user)
        }
        Origin::Peer { epoch, slot, .. } => at_least(model, *epoch).map(|routed| (routed.in_slot(*slot), None)),
    };
    let Some((serving, pin)) = chosen else {
        return Err(Reply::error(StatusCode::NOT_FOUND, format!("model `{name}` is not routed yet")));
    };
    let live = serving.state.version;
    match named.version {
        Some(version) if version.parse() != Ok(live.0) => {
            let message = format!("version {} of model `{name}` is not live; version {live} is", printable(version));
            Err(Reply::error(StatusCode::NOT_FOUND, message))
        }
        _ => Ok(Found { name, model, serving, pin }),
    }
}

/// What was committed here, unless another gateway proves that the prepared epoch was committed since. Never a state
/// older than the one it serves: its users must not go back.
fn at_least(model: &Model, epoch: Epoch) -> Option<&Routed> {
    let committed = model.committed.as_ref().filter(|routed| routed.epoch() >= epoch);
    committed.or_else(|| model.prepared.as_ref().filter(|routed| routed.epoch() == epoch))
}

/// What a user sent, as it may be shown to the user.
fn printable(text: &str) -> String {
    text.chars().take(100).filter(|c| !c.is_control()).collect()
}
