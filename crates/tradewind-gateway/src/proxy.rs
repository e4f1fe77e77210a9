//! Passing a request on: pick, send, and pick again while that is safe.

mod ask;
mod attempt;
mod echo;
mod notes;
mod origin;
mod record;
mod rest;

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::{HeaderValue, StatusCode};
use smallvec::SmallVec;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    access::Access,
    body::{Answer, Inbound},
    epoch_cookie,
    headers::{self, Headers, clean_request, name},
    message::{Head, Response},
    reply::{Dialect, Reply},
    server::Incoming,
    target::Target,
    worker::Worker,
    world::World,
};
use ask::{Asked, Refused};
use attempt::Call;
use notes::Notes;
use origin::{FULL, Found, LOST, NOT_SENT, Origin, decline, find};
use record::{Admitted, Record};

pub(crate) use ask::{STATISTICS_PATH, Way};
pub(crate) use record::Trip;

/// The most requests under way at once, shared by all models.
const CONCURRENT_LIMIT: usize = 8192;
/// The most targets that are tried for one request, those included that could not be reached.
const TARGETS_LIMIT: usize = 16;
/// The most worlds that one request is routed by.
const WORLDS_LIMIT: u32 = 3;
/// A request that was in flight on so many replicas as they died is not sent again.
const DEATHS_LIMIT: u32 = 2;
/// A request waits at most this long for a replica to have room; one that has waited for the first replica may wait for all
/// others that have.
const ROOM_WAIT: Duration = Duration::from_secs(1);
/// Whether an agent lives is known after this time.
const AGENT_TIMEOUT: Duration = Duration::from_millis(250);

/// Answers a request for a model.
pub(crate) async fn pass_on(
    worker: &Rc<Worker>,
    head: &mut Head,
    body: Incoming,
    way: Way,
    id: &HeaderValue,
) -> Response<Answer> {
    let started = Instant::now();
    let dialect = way.dialect();
    if let Some(user_key) = &worker.gateway.user_key {
        user_key.tell(&mut head.headers);
    }
    let log = worker.gateway.access.as_ref();
    let access = log.map(|log| Box::new(Access::begin(head, id, log.draws(worker.random()))));
    let Some(mut admitted) = Admitted::new(worker, CONCURRENT_LIMIT) else {
        let reply = Reply::unavailable("too many requests are under way");
        return refuse(worker, Notes::logged(access), reply, dialect);
    };
    let Some(world) = worker.world() else {
        let reply = Reply::unavailable("this gateway has no configuration yet");
        return refuse(worker, Notes::logged(access), reply, dialect);
    };
    let origin = Origin::read(&worker.gateway, &world, &head.headers);
    // What entered elsewhere is logged there.
    let access = access.filter(|_| origin.is_user());
    let logged = access.as_ref().is_some_and(|access| access.sampled);
    let begin = logged || origin.is_user() && tradewind_traces::draws(|| worker.random());
    let trace = headers::trace(&mut head.headers, begin.then_some(|| worker.random()));
    let mut notes = Notes::begin(access, &mut head.headers, trace);
    let (mut asked, body) = match Asked::read(way, head, body, started).await {
        Ok(read) => read,
        Err(Refused(reply)) if origin.is_user() => return refuse(worker, notes, reply, dialect),
        Err(Refused(reply)) => return origin.refuse(reply, dialect),
    };
    if let Some(access) = &mut notes.access {
        access.received = body.meter();
    }
    // A slow body may have taken longer than a switch. From here on one world is held.
    let world = worker.world().unwrap_or(world);
    let world = match echo::catch_up(worker, world, asked.named().model, &origin).await {
        Ok(world) => world,
        Err(reply) => return refuse(worker, notes, reply, dialect),
    };
    let found = match find(&world, asked.named(), &origin, head.headers.get(&name::USER), || worker.random()) {
        Ok(found) => found,
        Err(reply) if origin.is_user() => return refuse(worker, notes, reply, dialect),
        Err(reply) => return origin.refuse(reply, dialect),
    };
    let entered = admitted.enter(&found.model.lane, &origin, CONCURRENT_LIMIT);
    let record = Record::begin(worker, &origin, found, notes, started);
    match (entered, &origin) {
        (true, _) => {}
        (false, Origin::User { .. }) => return record.reply(full_reply(&asked.model), dialect),
        (false, Origin::Peer { .. }) => return decline(FULL),
    }
    if body.whole().is_some_and(|body| worker.gateway.doomed.contains(&asked.model, body)) {
        worker.gateway.metrics.doomed.fetch_add(1, Ordering::Relaxed);
        return record.reply(doomed_reply(), dialect);
    }
    clean_request(&mut head.headers);
    head.headers.insert(&name::REQUEST_ID, id.clone());
    if dialect == Dialect::Grpc {
        ask::mark_grpc(&mut head.headers);
    }
    let awake = match rest::is_asleep(&world, found, &origin) {
        false => None,
        true => match rest::wake(worker, &world, found, &mut asked, &origin, head.headers.get(&name::USER)).await {
            Some(awake) => Some(awake),
            None if origin.is_user() => return record.reply(full_reply(&asked.model), dialect),
            None => return decline(FULL),
        },
    };
    let (world, found) = match &awake {
        None => (&world, found),
        Some(world) => match find(world, asked.named(), &origin, head.headers.get(&name::USER), || worker.random()) {
            Ok(found) => (world, found),
            Err(reply) if origin.is_user() => return record.reply(reply, dialect),
            Err(reply) => return origin.refuse(reply, dialect),
        },
    };
    let progress = Progress {
        patience: if awake.is_some() { ask::ANSWER_LIMIT } else { ROOM_WAIT },
        body,
        tried: SmallVec::new(),
        sent: 0,
        deaths: 0,
        region_died: false,
        outcome: Unanswered::NotSent,
        luggage: Some((record, admitted)),
    };
    Journey { worker, origin: &origin, asked: &asked, head, progress }.run(world, found).await
}

