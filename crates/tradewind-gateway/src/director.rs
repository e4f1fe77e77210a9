//! Puts the world together: takes in snapshots and endpoints, keeps probes and streams to match, composes the next
//! view, stores it with one atomic move, and only then says so. The only writer of the view.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tradewind_api::{
    agent::{Endpoint, Endpoints},
    gateway::{
        GatewaySnapshot, RegionMembers,
        config::{ConfigMessage, Edition},
    },
};
use tradewind_core::{ModelName, RegionName, deployment::HealthPolicy, outlier, route::RouteState};

use crate::{
    agents,
    clock::Millis,
    demand,
    disk::{Disk, KnownEndpoints},
    drill::Drill,
    gate::Gate,
    gateway::Gateway,
    lane::Lane,
    learning::Learning,
    link::Links,
    peer::Peer,
    probe::{Prober, Subject},
    replica::Replica,
    report::Acknowledged,
    tables::Tables,
    target::eject,
    world::{Parts, World},
};

mod config;

/// Changes that wait to be taken in; the streams wait when there are more.
pub(crate) const CHANGES_LIMIT: usize = 64;
/// Round trips, unused connections and what replicas can do are looked at this often.
const TICK: Duration = Duration::from_secs(1);
/// The fastest answer counts for one to two of so many ticks.
const FASTEST_TICKS: u64 = 30;

#[derive(Debug)]
pub(crate) enum Change {
    Config {
        message: Box<ConfigMessage>,
        /// Those that it names and that were not held when it came.
        tables: Tables,
        answer: oneshot::Sender<Fit>,
    },
    /// What control sent is no message, or lacks something; why.
    Unusable(String),
    Endpoints {
        agent: String,
        endpoints: Endpoints,
    },
}

/// Whether a message could be put to what is held; whether that is then taken up is another question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    Fits,
    /// Everything is to be sent anew.
    Unfit,
}

/// Something that is watched for as long as it is kept.
#[derive(Debug)]
struct Watched<T, K> {
    value: Arc<T>,
    /// What the watch was begun with.
    with: K,
    _watch: DropGuard,
}

#[derive(Debug)]
pub(crate) struct Director {
    gateway: Arc<Gateway>,
    links: HashMap<RegionName, String>,
    disk: Disk,
    connections: Rc<Links>,
    changes: mpsc::Receiver<Change>,
    tell: mpsc::Sender<Change>,
    news: Arc<Notify>,
    tasks: TaskTracker,
    shutdown: CancellationToken,

    /// What was taken up last.
    held: Option<Edition>,
    endpoints: KnownEndpoints,
    /// Streams to the agents, with the mesh token they use.
    streams: HashMap<String, (String, DropGuard)>,
    /// Agents that have told their endpoints since this gateway started.
    told: HashSet<String>,
    replicas: HashMap<String, Watched<Replica, HealthPolicy>>,
    peers: HashMap<(RegionName, String), Watched<Peer, (HealthPolicy, String)>>,
    lanes: HashMap<ModelName, Arc<Lane>>,
    drill: Drill,
    learning: Learning,
    /// Of pinned users, as far as what is held names them.
    tables: Tables,
    ticks: u64,
}

