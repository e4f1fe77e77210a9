//! Passing a request on: pick, send, and pick again while that is safe.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header, request::Parts,
    uri::PathAndQuery,
};
use hyper::body::Incoming;
use tradewind_api::gateway::{
    CLIENT_REGION_HEADER, EPOCH_HEADER, PEER_HEADER, REGION_HEADER, REQUEST_ID_HEADER, REVISION_HEADER, SLOT_HEADER,
    UNAVAILABLE_HEADER, USER_HEADER,
};
use tradewind_core::{Epoch, RegionName, Slot};

use crate::{
    body::{Answer, End, Fault, Inbound, OnEnd, Outbound, Passing, Verdict},
    gateway::Gateway,
    headers::{clean_request, same_token, strip_hop_by_hop},
    metrics::{Key, Outcome},
    routing::{Choice, Walk},
    server::{Admitted, Reply, admit},
    target::{InFlight, Target},
    upstream::{Connection, Exchange, Failure, Reuse},
    world::{Model, Serving, World},
};

pub(crate) const MODELS_PATH: &str = "/v2/models/";
/// The most requests under way at once.
const CONCURRENT_LIMIT: usize = 8192;
/// The most times that one request is sent.
const ATTEMPTS_LIMIT: u32 = 3;
/// The most targets that are tried for one request, those included that could not be reached.
const TARGETS_LIMIT: usize = 16;
/// The most worlds that one request is routed by.
const WORLDS_LIMIT: u32 = 3;
/// The value of [`UNAVAILABLE_HEADER`] when no replica has seen the request.
const NOT_SENT: &str = "not-sent";
/// The value when a replica was lost while it had the request.
const LOST: &str = "lost";

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

/// Answers a request under [`MODELS_PATH`].
pub(crate) async fn pass_on(gateway: &Arc<Gateway>, request: Request<Incoming>, id: &HeaderValue) -> Response<Answer> {
    let Some(admitted) = admit(gateway, CONCURRENT_LIMIT) else {
        return Reply::error(StatusCode::SERVICE_UNAVAILABLE, "too many requests are under way").into_response();
    };
    let Some(mut world) = gateway.world.load_full() else {
        return Reply::error(StatusCode::SERVICE_UNAVAILABLE, "this gateway has no configuration yet").into_response();
    };
    let (mut head, incoming) = request.into_parts();
    let origin = Origin::read(gateway, &world, &head.headers);
    let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let record = match find(&world, path.path(), &origin) {
        Ok((model, serving)) => Record::begin(gateway, &origin, model, serving),
        Err(reply) => return origin.refuse(reply),
    };
    clean_request(&mut head.headers);
    head.headers.insert(REQUEST_ID_HEADER, id.clone());
    let verdict = Verdict::default();
    let body = match Inbound::read(incoming, &verdict).await {
        Ok(body) => body,
        Err(fault) => return record.reply(fault_reply(fault)),
    };
    let mut progress = Progress { body, verdict, tried: Vec::new(), sent: 0, luggage: Some((record, admitted)) };
    let mut worlds = 0;
    loop {
        // A slow body may have taken longer than a switch. From here on one world is held, and left for a newer one
        // only when nobody in it can answer any more.
        let current = gateway.world.load_full().unwrap_or_else(|| Arc::clone(&world));
        if worlds > 0 && (Arc::ptr_eq(&current, &world) || worlds == WORLDS_LIMIT || progress.spent(&origin)) {
            let found = find(&world, path.path(), &origin);
            let why = found.map(|(model, serving)| world.why_not(model, serving)).unwrap_or_default();
            return progress.give_up(&origin, &why);
        }
        (world, worlds) = (current, worlds + 1);
        let (model, serving) = match find(&world, path.path(), &origin) {
            Ok(found) => found,
            Err(reply) => return progress.refuse(&origin, reply),
        };
        let call = Call { gateway, world: &world, model, serving, origin: &origin, head: &head, path: &path };
        if let Some(response) = call.run(&mut progress).await {
            return response;
        }
    }
}

/// What of a request outlives the world that it is routed by.
struct Progress {
    body: Inbound,
    verdict: Verdict,
    tried: Vec<Arc<Target>>,
    /// How often it was sent and perhaps begun.
    sent: u32,
    /// What an answer takes with it.
    luggage: Option<(Record, Admitted)>,
}