/// A reply to who asked for nothing that there is.
fn refuse(worker: &Worker, mut notes: Notes, reply: Reply, dialect: Dialect) -> Response<Answer> {
    let outcome = record::outcome_of(&reply);
    let response = reply.respond(dialect);
    notes.replied(&response);
    notes.end(worker.gateway.access.as_ref(), outcome);
    response
}

fn full_reply(model: &str) -> Reply {
    Reply::unavailable(format!("model `{model}` has as many requests as it can take now"))
}

fn doomed_reply() -> Reply {
    let message = "an equal request was in flight on two replicas as they died; it is refused for a minute";
    Reply::error(StatusCode::INTERNAL_SERVER_ERROR, message)
}

/// What of a request changes as it is sent, and outlives the world that it is routed by.
struct Progress {
    /// How long it waits for a replica to have room.
    patience: Duration,
    body: Inbound,
    tried: SmallVec<[Arc<Target>; 2]>,
    /// How often it was sent and perhaps begun.
    sent: u32,
    /// How often the replica that had it died.
    deaths: u32,
    /// They died because the own region did: other regions come first.
    region_died: bool,
    outcome: Unanswered,
    /// What an answer takes with it.
    luggage: Option<(Record, Admitted)>,
}

/// The worst that has happened to a request without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unanswered {
    NotSent,
    /// As many requests are under way or wait as there is room for.
    Full,
    /// Somebody had it and did not answer.
    Lost,
}

impl Progress {
    /// Whether it may not be sent again.
    fn spent(&self, origin: &Origin) -> bool {
        self.sent >= origin.attempts() || self.tried.len() >= TARGETS_LIMIT || !self.body.unspent()
    }

    fn happened(&mut self, outcome: Unanswered) {
        self.outcome = self.outcome.max(outcome);
    }

    /// Ends the request with a reply of the gateway's own.
    fn reply(&mut self, reply: Reply, dialect: Dialect) -> Response<Answer> {
        match self.luggage.take() {
            Some((mut record, _)) => {
                record.note(|access| access.tried = self.tried.len());
                record.reply(reply, dialect)
            }
            None => reply.respond(dialect),
        }
    }
}

/// One request on its way through worlds.
struct Journey<'a> {
    worker: &'a Rc<Worker>,
    origin: &'a Origin,
    asked: &'a Asked,
    head: &'a Head,
    progress: Progress,
}

