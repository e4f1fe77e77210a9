//! Everything that is compared, side by side before the same upstreams.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;
use tradewind_testkit::eventually_ok;

use super::{
    upstreams::Upstream,
    world::{DIGITS, Kit, Tradewind},
};
use crate::{
    client::{Connection, Question},
    contender::Contender,
    cores::Cores,
    repository,
    server::{Server, fill, free_address},
};

/// The plain upstream's model: answers a kilobyte at once.
pub(super) const PLAIN: &str = "plain";
/// Streams tokens.
pub(super) const TOKENS: &str = "tokens";
/// Answers gRPC calls.
pub(super) const CALLS: &str = "calls";
const ANSWER_BYTES: usize = 1024;
/// A request with a picture of a digit.
const REQUEST: &str = "examples/digits/request.json";
/// Ten times what it takes until a gateway has heard of a route.
pub(super) const ROUTE_LIMIT: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_secs(1);

/// Dropping it ends everything in it.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub cores: &'a Cores,
    tradewind: Tradewind,
    nginx: Server,
    haproxy: Server,
    plain: Option<Server>,
    peers: BTreeMap<Contender, Doors>,
    /// By model.
    upstreams: BTreeMap<String, SocketAddr>,
    /// What is posted, and its right answer.
    pub question: Question,
    _upstreams: Vec<AbortOnDropHandle<()>>,
    _directory: TempDir,
}

/// Where a peer listens.
#[derive(Debug, Clone, Copy)]
struct Doors {
    http: SocketAddr,
    grpc: SocketAddr,
}

impl<'a> Scene<'a> {
    /// Before a real replica with a real model.
    pub(super) async fn of_replica(kit: &Kit, cores: &'a Cores) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (tradewind, replica) = Tradewind::with_replica(kit, cores).await?;
        let upstreams = BTreeMap::from([(DIGITS.to_owned(), replica)]);
        let (path, body) = (format!("/v2/models/{DIGITS}/infer"), Bytes::from(repository::file(REQUEST)?));
        let (status, answer) = Connection::open(replica).await?.post(&path, body.clone()).await?;
        ensure!(status.is_success(), "the replica answers {status}: {}", String::from_utf8_lossy(&answer));
        let question = Question { path, body, answer };
        Self::around(directory, cores, tradewind, upstreams, question).await
    }

    /// Before the benchmark's own upstreams.
    pub(super) async fn of_upstreams(kit: &Kit, cores: &'a Cores) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let answer = plain_answer();
        let address = free_address()?;
        let config = repository::file("bench/gateway/plain.conf")?;
        let plain = [("http", address.to_string()), ("answer", answer.clone())];
        let mut plain =
            Server::configured(&directory.path().join("plain"), "nginx", &fill(config, &plain), &[address])?;
        plain.ready().await?;
        let (tokens, calls) = (Upstream::bind_on(kit).await?, Upstream::bind_on(kit).await?);
        let upstreams: BTreeMap<String, SocketAddr> =
            [(PLAIN, address), (TOKENS, tokens.address), (CALLS, calls.address)]
                .map(|(model, address)| (model.to_owned(), address))
                .into();
        let tasks = [tokens, calls].map(|upstream| AbortOnDropHandle::new(kit.servers.spawn(upstream.run())));
        let tradewind = Tradewind::with_upstreams(kit, cores, upstreams.clone()).await?;
        let (path, body) = (format!("/v2/models/{PLAIN}/infer"), Bytes::from(repository::file(REQUEST)?));
        let question = Question { path, body, answer: answer.into() };
        let mut scene = Self::around(directory, cores, tradewind, upstreams, question).await?;
        (scene.plain, scene._upstreams) = (Some(plain), tasks.into());
        Ok(scene)
    }

