//! Probes: whether replicas of the own region and other gateways answer, and what those know.

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use http_body_util::{BodyExt, Limited};
use tokio::{
    net::TcpStream,
    sync::Notify,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tradewind_api::{
    gateway::{EDITION_PATH, PEER_PATH, PeerState, config::Edition},
    ndjson::LINE_LIMIT,
};
use tradewind_core::{
    bundle::Runtime,
    deployment::HealthPolicy,
    health::{Hysteresis, Transition},
    probe::Probe,
};

use crate::{
    body::Outbound,
    gateway::Gateway,
    headers::Headers,
    http1::client::RequestHead,
    link::{Failure, Links, Reuse},
    peer::Peer,
    replica::Replica,
    target::Target,
};

/// Who wants a probe at once waits until the last one has begun so long ago: many may want one.
const LEAST_INTERVAL: Duration = Duration::from_millis(20);
/// The largest answer to a probe.
const ANSWER_LIMIT: usize = 4 << 20;

/// What a probe needs beside its target.
#[derive(Debug, Clone)]
pub(crate) struct Prober {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) links: Rc<Links>,
    /// Told when a verdict or a peer's capacity has changed.
    pub(crate) news: Arc<Notify>,
    pub(crate) policy: HealthPolicy,
}

/// What a probe finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Well,
    /// It answers, or its host does, and not as it should.
    Unwell,
    /// Nobody answers.
    Silent,
}

/// Who is probed.
#[derive(Debug)]
pub(crate) enum Subject {
    Replica(Arc<Replica>),
    Peer { peer: Arc<Peer>, mesh_token: String },
}

impl Subject {
    fn target(&self) -> &Arc<Target> {
        match self {
            Self::Replica(replica) => &replica.target,
            Self::Peer { peer, .. } => &peer.target,
        }
    }

    /// Whether it should answer.
    fn expected(&self) -> bool {
        match self {
            Self::Replica(replica) => replica.told_ready(),
            Self::Peer { .. } => true,
        }
    }
}

impl Prober {
    /// Probes until told to stop.
    pub(crate) async fn watch(self, subject: Subject, shutdown: CancellationToken) {
        let target = subject.target();
        let mut health = Hysteresis::new(self.policy, target.healthy());
        loop {
            if !subject.expected() {
                // Its agent will say when it is ready; then that counts, and not how it failed before.
                health = Hysteresis::new(self.policy, true);
                target.set_healthy(true);
                match shutdown.run_until_cancelled(self.until_expected(&subject)).await {
                    Some(()) => continue,
                    None => return,
                }
            }
            if health.healthy() && !target.healthy() {
                // A request has found it down meanwhile.
                health.condemn();
                self.news.notify_one();
            }
            let began = Instant::now();
            let Some(found) = shutdown.run_until_cancelled(self.probe(&subject)).await else { return };
            let ok = found == Found::Well;
            if let Some(transition) = health.observe(ok) {
                target.set_healthy(health.healthy());
                self.tell_if_lost(target);
                tracing::info!(address = target.address(), healthy = transition == Transition::BecameHealthy, "probed");
                self.news.notify_one();
            } else if !health.healthy() && !ok {
                // Those who were sent there before it was found down should not wait either.
                target.set_healthy(false);
                self.tell_if_lost(target);
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep_until(began + self.policy.interval.duration()) => {}
                () = async {
                    target.probe_wanted().await;
                    sleep_until(began + LEAST_INTERVAL).await;
                } => {}
            }
        }
    }

    /// Nobody is sent there now, but some may still wait there for their answers, for nothing if it has fallen silent.
    async fn until_expected(&self, subject: &Subject) {
        let target = subject.target();
        let mut silent = 0;
        while !subject.expected() {
            // Whatever comes first.
            let _ = timeout(self.policy.interval.duration(), target.probe_wanted()).await;
            if !subject.expected() {
                silent = if self.probe(subject).await == Found::Silent { silent + 1 } else { 0 };
                if silent >= self.policy.unhealthy_after {
                    self.tell_lost(target);
                }
            }
        }
    }

    /// Who waits for an answer of a dead target should look elsewhere.
    fn tell_if_lost(&self, target: &Target) {
        if !target.healthy() {
            self.tell_lost(target);
        }
    }

