//! Passing a request on: pick, send, and pick again while that is safe.

mod origin;
mod record;

use std::sync::{Arc, atomic::Ordering};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header, request::Parts,
    uri::PathAndQuery,
};
use hyper::body::Incoming;
use tradewind_api::gateway::{
    EPOCH_HEADER, PEER_HEADER, REGION_HEADER, REQUEST_ID_HEADER, REVISION_HEADER, SLOT_HEADER, UNAVAILABLE_HEADER,
};

use crate::{
    body::{Answer, Fault, Inbound, Outbound, Passing, Verdict},
    gateway::Gateway,
    headers::{clean_request, strip_hop_by_hop},
    routing::{Choice, Walk},
    server::{Admitted, Reply, admit},
    target::{InFlight, Target},
    upstream::{Exchange, Failure, Reuse},
    world::{Serving, World},
};
use origin::{LOST, NOT_SENT, Origin, decline, find, text};
use record::{Record, Trip};

pub(crate) const MODELS_PATH: &str = "/v2/models/";
/// The most requests under way at once.
const CONCURRENT_LIMIT: usize = 8192;
/// The most targets that are tried for one request, those included that could not be reached.
const TARGETS_LIMIT: usize = 16;
/// The most worlds that one request is routed by.
const WORLDS_LIMIT: u32 = 3;

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