impl Progress {
    /// Whether it may not be sent again.
    fn spent(&self, origin: &Origin) -> bool {
        self.sent >= origin.attempts() || self.tried.len() >= TARGETS_LIMIT || !self.body.unspent()
    }

    /// Nobody is left to ask.
    fn give_up(self, origin: &Origin, why: &str) -> Response<Answer> {
        let lost = self.sent > 0 || !self.body.unspent();
        let reply = match origin {
            Origin::Peer { .. } => return decline(if lost { LOST } else { NOT_SENT }),
            Origin::User { .. } if lost => {
                Reply::error(StatusCode::BAD_GATEWAY, "the model stopped while it worked on this request")
            }
            Origin::User { .. } => Reply::error(StatusCode::SERVICE_UNAVAILABLE, why),
        };
        self.reply(reply)
    }

    fn refuse(self, origin: &Origin, reply: Reply) -> Response<Answer> {
        match origin {
            Origin::User { .. } => self.reply(reply),
            Origin::Peer { .. } => origin.refuse(reply),
        }
    }

    fn reply(self, reply: Reply) -> Response<Answer> {
        match self.luggage {
            Some((record, _)) => record.reply(reply),
            None => reply.into_response(),
        }
    }
}

/// Who sent the request.
#[derive(Debug)]
enum Origin {
    /// A user of that region.
    User { region: RegionName, key: Option<HeaderValue> },
    /// A gateway of another region, which serves this epoch.
    Peer { epoch: Epoch },
}

impl Origin {
    fn read(gateway: &Gateway, world: &World, headers: &HeaderMap) -> Self {
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
    fn attempts(&self) -> u32 {
        if matches!(self, Self::User { .. }) { ATTEMPTS_LIMIT } else { 1 }
    }

    /// To another gateway everything that is not an answer means: ask somebody else.
    fn refuse(&self, reply: Reply) -> Response<Answer> {
        match self {
            Self::User { .. } => reply.into_response(),
            Self::Peer { .. } => decline(NOT_SENT),
        }
    }
}

fn decline(value: &'static str) -> Response<Answer> {
    let reply = Reply::error(StatusCode::SERVICE_UNAVAILABLE, "this region cannot serve the model now");
    let mut response = reply.into_response();
    response.headers_mut().insert(UNAVAILABLE_HEADER, HeaderValue::from_static(value));
    response
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The model's name and the state of its route that this request gets.
fn find<'w>(world: &'w World, path: &str, origin: &Origin) -> Result<(&'w str, &'w Serving), Reply> {
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

/// One request with all that is known of it. It holds one world through its retries.
#[derive(Debug)]
struct Call<'a> {
    gateway: &'a Arc<Gateway>,
    world: &'a World,
    model: &'a str,
    serving: &'a Serving,
    origin: &'a Origin,
    head: &'a Parts,
    path: &'a PathAndQuery,
}

/// How one attempt ended.
enum Attempt {
    Answered(Response<Answer>),
    /// Nothing was sent.
    NotSent,
    /// It may have been begun and will not be answered.
    Lost,
    /// Trying again would not help.
    Final(Reply),
}

impl Call<'_> {
    /// The answer; `None` when nobody in this world is left to ask.
    async fn run(self, progress: &mut Progress) -> Option<Response<Answer>> {
        let walk = self.walk();
        while !progress.spent(self.origin) {
            let choice = walk.next(&progress.tried)?;
            if !progress.tried.is_empty() {
                self.gateway.metrics.retries.fetch_add(1, Ordering::Relaxed);
            }
            progress.tried.push(Arc::clone(choice.target()));
            match self.attempt(&choice, progress).await {
                Attempt::Answered(response) => return Some(response),
                Attempt::NotSent => {}
                Attempt::Lost => progress.sent += 1,
                Attempt::Final(reply) => {
                    return Some(match progress.luggage.take() {
                        Some((record, _)) => record.reply(reply),
                        None => reply.into_response(),
                    });
                }
            }
        }
        None
    }

