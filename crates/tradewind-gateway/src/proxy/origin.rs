//! What a request asks for, who sent it, and which state of the route it gets.

use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tradewind_api::gateway::{CLIENT_REGION_HEADER, EPOCH_HEADER, PEER_HEADER, UNAVAILABLE_HEADER, USER_HEADER};
use tradewind_core::{Epoch, RegionName};

use super::MODELS_PATH;
use crate::{
    body::Answer,
    gateway::Gateway,
    headers::same_token,
    server::Reply,
    world::{Model, Serving, World},
};

/// The most times that one request is sent.
const ATTEMPTS_LIMIT: u32 = 3;
/// The value of [`UNAVAILABLE_HEADER`] when no replica has seen the request.
pub(super) const NOT_SENT: &str = "not-sent";
/// The value when a replica was lost while it had the request.
pub(super) const LOST: &str = "lost";

/// A request for a model, as far as the path tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked<'a> {
    model: &'a str,
    version: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// `None` for a path that might mean something else to a replica than it does here.
    fn parse(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix(MODELS_PATH)?;
        let dots = |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
        if rest.split(['/', '\\']).any(dots) || rest.to_ascii_lowercase().contains("%2f") {
            return None;
        }
        let mut segments = rest.split('/');
        let model = segments.next().filter(|model| !model.is_empty())?;
        let version = if segments.next() == Some("versions") { segments.next() } else { None };
        Some(Self { model, version })
    }
}

/// Who sent the request.
#[derive(Debug)]
pub(super) enum Origin {
    /// A user of that region.
    User { region: RegionName, key: Option<HeaderValue> },
    /// A gateway of another region, which serves this epoch.
    Peer { epoch: Epoch },
}

impl Origin {
    pub(super) fn read(gateway: &Gateway, world: &World, headers: &HeaderMap) -> Self {
        let token = headers.get(PEER_HEADER).map(HeaderValue::as_bytes);
        if token.is_some_and(|token| same_token(token, world.snapshot.mesh_token.as_bytes())) {
            let epoch = text(headers, EPOCH_HEADER).and_then(|epoch| epoch.parse().ok()).unwrap_or_default();
            return Self::Peer { epoch };
        }
        let told = || text(headers, CLIENT_REGION_HEADER)?.parse().ok();
        let known = |region: &RegionName| world.regions.contains_key(region);
        let region = if gateway.trust_client_region { told().filter(known) } else { None };
        Self::User { region: region.unwrap_or_else(|| gateway.region.clone()), key: headers.get(USER_HEADER).cloned() }
    }

    /// The most times that the request is sent: only the first gateway tries again.
    pub(super) fn attempts(&self) -> u32 {
        if matches!(self, Self::User { .. }) { ATTEMPTS_LIMIT } else { 1 }
    }

    /// To another gateway everything that is not an answer means: ask somebody else.
    pub(super) fn refuse(&self, reply: Reply) -> Response<Answer> {
        match self {
            Self::User { .. } => reply.into_response(),
            Self::Peer { .. } => decline(NOT_SENT),
        }
    }
}

pub(super) fn decline(value: &'static str) -> Response<Answer> {
    let reply = Reply::error(StatusCode::SERVICE_UNAVAILABLE, "this region cannot serve the model now");
    let mut response = reply.into_response();
    response.headers_mut().insert(UNAVAILABLE_HEADER, HeaderValue::from_static(value));
    response
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The model's name and the state of its route that this request gets.
pub(super) fn find<'w>(world: &'w World, path: &str, origin: &Origin) -> Result<(&'w str, &'w Serving), Reply> {
    let asked = Asked::parse(path).ok_or_else(|| Reply::error(StatusCode::BAD_REQUEST, "the path is malformed"))?;
    let unknown = || Reply::error(StatusCode::NOT_FOUND, &format!("no model is called `{}`", printable(asked.model)));
    let (name, model) = world.models.get_key_value(asked.model).ok_or_else(unknown)?;
    let serving = match origin {
        Origin::User { .. } => model.committed.as_ref(),
        Origin::Peer { epoch } => at_least(model, *epoch),
    };
    let not_routed = || Reply::error(StatusCode::NOT_FOUND, &format!("model `{name}` is not routed yet"));
    let serving = serving.ok_or_else(not_routed)?;
    let live = serving.state.version;
    match asked.version {
        Some(version) if version != live.to_string() => {
            let version = printable(version);
            let message = format!("version {version} of model `{name}` is not live; version {live} is");
            Err(Reply::error(StatusCode::NOT_FOUND, &message))
        }
        _ => Ok((name, serving)),
    }
}

/// What was committed here, unless another gateway proves that the prepared epoch was committed since. Never a state
/// older than the one it serves: its users must not go back.
fn at_least(model: &Model, epoch: Epoch) -> Option<&Serving> {
    let committed = model.committed.as_ref().filter(|serving| serving.state.epoch >= epoch);
    committed.or_else(|| model.prepared.as_ref().filter(|serving| serving.state.epoch == epoch))
}

/// What a user sent, as it may be shown to the user.
fn printable(text: &str) -> String {
    text.chars().take(100).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_model_and_perhaps_a_version() {
        let check = |path, model, version| assert_eq!(Asked::parse(path), Some(Asked { model, version }), "{path}");
        check("/v2/models/digits", "digits", None);
        check("/v2/models/digits/infer", "digits", None);
        check("/v2/models/digits/versions/3/infer", "digits", Some("3"));
        check("/v2/models/digits/versions", "digits", None);
        for path in [
            "/v2/models/",
            "/v2/models/digits/../../repository/index",
            "/v2/models/digits/%2E%2e/x",
            "/v2/models/digits%2finfer",
            "/v2/models/..\\x",
        ] {
            assert_eq!(Asked::parse(path), None, "{path}");
        }
    }
}