    async fn around(
        directory: TempDir,
        cores: &'a Cores,
        tradewind: Tradewind,
        upstreams: BTreeMap<String, SocketAddr>,
        question: Question,
    ) -> Result<Self> {
        // Before a replica there are no other models; the same upstream fills their places.
        let first = *upstreams.values().next().context("a scene has an upstream")?;
        let upstream = |model: &str| upstreams.get(model).copied().unwrap_or(first);
        let plain = upstreams.get(PLAIN).copied().unwrap_or(first);
        let places = [("plain", plain), ("tokens", upstream(TOKENS)), ("calls", upstream(CALLS))];
        let mut peers = BTreeMap::new();
        let mut peer = |contender, program: &str, config: &str| {
            let doors = Doors { http: free_address()?, grpc: free_address()? };
            peers.insert(contender, doors);
            let mut words = places.map(|(word, address)| (word, address.to_string())).to_vec();
            words.extend([("http", doors.http.to_string()), ("grpc", doors.grpc.to_string())]);
            let config = fill(repository::file(config)?, &words);
            let _visit = cores.visit()?;
            Server::configured(&directory.path().join(program), program, &config, &[doors.http, doors.grpc])
        };
        let nginx = peer(Contender::Nginx, "nginx", "bench/gateway/nginx.conf")?;
        let haproxy = peer(Contender::Haproxy, "haproxy", "bench/gateway/haproxy.cfg")?;
        let (plain, tasks) = (None, Vec::new());
        let mut scene = Self {
            cores,
            tradewind,
            nginx,
            haproxy,
            plain,
            peers,
            upstreams,
            question,
            _upstreams: tasks,
            _directory: directory,
        };
        for server in [&mut scene.nginx, &mut scene.haproxy] {
            server.ready().await?;
        }
        for contender in Contender::ALL {
            scene.check(contender).await?;
        }
        Ok(scene)
    }

    /// Which share of the time, in percent, the proxies' core is busy although nobody asks. It is in every figure.
    pub(super) async fn background(&self) -> Result<f64> {
        let before = self.cores.read()?;
        tokio::time::sleep(SILENCE).await;
        Ok(self.cores.read()?.since(before).busy_share() * 100.0)
    }

    /// Where a contender is asked about a model.
    pub(super) fn address(&self, contender: Contender, model: &str) -> Result<SocketAddr> {
        match (contender, self.peers.get(&contender)) {
            (Contender::Tradewind, _) => Ok(self.tradewind.gateway),
            (_, Some(doors)) => Ok(if model == CALLS { doors.grpc } else { doors.http }),
            (_, None) => self.upstreams.get(model).copied().context("no such model here"),
        }
    }

    /// Where a contender is asked the scene's question.
    pub(super) fn door(&self, contender: Contender) -> Result<SocketAddr> {
        self.address(contender, if self.upstreams.contains_key(DIGITS) { DIGITS } else { PLAIN })
    }

    /// Waits until a contender gives the right answer, and makes sure of where it runs.
    async fn check(&self, contender: Contender) -> Result<()> {
        let address = self.door(contender)?;
        let right = || async move { Connection::open(address).await?.ask(&self.question).await };
        eventually_ok(contender.name(), ROUTE_LIMIT, right).await?;
        self.pids(contender)?.into_iter().try_for_each(|pid| self.cores.check(pid))
    }

    /// A new process in a proxy's place.
    pub(super) async fn start_again(&mut self, contender: Contender) -> Result<()> {
        match contender {
            Contender::Tradewind => self.tradewind.start_gateway_again(self.cores).await?,
            Contender::Nginx | Contender::Haproxy => {
                let server = if contender == Contender::Nginx { &mut self.nginx } else { &mut self.haproxy };
                let visit = self.cores.visit()?;
                server.start_again()?;
                drop(visit);
                server.ready().await?;
            }
            Contender::Direct => {}
        }
        self.check(contender).await
    }

    pub(super) fn pids(&self, contender: Contender) -> Result<Vec<u32>> {
        match contender {
            Contender::Tradewind => Ok(self.tradewind.pids()),
            Contender::Nginx => self.nginx.pids(),
            Contender::Haproxy => self.haproxy.pids(),
            Contender::Direct => Ok(Vec::new()),
        }
    }
}

impl Upstream {
    /// On the runtime whose threads will serve it.
    async fn bind_on(kit: &Kit) -> Result<Self> {
        kit.servers.spawn(Self::bind()).await?
    }
}

fn plain_answer() -> String {
    let empty = r#"{"model_name":"plain","outputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":[""]}]}"#;
    empty.replace("\"\"", &format!("\"{}\"", "a".repeat(ANSWER_BYTES - empty.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_answer_is_a_kilobyte_of_json() {
        assert_eq!(plain_answer().len(), ANSWER_BYTES);
        assert!(serde_json::from_str::<serde_json::Value>(&plain_answer()).is_ok());
    }
}
