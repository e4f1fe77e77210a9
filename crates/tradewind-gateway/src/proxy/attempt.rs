//! Sending a request within one world, until somebody answers.

use std::{
    borrow::Cow,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{
    HeaderValue, StatusCode, Uri, Version,
    uri::{self, PathAndQuery},
};
use tradewind_core::overload;

use super::{
    DEATHS_LIMIT, Progress, Unanswered,
    ask::{Asked, Way, fault_reply},
    origin::{FULL, Found, NOT_SENT, Origin},
    record::Trip,
};
use crate::{
    body::{Answer, Inbound, Outbound, Passing},
    headers::{Headers, clean_answer, name},
    http1::client::RequestHead,
    link::{Exchange, Failure, Link, Protocol, Reuse, nobody_listens},
    message::{Head, Response},
    metrics::{Outcome, Series},
    peer::Spilled,
    reply::{Dialect, Reply},
    routing::{Choice, Next, Walk},
    target::eject,
    worker::{Own, Worker},
    world::{World, headroom},
};

/// One request with all that is known of it. It holds one world through its retries.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) world: &'a World,
    pub(super) found: Found<'a>,
    pub(super) own: &'a Own,
    pub(super) origin: &'a Origin,
    pub(super) asked: &'a Asked,
    pub(super) head: &'a Head,
}

/// How one attempt ended.
enum Attempt {
    Answered(Response<Answer>),
    /// Nothing was sent.
    NotSent,
    /// It may have been begun and will not be answered.
    Lost,
    /// The replica that had it died.
    Killed,
    /// The replica has too much to do, and another one may be asked.
    Refused,
    /// Trying again would not help.
    Final(Reply),
}