impl Director {
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        links: HashMap<RegionName, String>,
        disk: Disk,
        connections: Rc<Links>,
        shutdown: CancellationToken,
    ) -> (Self, mpsc::Sender<Change>) {
        let (tell, changes) = mpsc::channel(CHANGES_LIMIT);
        let director = Self {
            gateway,
            links,
            disk,
            connections,
            changes,
            tell: tell.clone(),
            news: Arc::new(Notify::new()),
            tasks: TaskTracker::new(),
            shutdown,
            held: None,
            endpoints: KnownEndpoints::new(),
            streams: HashMap::new(),
            told: HashSet::new(),
            replicas: HashMap::new(),
            peers: HashMap::new(),
            lanes: HashMap::new(),
            drill: Drill::default(),
            learning: Learning::default(),
            tables: Tables::new(),
            ticks: 0,
        };
        (director, tell)
    }

    pub(crate) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let news = Arc::clone(&self.news);
        let shutdown = self.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                change = self.changes.recv() => match change {
                    Some(Change::Config { message, tables, answer }) => {
                        let fit = self.take_message(*message, tables).await;
                        // Who asked is gone when the gateway ends.
                        let _ = answer.send(fit);
                    }
                    Some(Change::Unusable(reason)) => self.refuse(&reason),
                    Some(Change::Endpoints { agent, endpoints }) => self.take_endpoints(agent, endpoints).await,
                    None => break,
                },
                () = news.notified() => self.review(),
                () = self.drill.over() => self.restage(),
                _ = tick.tick() => {
                    self.connections.sweep();
                    self.gateway.doomed.sweep();
                    self.measure();
                    self.review();
                }
            }
        }
        self.streams.clear();
        self.replicas.clear();
        self.peers.clear();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A drill has ended: the own region serves again.
    fn restage(&mut self) {
        tracing::warn!("the drill is over: this region serves again");
        self.compose();
        self.review();
    }

    async fn take_endpoints(&mut self, agent: String, endpoints: Endpoints) {
        let listed = self.own_members().is_some_and(|members| members.agents.contains(&agent));
        if endpoints.region != self.gateway.region || !listed {
            return;
        }
        self.told.insert(agent.clone());
        let news = self.endpoints.get(&agent) != Some(&endpoints);
        self.endpoints.insert(agent, endpoints);
        let forgotten = self.forget_agents();
        if news || forgotten {
            self.sync_replicas();
            self.compose();
            let (disk, known) = (self.disk.clone(), self.endpoints.clone());
            self.save(move || disk.save_endpoints(&known)).await;
        }
        self.review();
    }

    fn adopt(&mut self, edition: Edition) {
        self.held = Some(edition);
        self.sync_streams();
        self.forget_agents();
        self.sync_replicas();
        self.sync_peers();
        self.compose();
    }

    fn snapshot(&self) -> Option<&Arc<GatewaySnapshot>> {
        self.held.as_ref().map(|held| &held.snapshot)
    }

    fn own_members(&self) -> Option<&RegionMembers> {
        self.snapshot()?.regions.iter().find(|members| members.name == self.gateway.region)
    }

    fn knows_all_replicas(&self) -> bool {
        self.own_members().is_some_and(|own| own.agents.iter().all(|agent| self.endpoints.contains_key(agent)))
    }

    fn sync_streams(&mut self) {
        let Some(snapshot) = self.snapshot().cloned() else { return };
        let listed: HashSet<String> =
            self.own_members().map(|members| members.agents.iter().cloned().collect()).unwrap_or_default();
        self.told.retain(|agent| listed.contains(agent));
        self.streams.retain(|agent, (token, _)| listed.contains(agent) && *token == snapshot.mesh_token);
        for agent in listed {
            if self.streams.contains_key(&agent) {
                continue;
            }
            let stop = self.shutdown.child_token();
            let token = snapshot.mesh_token.clone();
            self.tasks.spawn_local(agents::follow(agent.clone(), token.clone(), self.tell.clone(), stop.clone()));
            let gateway = Arc::clone(&self.gateway);
            self.tasks.spawn_local(demand::tell(gateway, agent.clone(), token.clone(), stop.clone()));
            self.streams.insert(agent, (token, stop.drop_guard()));
        }
    }

    /// An agent that is no longer listed may have a successor at another address: its endpoints stay until all listed
    /// agents have told theirs.
    fn forget_agents(&mut self) -> bool {
        let Some(members) = self.own_members() else { return false };
        let listed: HashSet<String> = members.agents.iter().cloned().collect();
        if listed.is_empty() || !listed.iter().all(|agent| self.told.contains(agent)) {
            return false;
        }
        let before = self.endpoints.len();
        self.endpoints.retain(|agent, _| listed.contains(agent));
        self.endpoints.len() != before
    }

    fn sync_replicas(&mut self) {
        // What an agent has told since the start overrides what is only remembered.
        let (told, remembered): (Vec<_>, Vec<_>) =
            self.endpoints.iter().partition(|(agent, _)| self.told.contains(*agent));
        let sets = remembered.into_iter().chain(told).map(|(_, set)| set);
        let current: HashMap<String, Endpoint> =
            sets.flat_map(|set| &set.endpoints).map(|endpoint| (endpoint.id.clone(), endpoint.clone())).collect();
        self.replicas.retain(|id, known| current.get(id).is_some_and(|endpoint| known.value.adopt(endpoint)));
        for (id, endpoint) in current {
            if self.replicas.contains_key(&id) {
                continue;
            }
            let policy = endpoint.health;
            let replica = self.join(endpoint);
            let stop = self.shutdown.child_token();
            self.tasks.spawn_local(self.prober(policy).watch(Subject::Replica(Arc::clone(&replica)), stop.clone()));
            self.replicas.insert(id, Watched { value: replica, with: policy, _watch: stop.drop_guard() });
        }
    }

    /// A new replica, which begins at the median of its group.
    fn join(&mut self, endpoint: Endpoint) -> Arc<Replica> {
        let gate: Arc<Gate> = Arc::clone(&self.lane(&endpoint.model).gate);
        let replica = Replica::new(endpoint, Some(gate));
        let group = self.replicas.values().map(|known| &known.value).filter(|known| known.same_group(&replica));
        let loads: Vec<_> = group.filter(|known| known.ready()).map(|known| known.target.load(Millis::now())).collect();
        replica.target.join(&loads);
        Arc::new(replica)
    }

    fn lane(&mut self, model: &ModelName) -> &Arc<Lane> {
        self.lanes.entry(model.clone()).or_insert_with(|| Arc::new(Lane::new()))
    }

    /// What replicas have shown since the last tick: how much they can do, and whether their answers are bad.
    fn measure(&mut self) {
        self.ticks += 1;
        let rotate = self.ticks.is_multiple_of(FASTEST_TICKS);
        let window = self.ticks.is_multiple_of(outlier::WINDOW.as_secs().div_ceil(TICK.as_secs()));
        let Some(world) = self.gateway.world.load_full() else { return };
        self.replicas.values().for_each(|replica| replica.value.target.measure(rotate));
        if window {
            let served =
                world.models.iter().flat_map(|(name, model)| model.served().map(move |serving| (name, serving)));
            for (name, serving) in served {
                for replica in serving.replicas.iter().filter(|replica| replica.target.failing()) {
                    if eject(&serving.replicas, &replica.target) {
                        let Gateway { metrics, region, .. } = &*self.gateway;
                        serving.count(metrics, name, region, |series| &series.ejections);
                    }
                }
            }
        }
    }

    fn sync_peers(&mut self) {
        let Some(snapshot) = self.snapshot().cloned() else { return };
        let mut wanted = HashSet::new();
        for members in &snapshot.regions {
            let link = self.links.get(&members.name).filter(|_| members.name != self.gateway.region);
            let addresses = link.map_or(members.gateways.as_slice(), std::slice::from_ref);
            let others = addresses.iter().filter(|address| **address != self.gateway.address);
            wanted.extend(others.map(|address| (members.name.clone(), address.clone())));
        }
        self.peers.retain(|key, _| wanted.contains(key));
        for key in wanted {
            let with = (probe_policy(&snapshot, &key.0), snapshot.mesh_token.clone());
            let known = self.peers.get(&key);
            if known.is_some_and(|known| known.with == with) {
                continue;
            }
            let peer = match known {
                Some(known) => Arc::clone(&known.value),
                None => Arc::new(Peer::new(key.0.clone(), key.1.clone())),
            };
            let stop = self.shutdown.child_token();
            let subject = Subject::Peer { peer: Arc::clone(&peer), mesh_token: with.1.clone() };
            self.tasks.spawn_local(self.prober(with.0).watch(subject, stop.clone()));
            self.peers.insert(key, Watched { value: peer, with, _watch: stop.drop_guard() });
        }
    }

    fn prober(&self, policy: HealthPolicy) -> Prober {
        Prober {
            gateway: Arc::clone(&self.gateway),
            links: Rc::clone(&self.connections),
            news: Arc::clone(&self.news),
            policy,
        }
    }

    fn compose(&mut self) {
        let Some(snapshot) = self.snapshot().cloned() else { return };
        let routed: HashSet<&ModelName> = snapshot.routes.iter().map(|route| &route.model).collect();
        let running: HashSet<&ModelName> = self.replicas.values().map(|known| &known.value.endpoint.model).collect();
        self.lanes.retain(|model, _| routed.contains(model) || running.contains(model));
        snapshot.routes.iter().for_each(|route| drop(Arc::clone(self.lane(&route.model))));
        let previous = self.gateway.world.load();
        let peers = self.peers.iter().map(|(key, peer)| (key.clone(), Arc::clone(&peer.value))).collect();
        let mut replicas: Vec<_> = self.replicas.values().map(|replica| Arc::clone(&replica.value)).collect();
        replicas.sort_by(|a, b| a.endpoint.id.cmp(&b.endpoint.id));
        let resting: Vec<_> = self.endpoints.values().flat_map(|set| set.resting.iter().cloned()).collect();
        let world = World::compose(Parts {
            own: &self.gateway.region,
            snapshot,
            peers: &peers,
            replicas,
            resting,
            replicas_known: self.knows_all_replicas(),
            drilled: self.drill.runs(Instant::now()),
            tables: &self.tables,
            previous_order: previous.as_ref().map_or(&[], |world| world.order.as_slice()),
            lanes: &self.lanes,
        });
        world.look(previous.as_deref().unwrap_or(&world));
        self.gateway.world.store(Some(Arc::new(world)));
        self.gateway.composed.send_replace(());
    }

    /// Health, capacity or round trips may have changed.
    fn review(&mut self) {
        let Some(world) = self.gateway.world.load_full() else { return };
        world.look(&world);
        if world.order_now() != world.order {
            self.compose();
        }
        self.learn();
        self.gateway.metrics.trim(&world);
        let refused = self.gateway.acknowledged.borrow().snapshot_refused.clone();
        self.acknowledge(refused);
    }

    /// Asks a peer for what it knows and this gateway does not, if control does not tell.
    fn learn(&mut self) {
        let Some(snapshot) = self.held.as_ref().map(|held| Arc::clone(&held.snapshot)) else { return };
        let urgent = self.gateway.questions.is_any_open();
        let peers = self.peers.values().map(|known| &known.value);
        let Some(peer) = self.learning.whom_to_ask(peers, snapshot.revision, urgent).cloned() else { return };
        let prober = self.prober(probe_policy(&snapshot, &peer.region));
        let asked = self.learning.ask(prober, peer, snapshot.mesh_token.clone(), self.tell.clone());
        self.tasks.spawn_local(asked);
    }

    /// Says what is prepared and what is served.
    fn acknowledge(&self, snapshot_refused: Option<String>) {
        let world = self.gateway.world.load_full();
        let mut next = self.gateway.acknowledged.borrow().clone();
        next.snapshot_refused = snapshot_refused;
        next.config = self.held.as_ref().map(Edition::version);
        if let Some(world) = &world
            && next.observe(world)
        {
            // A prepared route waits for somebody to be ready; do not wait for the next round of probes.
            self.peers.values().for_each(|peer| peer.value.target.want_probe());
        }
        self.gateway.acknowledged.send_if_modified(|current: &mut Acknowledged| {
            let changed = *current != next;
            *current = next;
            changed
        });
    }
}

/// How a region is probed: as the most watchful of the models that are routed there asks for.
fn probe_policy(snapshot: &GatewaySnapshot, region: &RegionName) -> HealthPolicy {
    let served = snapshot.routes.iter().filter_map(|route| route.committed.as_ref()).flat_map(RouteState::served);
    let policies = served.filter(|state| state.regions.contains(region)).map(|state| state.health_of(region));
    policies.min_by_key(|policy| (policy.interval, policy.unhealthy_after)).unwrap_or(snapshot.health)
}