    fn tell_lost(&self, target: &Target) {
        // Before the first thread serves, nobody listens.
        let _ = self.gateway.lost.send(target.id);
    }

    async fn probe(&self, subject: &Subject) -> Found {
        match subject {
            Subject::Replica(replica) => match &replica.endpoint.probe {
                Probe::Http(path) => {
                    // Of a server of somebody's own a connection may be all that it serves at a time.
                    let own = replica.endpoint.runtime == Runtime::Onnx;
                    let reuse = if own { Reuse::Allowed } else { Reuse::Never };
                    let asked = self.get(&replica.target, path, None, reuse, ANSWER_LIMIT).await;
                    asked.map_or_else(|found| found, |_| Found::Well)
                }
                Probe::Connect => {
                    let connected = TcpStream::connect(replica.target.address());
                    match timeout(self.policy.timeout.duration(), connected).await {
                        Ok(Ok(_)) => Found::Well,
                        Ok(Err(_)) => Found::Unwell,
                        Err(_) => Found::Silent,
                    }
                }
            },
            Subject::Peer { peer, mesh_token } => {
                let token = Some(mesh_token.as_str());
                let question = self.gateway.questions.newest();
                let (body, round_trip) =
                    match self.get(&peer.target, PEER_PATH, token, Reuse::Allowed, ANSWER_LIMIT).await {
                        Ok(answer) => answer,
                        Err(found) => return found,
                    };
                let Ok(state) = serde_json::from_slice::<PeerState>(&body) else { return Found::Unwell };
                if state.region != peer.region {
                    return Found::Unwell;
                }
                peer.measured(round_trip);
                if peer.advertise(state.ready) | self.is_ahead(peer, &state.incarnation, state.config_revision) {
                    self.news.notify_one();
                }
                peer.answer(question);
                self.gateway.questions.answered();
                Found::Well
            }
        }
    }

    /// Whether a peer has been told of something that this gateway has not.
    fn is_ahead(&self, peer: &Peer, incarnation: &str, revision: u64) -> bool {
        let world = self.gateway.world.load();
        let Some(own) = world.as_ref().map(|world| &world.snapshot) else { return false };
        let revision = if own.incarnation == incarnation { revision } else { 0 };
        peer.serves_config(revision);
        revision > own.revision
    }

    /// What a peer serves; nothing if it does not say.
    pub(crate) async fn edition(&self, peer: &Peer, mesh_token: &str) -> Option<Edition> {
        let asked = self.get(&peer.target, EDITION_PATH, Some(mesh_token), Reuse::Allowed, LINE_LIMIT).await;
        serde_json::from_slice(&asked.ok()?.0).ok()
    }

    /// The body of a good answer, and how long it took on a connection that stood.
    async fn get(
        &self,
        target: &Arc<Target>,
        path: &str,
        token: Option<&str>,
        reuse: Reuse,
        limit: usize,
    ) -> Result<(Bytes, Duration), Found> {
        let deadline = Instant::now() + self.policy.timeout.duration();
        let mut headers = Headers::default();
        if let Some(token) = token {
            let bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Found::Unwell)?;
            headers.insert(&header::AUTHORIZATION, bearer);
        }
        let head = RequestHead { method: &Method::GET, path, host: target.address(), headers: &headers };
        let link = self.links.to(target);
        let ask = async {
            let exchange = match link.exchange_http1(reuse, &head, Outbound::empty(), deadline).await {
                Err(Failure::Broken { kept: true, .. }) => {
                    link.exchange_http1(Reuse::Never, &head, Outbound::empty(), deadline).await
                }
                other => other,
            };
            let exchange = exchange.map_err(|failure| match failure {
                Failure::Timeout => Found::Silent,
                Failure::Connect(_) | Failure::Broken { .. } => Found::Unwell,
            })?;
            let good = exchange.response.status.is_success();
            let body = Limited::new(exchange.response.body, limit).collect().await;
            let body = body.map_err(|_| Found::Unwell)?.to_bytes();
            if good { Ok((body, exchange.elapsed)) } else { Err(Found::Unwell) }
        };
        timeout_at(deadline, ask).await.unwrap_or(Err(Found::Silent))
    }
}