impl Journey<'_> {
    async fn run(mut self, world: &Arc<World>, found: Found<'_>) -> Response<Answer> {
        let (mut world, mut found, mut worlds) = (world, found, 1);
        let mut newer: Arc<World>;
        if self.origin.is_user() {
            self.worker.model(found.name).asked();
        }
        loop {
            let own = self.worker.model(found.name);
            let Self { worker, origin, asked, head, .. } = self;
            let call = Call { worker, world, found, own: &own, origin, asked, head };
            let mut answered = call.run(&mut self.progress).await;
            if answered.is_none() && self.progress.deaths >= DEATHS_LIMIT {
                if region_lives(world).await {
                    return self.condemn();
                }
                (self.progress.deaths, self.progress.region_died) = (0, true);
                answered = call.run(&mut self.progress).await;
            }
            if let Some(mut response) = answered {
                if let Some(pin) = found.pin {
                    response.headers.append(&name::PIN, HeaderValue::from_static(pin));
                }
                self.give_cookie(&mut response.headers);
                return response;
            }
            // Nobody can give what some users get: what all others get is better than nothing.
            if let Some(live) = self.live_instead(found) {
                found = live;
                continue;
            }
            // Nobody in this world can answer any more; perhaps somebody in a newer one.
            let next = self.worker.world().filter(|next| !Arc::ptr_eq(next, world));
            match next.filter(|_| worlds < WORLDS_LIMIT && !self.progress.spent(self.origin)) {
                Some(next) => newer = next,
                None => return self.give_up(world),
            }
            (world, worlds) = (&newer, worlds + 1);
            found = match self.find(world) {
                Ok(found) => found,
                Err(reply) => return self.refuse(reply),
            };
        }
    }

    fn find<'w>(&self, world: &'w World) -> Result<Found<'w>, Reply> {
        let user = self.head.headers.get(&name::USER);
        find(world, self.asked.named(), self.origin, user, || self.worker.random())
    }

    /// Has clients that keep cookies keep the epoch of their answer, where the gateway is told so.
    fn give_cookie(&self, answer: &mut Headers) {
        if self.worker.gateway.epoch_cookie
            && self.origin.is_user()
            && let Some(path) = self.asked.path_of_model()
        {
            epoch_cookie::tell(answer, epoch_cookie::seen(&self.head.headers), &path);
        }
    }

    /// What is live, if it was something else that a user was to get and the request may still be sent.
    fn live_instead<'w>(&mut self, found: Found<'w>) -> Option<Found<'w>> {
        let live = found.model.live().filter(|live| !std::ptr::eq(*live, found.serving))?;
        if !self.origin.is_user() || self.progress.spent(self.origin) {
            return None;
        }
        if let Some((record, _)) = &mut self.progress.luggage {
            record.serve(found.name, live);
        }
        Some(Found { serving: live, ..found })
    }

    /// It killed whoever had it, unless the whole region has died.
    fn condemn(self) -> Response<Answer> {
        if let Some(body) = self.progress.body.whole() {
            self.worker.gateway.doomed.add(&self.asked.model, body);
        }
        self.reply(doomed_reply())
    }

    /// Nobody is left to ask.
    fn give_up(self, world: &World) -> Response<Answer> {
        let outcome = if self.progress.body.unspent() { self.progress.outcome } else { Unanswered::Lost };
        let reply = match (self.origin, outcome) {
            (Origin::Peer { .. }, Unanswered::Lost) => return decline(LOST),
            (Origin::Peer { .. }, Unanswered::Full) => return decline(FULL),
            (Origin::Peer { .. }, Unanswered::NotSent) => return decline(NOT_SENT),
            (_, Unanswered::Lost) => {
                Reply::error(StatusCode::BAD_GATEWAY, "the model stopped while it worked on this request")
            }
            (_, Unanswered::Full) => full_reply(&self.asked.model),
            (_, Unanswered::NotSent) => {
                let found = self.find(world);
                Reply::unavailable(found.map(|found| world.why_not(found.name, found.serving)).unwrap_or_default())
            }
        };
        self.reply(reply)
    }

    fn refuse(self, reply: Reply) -> Response<Answer> {
        match self.origin {
            Origin::User { .. } => self.reply(reply),
            Origin::Peer { .. } => self.origin.refuse(reply, self.asked.way.dialect()),
        }
    }

    fn reply(mut self, reply: Reply) -> Response<Answer> {
        self.progress.reply(reply, self.asked.way.dialect())
    }
}

/// Whether an agent of the own region can be reached. When it cannot, replicas die because the region does, and their
/// requests have done nothing wrong.
async fn region_lives(world: &World) -> bool {
    let own = world.snapshot.regions.iter().find(|members| members.name == world.own);
    for agent in own.into_iter().flat_map(|members| &members.agents) {
        if matches!(timeout(AGENT_TIMEOUT, TcpStream::connect(agent)).await, Ok(Ok(_))) {
            return true;
        }
    }
    false
}