impl Call<'_> {
    /// The answer; `None` when nobody in this world is left to ask.
    pub(super) async fn run(self, progress: &mut Progress) -> Option<Response<Answer>> {
        while !progress.spent(self.origin) && progress.deaths < DEATHS_LIMIT {
            let choice = match self.next(progress).await {
                Ok(choice) => choice,
                Err(why) => {
                    progress.happened(why);
                    return None;
                }
            };
            if !progress.tried.is_empty() {
                self.count(&choice, |series| &series.retries);
            }
            if let Choice::Peer { spilled: Some(_), .. } = &choice {
                self.count(&choice, |series| &series.spilled);
            }
            progress.tried.push(Arc::clone(choice.target()));
            if let Some((record, _)) = &mut progress.luggage {
                record.attempt(&choice);
            }
            match self.attempt(choice, progress).await {
                Attempt::Answered(response) => return Some(response),
                Attempt::NotSent => {}
                Attempt::Refused => {
                    progress.sent += 1;
                    progress.happened(Unanswered::Full);
                }
                Attempt::Lost => {
                    progress.sent += 1;
                    progress.happened(Unanswered::Lost);
                }
                Attempt::Killed => {
                    progress.sent += 1;
                    progress.deaths += 1;
                    progress.happened(Unanswered::Lost);
                }
                Attempt::Final(reply) => return Some(progress.reply(reply, self.dialect())),
            }
        }
        None
    }

    /// Who is asked next; waits, within bounds, for somebody to have room.
    async fn next(&self, progress: &Progress) -> Result<Choice, Unanswered> {
        let tried = &progress.tried;
        let spilled = matches!(self.origin, Origin::Peer { spilled: true, .. });
        if spilled && !self.has_room_to_spare() {
            return Err(Unanswered::Full);
        }
        let walk = self.walk(progress.region_died);
        match walk.next(tried, self.worker.random()) {
            Next::Ask(choice) => return Ok(choice),
            Next::Nobody => return Err(Unanswered::NotSent),
            Next::Wait if spilled => return Err(Unanswered::Full),
            Next::Wait => {}
        }
        let try_it = || match walk.next(tried, self.worker.random()) {
            Next::Ask(choice) => Some(Ok(choice)),
            Next::Nobody => Some(Err(Unanswered::NotSent)),
            Next::Wait => None,
        };
        self.worker.gateway.demand.wake();
        let gate = &self.found.model.lane.gate;
        let passed = gate
            .pass(self.found.serving.waiting_room(), self.asked.deadline.left().min(progress.patience), try_it)
            .await;
        passed.unwrap_or_else(|| {
            self.worker.gateway.metrics.overload.fetch_add(1, Ordering::Relaxed);
            Err(Unanswered::Full)
        })
    }

    /// Whether this region may serve the users of others beside its own.
    fn has_room_to_spare(&self) -> bool {
        let ready = self.found.serving.replicas.iter().filter(|replica| replica.ready());
        headroom(ready.map(|replica| &*replica.target)).is_some_and(|room| room > 0)
    }

    fn walk(&self, region_died: bool) -> Walk<'_> {
        let Found { name, serving, .. } = self.found;
        let own = &self.worker.gateway.region;
        let (from, order, own_last) = match self.origin {
            // Whether it may come here, the gateway that sent it has judged.
            Origin::Peer { .. } => (own, std::slice::from_ref(own), false),
            Origin::User { region, .. } => {
                let region = region.as_ref().unwrap_or(own);
                let order = self.world.order_from(region).unwrap_or(&self.world.order);
                (region, order, region_died || *region == *own && !self.serves_own())
            }
        };
        Walk { world: self.world, model: name, serving, order, from, own_last, heat: &self.own.heat }
    }

    /// Whether the own region takes this user of its own.
    fn serves_own(&self) -> bool {
        let Found { name, model, serving, .. } = self.found;
        if !serving.routed(&self.worker.gateway.region) {
            return true;
        }
        let condition = self.world.condition(name, serving, &self.worker.gateway.region);
        // With limits, what is too much shows by itself.
        let limited = serving.replicas.iter().all(|replica| replica.target.declared_limit() > 0);
        let share = if limited { 1.0 } else { overload::share(condition.ready, serving.desired) };
        model.lane.returning.serves(condition.eligible(), share, self.head.headers.get(&name::USER))
    }

    async fn attempt(&self, choice: Choice, progress: &mut Progress) -> Attempt {
        let target = Arc::clone(choice.target());
        let link = self.worker.links.to(&target);
        let replayable = progress.body.replayable();
        let exchange = tokio::select! {
            // An answer that is there is taken.
            biased;
            exchange = self.send(&choice, &link, &mut progress.body) => exchange,
            () = link.lost(), if replayable => return lost(&choice),
        };
        if let Some(fault) = progress.body.fault() {
            return Attempt::Final(fault_reply(fault));
        }
        match exchange {
            Ok(exchange) => self.judge(choice, exchange, progress),
            Err(Failure::Connect(error)) => {
                tracing::debug!(address = target.address(), %error, "cannot connect");
                if nobody_listens(&error) {
                    target.condemn();
                } else {
                    target.want_probe();
                }
                Attempt::NotSent
            }
            Err(Failure::Broken { source, .. }) => {
                tracing::debug!(address = target.address(), error = %source, "lost while waiting for an answer");
                target.want_probe();
                lost(&choice)
            }
            Err(Failure::Timeout) => {
                // Who wants an answer sooner than a replica can give it says nothing against the replica.
                if !self.asked.deadline.is_the_senders() {
                    self.suspect(&choice);
                }
                let message = format!("model `{}` did not answer in time", self.found.name);
                Attempt::Final(Reply::error(StatusCode::GATEWAY_TIMEOUT, message))
            }
        }
    }

    /// Sends the request, once more on a new connection when a kept one breaks: the replica may have closed it as idle
    /// at that moment. If it takes no new one either, it died with the request.
    async fn send(&self, choice: &Choice, link: &Rc<Link>, body: &mut Inbound) -> Result<Exchange, Failure> {
        let again = body.replayable();
        match self.send_once(choice, link, Reuse::Allowed, body.next()).await {
            Err(Failure::Broken { kept: true, source }) if again => {
                let second = self.send_once(choice, link, Reuse::Never, body.next()).await;
                second.map_err(|failure| match failure {
                    Failure::Connect(_) => Failure::Broken { kept: true, source },
                    other => other,
                })
            }
            other => other,
        }
    }

    fn dialect(&self) -> Dialect {
        self.asked.way.dialect()
    }

    /// Between gateways everything is multiplexed.
    fn protocol(&self, choice: &Choice) -> Protocol {
        match choice {
            Choice::Replica { .. } => self.asked.way.protocol(),
            Choice::Peer { .. } => Protocol::Http2,
        }
    }

    async fn send_once(
        &self,
        choice: &Choice,
        link: &Rc<Link>,
        reuse: Reuse,
        body: Outbound,
    ) -> Result<Exchange, Failure> {
        let deadline = self.asked.deadline.at();
        let path = match choice {
            Choice::Replica { .. } => self.asked.way.path_at_replica(&self.asked.path),
            Choice::Peer { .. } => self.asked.path.clone(),
        };
        match self.protocol(choice) {
            Protocol::Http1 => {
                let mut headers = Cow::Borrowed(&self.head.headers);
                if self.asked.deadline.is_the_senders() {
                    self.asked.deadline.tell(headers.to_mut(), self.dialect());
                }
                let (method, host) = (&self.head.method, choice.target().address());
                let head = RequestHead { method, path: path.as_str(), host, headers: &headers };
                link.exchange_http1(reuse, &head, body, deadline).await
            }
            Protocol::Http2 => {
                // Large, and of no use to most.
                Box::pin(link.exchange_http2(reuse, self.request(choice, path, body), deadline)).await
            }
        }
    }

    fn request(&self, choice: &Choice, path: PathAndQuery, body: Outbound) -> http::Request<Outbound> {
        let mut request = http::Request::new(body);
        *request.method_mut() = self.head.method.clone();
        *request.version_mut() = Version::HTTP_2;
        let mut headers = self.head.headers.clone();
        self.asked.deadline.tell(&mut headers, self.dialect());
        if let Choice::Peer { spilled, .. } = choice {
            self.introduce(&mut headers, spilled.as_ref());
        }
        *request.headers_mut() = headers.into();
        let mut uri = uri::Parts::default();
        uri.scheme = Some(uri::Scheme::HTTP);
        uri.authority = choice.target().authority().cloned();
        uri.path_and_query = Some(path);
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        request
    }

    /// What tells a gateway of another region that this one sends the request, and on what terms.
    fn introduce(&self, headers: &mut Headers, spilled: Option<&Spilled>) {
        if let Ok(mut token) = HeaderValue::from_str(&self.world.snapshot.mesh_token) {
            token.set_sensitive(true);
            headers.insert(&name::PEER, token);
        }
        headers.insert(&name::EPOCH, self.found.serving.epoch.clone());
        headers.insert(&name::SLOT, self.found.serving.slot.clone());
        if self.asked.way == Way::Called
            && let Ok(model) = HeaderValue::from_str(&self.asked.model)
        {
            headers.insert(&name::MODEL, model);
        }
        if spilled.is_some() {
            headers.insert(&name::SPILL, HeaderValue::from_static("1"));
        }
    }

    fn judge(&self, choice: Choice, exchange: Exchange, progress: &mut Progress) -> Attempt {
        let Response { status, headers, .. } = &exchange.response;
        let outcome = outcome(*status, headers);
        match &choice {
            Choice::Peer { peer, spilled, .. } => {
                let declined = headers.text(&name::UNAVAILABLE).filter(|_| *status == StatusCode::SERVICE_UNAVAILABLE);
                if let Some(value) = declined {
                    let state = &self.found.serving.state;
                    if value == FULL {
                        peer.full(self.found.name, state, spilled.is_some());
                        progress.happened(Unanswered::Full);
                        return Attempt::NotSent;
                    }
                    peer.declined(self.found.name, state);
                    return if value == NOT_SENT { Attempt::NotSent } else { Attempt::Killed };
                }
            }
            Choice::Replica { replica, in_flight } => {
                if outcome == Outcome::ServerError {
                    self.suspect(&choice);
                } else {
                    replica.target.succeeded(exchange.elapsed, in_flight.is_trial());
                }
                let more = progress.body.replayable() && progress.sent + 1 < self.origin.attempts();
                if *status == StatusCode::SERVICE_UNAVAILABLE && more {
                    if self.own.may_try_again() {
                        return Attempt::Refused;
                    }
                    self.worker.gateway.metrics.retries_refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        self.finish(choice, exchange, outcome, progress)
    }

    /// A replica answers badly. Enough of that, and it is left out, but never most of its group.
    fn suspect(&self, choice: &Choice) {
        let Choice::Replica { replica, in_flight } = choice else { return };
        if replica.target.failed(in_flight.is_trial()) && eject(&self.found.serving.replicas, &replica.target) {
            self.count(choice, |series| &series.ejections);
        }
    }

    fn count(&self, choice: &Choice, of: fn(&Series) -> &AtomicU64) {
        let Found { name, serving, .. } = self.found;
        let region = match choice {
            Choice::Replica { .. } => &self.worker.gateway.region,
            Choice::Peer { peer, .. } => &peer.region,
        };
        serving.count(&self.worker.gateway.metrics, name, region, of);
    }

    fn finish(&self, choice: Choice, exchange: Exchange, outcome: Outcome, progress: &mut Progress) -> Attempt {
        let Response { status, mut headers, body } = exchange.response;
        let (mut in_flight, spilled, replica) = match choice {
            Choice::Replica { in_flight, replica } => {
                self.mark(&mut headers);
                (in_flight, None, Some(replica))
            }
            Choice::Peer { in_flight, spilled, .. } => {
                headers.remove(&name::UNAVAILABLE);
                (in_flight, spilled, None)
            }
        };
        in_flight.answered();
        let (mut record, admitted) = progress.luggage.take().expect("a request is answered once");
        record.note(|access| {
            access.answered(status, &headers, replica.as_deref().map(|replica| &*replica.endpoint.id));
            access.tried = progress.tried.len();
            access.spilled = spilled.is_some();
        });
        record.head(status, &headers);
        let elsewhere = if replica.is_none() { headers.text(&name::REGION) } else { None };
        let trip = Trip {
            record: record.answered(self.found.name, self.found.serving, elsewhere, outcome),
            _in_flight: in_flight,
            _admitted: admitted,
            _spilled: spilled,
        };
        let body = Answer::Passing(Passing::new(body, Box::new(trip)));
        Attempt::Answered(Response { status, headers, body })
    }

    /// Says who answered.
    fn mark(&self, headers: &mut Headers) {
        clean_answer(headers);
        let serving = self.found.serving;
        for (name, value) in [
            (&name::REGION, &self.worker.gateway.region_value),
            (&name::SLOT, &serving.slot),
            (&name::REVISION, &serving.revision),
            (&name::EPOCH, &serving.epoch),
        ] {
            headers.append(name, value.clone());
        }
    }
}

/// A connection broke that a request was on. With a replica's goes the replica; a gateway says by itself what became of
/// the replica that it asked.
fn lost(choice: &Choice) -> Attempt {
    match choice {
        Choice::Replica { .. } => Attempt::Killed,
        Choice::Peer { .. } => Attempt::Lost,
    }
}

/// How an answer counts. gRPC says it in a header when there is no message, else in the trailers.
fn outcome(status: StatusCode, headers: &Headers) -> Outcome {
    match headers.get(&name::GRPC_STATUS) {
        Some(code) => Outcome::of_grpc(code),
        None => Outcome::of(status),
    }
}
