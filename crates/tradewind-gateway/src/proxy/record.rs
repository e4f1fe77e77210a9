//! The account of one request: counted once, however it ends, and what its answer holds until then.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use http::StatusCode;
use hyper::body::Frame;
use tokio::time::Instant;

use super::{
    notes::Notes,
    origin::{Found, Origin},
};
use crate::{
    access::Access,
    body::{Answer, End},
    headers::{Headers, name},
    lane::{Comer, Entered, Lane},
    message::Response,
    metrics::{Outcome, Series},
    peer::Spilled,
    reply::{Dialect, Reply},
    routing::Choice,
    target::InFlight,
    worker::Worker,
    world::Serving,
};

/// Counts a request once, however it ends; one that is dropped was cancelled by its user.
#[derive(Debug)]
pub(super) struct Record {
    worker: Rc<Worker>,
    /// Absent for requests that entered elsewhere, which are counted there.
    series: Option<Arc<Series>>,
    notes: Notes,
    started: Instant,
    outcome: Outcome,
}

impl Record {
    pub(super) fn begin(
        worker: &Rc<Worker>,
        origin: &Origin,
        found: Found<'_>,
        mut notes: Notes,
        started: Instant,
    ) -> Self {
        let gateway = &worker.gateway;
        let series = match origin {
            Origin::Peer { .. } => {
                gateway.metrics.for_peers.fetch_add(1, Ordering::Relaxed);
                None
            }
            Origin::User { .. } => {
                found.serving.series(&gateway.metrics, found.name, gateway.region.as_str()).map(Arc::clone)
            }
        };
        if let Some(access) = &mut notes.access {
            access.model = Some(Arc::clone(found.name));
        }
        notes.model(found.name);
        Self { worker: Rc::clone(worker), series, notes, started, outcome: Outcome::Cancelled }
    }

    /// It is another revision that answers.
    pub(super) fn serve(&mut self, model: &str, serving: &Serving) {
        if self.series.is_some() {
            let gateway = &self.worker.gateway;
            self.series = serving.series(&gateway.metrics, model, gateway.region.as_str()).map(Arc::clone);
        }
    }

    /// For the log, if there is one.
    pub(super) fn note(&mut self, note: impl FnOnce(&mut Access)) {
        if let Some(access) = &mut self.notes.access {
            note(access);
        }
    }

    /// Somebody is asked.
    pub(super) fn attempt(&mut self, choice: &Choice) {
        self.notes.attempt(choice);
    }

    /// What the head of the answer says.
    pub(super) fn head(&mut self, status: StatusCode, headers: &Headers) {
        self.notes.answered(status, headers);
    }

    /// Ends with a reply of the gateway's own.
    pub(super) fn reply(mut self, reply: Reply, dialect: Dialect) -> Response<Answer> {
        let outcome = outcome_of(&reply);
        let response = reply.respond(dialect);
        self.notes.replied(&response);
        self.end(outcome);
        response
    }

    /// Takes up who answered: `elsewhere`, if it was not a replica of the own region.
    pub(super) fn answered(
        mut self,
        model: &str,
        serving: &Serving,
        elsewhere: Option<&str>,
        outcome: Outcome,
    ) -> Self {
        let gateway = &self.worker.gateway;
        if self.series.is_some()
            && let Some(region) = elsewhere
            && let Some(series) = serving.series(&gateway.metrics, model, region)
        {
            self.series = Some(Arc::clone(series));
        }
        self.outcome = outcome;
        self
    }

    fn end(&mut self, outcome: Outcome) {
        self.outcome = outcome;
        self.close();
    }

    fn close(&mut self) {
        if let Some(series) = self.series.take() {
            series.record(self.outcome, self.started.elapsed());
        }
        self.notes.end(self.worker.gateway.access.as_ref(), self.outcome);
    }
}

/// How a reply of the gateway's own counts.
pub(super) fn outcome_of(reply: &Reply) -> Outcome {
    let unavailable = reply.status == StatusCode::SERVICE_UNAVAILABLE;
    if unavailable { Outcome::Unavailable } else { Outcome::of(reply.status) }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.outcome = Outcome::Cancelled;
        self.close();
    }
}

/// One of those under way.
#[derive(Debug)]
pub(crate) struct Admitted {
    worker: Rc<Worker>,
    /// As soon as its model is known.
    lane: Option<Entered>,
}

impl Admitted {
    /// `None` when there are too many.
    pub(super) fn new(worker: &Rc<Worker>, limit: usize) -> Option<Self> {
        let metrics = &worker.gateway.metrics;
        let admitted = Self { worker: Rc::clone(worker), lane: None };
        if metrics.concurrent.fetch_add(1, Ordering::Relaxed) < limit {
            return Some(admitted);
        }
        metrics.overload.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Whether its model may have one more of those under way: one that gets more than it can do leaves room for others.
    pub(super) fn enter(&mut self, lane: &Arc<Lane>, origin: &Origin, limit: usize) -> bool {
        let metrics = &self.worker.gateway.metrics;
        // Without itself.
        let all = metrics.concurrent.load(Ordering::Relaxed).saturating_sub(1);
        let comer = match origin {
            Origin::Peer { spilled: true, .. } => Comer::Guest,
            Origin::Peer { .. } | Origin::User { .. } => Comer::Own,
        };
        self.lane = lane.enter(comer, all, limit);
        if self.lane.is_none() {
            metrics.overload.fetch_add(1, Ordering::Relaxed);
        }
        self.lane.is_some()
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.worker.gateway.metrics.concurrent.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What goes with an answer until its end.
#[derive(Debug)]
pub(crate) struct Trip {
    pub(super) record: Record,
    pub(super) _in_flight: InFlight,
    pub(super) _admitted: Admitted,
    pub(super) _spilled: Option<Spilled>,
}

impl Trip {
    /// gRPC says how a call ended in the trailers.
    pub(crate) fn take_in(&mut self, frame: &Frame<Bytes>) {
        if let Some(code) = frame.trailers_ref().and_then(|trailers| trailers.get(&name::GRPC_STATUS)) {
            self.record.outcome = Outcome::of_grpc(code.as_bytes());
        }
        if let Some(data) = frame.data_ref() {
            self.record.note(|access| access.sent_bytes += data.len() as u64);
        }
    }

    pub(crate) fn end(mut self, end: End) {
        match end {
            End::Complete => self.record.close(),
            End::Broken => self.record.end(Outcome::ServerError),
            End::Abandoned => self.record.end(Outcome::Cancelled),
        }
    }
}