    fn walk(&self) -> Walk<'_> {
        let turn = self.gateway.turn.fetch_add(1, Ordering::Relaxed);
        match self.origin {
            Origin::Peer { .. } => {
                let own = std::slice::from_ref(&self.gateway.region);
                Walk::new(self.world, self.model, self.serving, own).turn(turn)
            }
            Origin::User { region, key } => {
                let order = self.world.order_from(region).unwrap_or(&self.world.order);
                let walk = Walk::new(self.world, self.model, self.serving, order).turn(turn);
                walk.own_last(*region == self.gateway.region && !self.serves_own(key.as_ref()))
            }
        }
    }

    /// Whether the own region takes this user of its own.
    fn serves_own(&self, user: Option<&HeaderValue>) -> bool {
        if !self.serving.routed(&self.gateway.region) {
            return true;
        }
        let able = self.world.condition(self.model, self.serving, &self.gateway.region).eligible();
        let Some(model) = self.world.models.get(self.model) else { return true };
        model.returning.serves(able, user.map(HeaderValue::as_bytes))
    }

    async fn attempt(&self, choice: &Choice, progress: &mut Progress) -> Attempt {
        let target = choice.target();
        let in_flight = target.begin();
        let replayable = progress.body.replayable();
        let exchange = tokio::select! {
            exchange = self.send(choice, &mut progress.body) => exchange,
            () = target.lost(), if replayable => return Attempt::Lost,
        };
        if let Some(fault) = progress.verdict.get() {
            return Attempt::Final(fault_reply(fault));
        }
        match exchange {
            Ok(exchange) => match declined(choice, &exchange) {
                Some(attempt) => {
                    if let Choice::Peer(peer) = choice {
                        peer.declined(self.model, &self.serving.state);
                    }
                    attempt
                }
                None => self.finish(choice, exchange, in_flight, progress),
            },
            Err(Failure::Connect(error)) => {
                tracing::debug!(address = target.address(), %error, "cannot connect");
                target.condemn();
                Attempt::NotSent
            }
            Err(Failure::Broken { source, .. }) => {
                tracing::debug!(address = target.address(), error = %source, "lost while waiting for an answer");
                target.want_probe();
                Attempt::Lost
            }
            Err(Failure::Timeout) => {
                let message = format!("model `{}` did not answer in time", self.model);
                Attempt::Final(Reply::error(StatusCode::GATEWAY_TIMEOUT, &message))
            }
        }
    }

    /// Sends the request, once more on a new connection when a kept one turns out to be closed.
    async fn send(&self, choice: &Choice, body: &mut Inbound) -> Result<Exchange, Failure> {
        let address = choice.target().address();
        let upstream = &self.gateway.upstream;
        if !body.replayable() {
            return upstream.exchange(address, Reuse::Never, || self.request(choice, body.next())).await;
        }
        match upstream.exchange(address, Reuse::Allowed, || self.request(choice, body.next())).await {
            Err(Failure::Broken { reused: true, .. }) => {
                upstream.exchange(address, Reuse::Never, || self.request(choice, body.next())).await
            }
            other => other,
        }
    }

    fn request(&self, choice: &Choice, body: Outbound) -> Request<Outbound> {
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method.clone();
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = self.path.clone().into();
        let headers = request.headers_mut();
        headers.clone_from(&self.head.headers);
        if let Ok(host) = HeaderValue::from_str(choice.target().address()) {
            headers.insert(header::HOST, host);
        }
        if let Choice::Peer(_) = choice {
            if let Ok(mut token) = HeaderValue::from_str(&self.world.snapshot.mesh_token) {
                token.set_sensitive(true);
                headers.insert(PEER_HEADER, token);
            }
            headers.insert(EPOCH_HEADER, self.serving.epoch.clone());
        }
        request
    }

    fn finish(&self, choice: &Choice, exchange: Exchange, in_flight: InFlight, progress: &mut Progress) -> Attempt {
        let (mut head, incoming) = exchange.response.into_parts();
        strip_hop_by_hop(&mut head.headers);
        head.headers.remove(UNAVAILABLE_HEADER);
        if let Choice::Replica(_) = choice {
            self.mark(&mut head.headers);
        }
        let (record, admitted) = progress.luggage.take().expect("a request is answered once");
        let trip = Trip {
            record: record.answered(self.world, &head.headers, head.status),
            connection: Some(exchange.connection),
            _admitted: admitted,
            _in_flight: in_flight,
        };
        head.version = Version::HTTP_11;
        Attempt::Answered(Response::from_parts(head, Answer::Passing(Passing::new(incoming, Box::new(trip)))))
    }

    /// Says who answered.
    fn mark(&self, headers: &mut HeaderMap) {
        let region = HeaderValue::from_str(self.gateway.region.as_str()).expect("region names are visible ASCII");
        for (name, value) in [
            (REGION_HEADER, region),
            (SLOT_HEADER, self.serving.slot.clone()),
            (REVISION_HEADER, self.serving.revision.clone()),
            (EPOCH_HEADER, self.serving.epoch.clone()),
        ] {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// Whether a peer says that it could not serve the request.
fn declined(choice: &Choice, exchange: &Exchange) -> Option<Attempt> {
    let Choice::Peer(_) = choice else { return None };
    let value = text(exchange.response.headers(), UNAVAILABLE_HEADER)?;
    (exchange.response.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(if value == NOT_SENT {
        Attempt::NotSent
    } else {
        Attempt::Lost
    })
}

fn fault_reply(fault: Fault) -> Reply {
    let status = match fault {
        Fault::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Fault::TooSlow => StatusCode::REQUEST_TIMEOUT,
        Fault::Broken => StatusCode::BAD_REQUEST,
    };
    Reply::error(status, &fault.to_string())
}

/// Counts a request once, however it ends; one that is dropped was cancelled by its user.
#[derive(Debug)]
struct Record {
    gateway: Arc<Gateway>,
    /// Absent for requests that entered elsewhere, which are counted there.
    key: Option<Key>,
    started: Instant,
    outcome: Outcome,
}

impl Record {
    fn begin(gateway: &Arc<Gateway>, origin: &Origin, model: &str, serving: &Serving) -> Self {
        let state = &serving.state;
        let key = match origin {
            Origin::Peer { .. } => {
                gateway.metrics.for_peers.fetch_add(1, Ordering::Relaxed);
                None
            }
            Origin::User { .. } => Some(Key {
                model: model.parse().expect("a routed model's name was checked"),
                revision: state.revision,
                slot: state.live,
                region: gateway.region.clone(),
            }),
        };
        Self { gateway: Arc::clone(gateway), key, started: Instant::now(), outcome: Outcome::Cancelled }
    }

    /// Ends with a reply of the gateway's own.
    fn reply(mut self, reply: Reply) -> Response<Answer> {
        let unavailable = reply.status == StatusCode::SERVICE_UNAVAILABLE;
        self.end(if unavailable { Outcome::Unavailable } else { Outcome::of(reply.status) });
        reply.into_response()
    }

    /// Takes up who answered, as the answer says.
    fn answered(mut self, world: &World, headers: &HeaderMap, status: StatusCode) -> Self {
        if let Some(key) = &mut self.key {
            let region = text(headers, REGION_HEADER).and_then(|region| region.parse().ok());
            if let Some(region) = region.filter(|region| world.regions.contains_key(region)) {
                key.region = region;
            }
            let revision = text(headers, REVISION_HEADER).and_then(|revision| revision.parse().ok());
            key.revision = revision.unwrap_or(key.revision);
            let slot = text(headers, SLOT_HEADER);
            key.slot = Slot::BOTH.into_iter().find(|known| slot == Some(known.as_str())).unwrap_or(key.slot);
        }
        self.outcome = Outcome::of(status);
        self
    }

    fn end(&mut self, outcome: Outcome) {
        self.outcome = outcome;
        self.close();
    }

    fn close(&mut self) {
        if let Some(key) = self.key.take() {
            self.gateway.metrics.record(&key, self.outcome, self.started.elapsed());
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.outcome = Outcome::Cancelled;
        self.close();
    }
}

/// What goes with an answer until its end.
struct Trip {
    record: Record,
    connection: Option<Connection>,
    _admitted: Admitted,
    _in_flight: InFlight,
}

impl OnEnd for Trip {
    fn end(&mut self, end: End) {
        match end {
            End::Complete => {
                if let Some(connection) = self.connection.take() {
                    self.record.gateway.upstream.give_back(connection);
                }
                self.record.close();
            }
            End::Broken => self.record.end(Outcome::ServerError),
            End::Abandoned => self.record.end(Outcome::Cancelled),
        }
    }
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
