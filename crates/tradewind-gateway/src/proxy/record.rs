//! The account of one request: counted once, however it ends, and what its answer holds until then.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use http::{HeaderMap, Response, StatusCode};
use tradewind_api::gateway::{REGION_HEADER, REVISION_HEADER, SLOT_HEADER};
use tradewind_core::Slot;

use super::origin::{Origin, text};
use crate::{
    body::{Answer, End, OnEnd},
    gateway::Gateway,
    metrics::{Key, Outcome},
    server::{Admitted, Reply},
    target::InFlight,
    upstream::Connection,
    world::{Serving, World},
};

/// Counts a request once, however it ends; one that is dropped was cancelled by its user.
#[derive(Debug)]
pub(super) struct Record {
    gateway: Arc<Gateway>,
    /// Absent for requests that entered elsewhere, which are counted there.
    key: Option<Key>,
    started: Instant,
    outcome: Outcome,
}

impl Record {
    pub(super) fn begin(gateway: &Arc<Gateway>, origin: &Origin, model: &str, serving: &Serving) -> Self {
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
    pub(super) fn reply(mut self, reply: Reply) -> Response<Answer> {
        let unavailable = reply.status == StatusCode::SERVICE_UNAVAILABLE;
        self.end(if unavailable { Outcome::Unavailable } else { Outcome::of(reply.status) });
        reply.into_response()
    }

    /// Takes up who answered, as the answer says.
    pub(super) fn answered(mut self, world: &World, headers: &HeaderMap, status: StatusCode) -> Self {
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
pub(super) struct Trip {
    pub(super) record: Record,
    pub(super) connection: Option<Connection>,
    pub(super) _admitted: Admitted,
    pub(super) _in_flight: InFlight,
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
