//! Three hosts, each a network namespace with its own data: control on one, a region on each of the others, roles
//! started one by one. What users feel when a cable is pulled, and when a machine loses its processes.

use std::{fs, net::IpAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use tradewind_api::status::{DeploymentProgress, VerificationProgress};
use tradewind_core::RegionName;
use tradewind_testkit::{Answer, Host, Load, Network, Part, Report, Roles, eventually_ok};

const US: &str = "us-east1";
const EUROPE: &str = "europe-west1";
const PATH: &str = "/v2/models/digits/infer";
const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits");
/// Ten times what a world needs to notice and to mend what happened to it.
const DEADLINE: Duration = Duration::from_secs(60);
/// Users of each region, and their pause between requests.
const USERS: usize = 2;
const PAUSE: Duration = Duration::from_millis(10);
/// So many answers prove a point.
const MANY: usize = 100;

/// The network goes last, with whatever is left on it.
struct World {
    roles: Roles,
    control: Host,
    us: Host,
    europe: Host,
    network: Network,
}

impl World {
    /// Two regions, with the first version of a model routed in both.
    async fn start() -> Result<Self> {
        let mut network = Network::new()?;
        let (control, us, europe) = (network.host("control")?, network.host("us")?, network.host("europe")?);
        let mut roles = Roles::new(env!("CARGO_BIN_EXE_tradewind"), &control, &[(US, &us), (EUROPE, &europe)])?;
        roles.start_all().await?;
        roles.cli_ok(["deploy", "--regions", &format!("{US},{EUROPE}"), &format!("{DIGITS}/v1")]).await?;
        Ok(Self { roles, control, us, europe, network })
    }

    /// Users of a region, on the host of its gateway.
    async fn users(&self, region: &str, host: &Host) -> Result<Load> {
        let body = fs::read_to_string(format!("{DIGITS}/request.json"))?;
        let gateways: Vec<(RegionName, String)> = vec![(region.parse()?, self.roles.gateway(region)?)];
        host.run(async move { Load::start(&gateways, USERS, PAUSE, PATH, &body) }).await?
    }

    /// Waits until control sees a region so.
    async fn seen(&self, region: &str, healthy: bool) -> Result<()> {
        let region: RegionName = region.parse()?;
        eventually_ok(&format!("{region} is seen as healthy = {healthy}"), DEADLINE, || async {
            let status = self.roles.status("digits").await?;
            let health = status.health.get(&region).context("no health of that region")?;
            ensure!(health.healthy == healthy, "{health:?}");
            Ok(())
        })
        .await
    }
}

/// Waits until so many users in a row, asked from now on, were answered by a region with a revision.
async fn answered_by(load: &Load, region: &str, revision: &str) -> Result<()> {
    let is_right =
        |answer: &Answer| answer.region.as_deref() == Some(region) && answer.revision.as_deref() == Some(revision);
    let what = format!("users are answered by {region} with revision {revision}");
    load.settles(&what, DEADLINE, MANY, is_right).await
}

fn assert_none_failed(report: &Report) {
    assert!(report.failures().is_empty(), "{:?}", report.failures().first());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_is_cut_off_serves_its_users_and_catches_up_by_itself() -> Result<()> {
    let world = World::start().await?;
    let (americans, europeans) = (world.users(US, &world.us).await?, world.users(EUROPE, &world.europe).await?);
    answered_by(&americans, US, "1").await?;
    answered_by(&europeans, EUROPE, "1").await?;

    world.network.cut(&world.europe)?;
    world.seen(EUROPE, false).await?;
    answered_by(&americans, US, "1").await?;
    answered_by(&europeans, EUROPE, "1").await?;

    // The switch waits for the lease of the gateway that is cut off, and then no longer.
    world.roles.cli_ok(["models", "push", &format!("{DIGITS}/v2")]).await?;
    world.roles.cli_ok(["deploy", "--min-regions", "1", "digits:2"]).await?;
    let status = world.roles.status("digits").await?;
    let (us, europe): (RegionName, RegionName) = (US.parse()?, EUROPE.parse()?);
    assert_eq!(status.deployment_status[&us], DeploymentProgress::Success);
    assert_eq!(status.deployment_status[&europe], DeploymentProgress::Deferred);
    assert_eq!(status.verification_status[&europe], VerificationProgress::Pending);
    let switched_at = status.epoch.context("the revision is routed")?;
    answered_by(&americans, US, "2").await?;
    answered_by(&europeans, EUROPE, "1").await?;

    world.network.mend(&world.europe)?;
    answered_by(&europeans, EUROPE, "2").await?;
    world.seen(EUROPE, true).await?;
    let status = world.roles.status("digits").await?;
    assert_eq!(status.deployment_status[&europe], DeploymentProgress::Success);
    assert_eq!(status.verification_status[&europe], VerificationProgress::Success);
    let caught_up_at = status.epoch.context("the revision is routed")?;
    assert!(caught_up_at > switched_at, "the region joined the route at an epoch of its own");
    assert_verified_before_it_took_traffic(&world.roles).await?;

    let (americans, europeans) = (americans.stop().await, europeans.stop().await);
    assert_none_failed(&americans);
    assert_none_failed(&europeans);
    assert_eq!(americans.tally().by_region.into_keys().collect::<Vec<_>>(), [US]);
    for answer in &europeans.answers {
        let by_newest_in_europe = answer.region.as_deref() == Some(EUROPE) && answer.revision.as_deref() == Some("2");
        let epoch = answer.epoch.context("every answer tells its epoch")?;
        assert!(!by_newest_in_europe || epoch >= caught_up_at.0, "served before it was routed: {answer:?}");
    }
    Ok(())
}

async fn assert_verified_before_it_took_traffic(roles: &Roles) -> Result<()> {
    let events = roles.cli_ok(["events", "-o", "json", "--limit", "1000"]).await?.json()?;
    let events = events["events"].as_array().context("a list of events")?;
    let position = |kind: &str, message: &str| {
        events.iter().position(|event| {
            let is = |key: &str, value: &str| event[key].as_str() == Some(value);
            is("kind", kind) && is("region", EUROPE) && event["message"].as_str().is_some_and(|m| m.contains(message))
        })
    };
    let deferred = position("region_deferred", "revision 2").context("it was deferred")?;
    let verified = position("rollout_region", "revision 2 is verified").context("it was verified")?;
    let caught_up = position("region_caught_up", "revision 2").context("it caught up")?;
    assert!(deferred < verified && verified < caught_up, "{deferred} {verified} {caught_up}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_a_host_that_lost_its_replicas_are_served_across_hosts() -> Result<()> {
    let mut world = World::start().await?;
    let (americans, europeans) = (world.users(US, &world.us).await?, world.users(EUROPE, &world.europe).await?);
    answered_by(&europeans, EUROPE, "1").await?;

    world.roles.kill_agent_and_replicas(EUROPE).await?;
    answered_by(&europeans, US, "1").await?;
    world.seen(EUROPE, false).await?;

    world.roles.start(&Part::agent(EUROPE)).await?;
    answered_by(&europeans, EUROPE, "1").await?;
    world.seen(EUROPE, true).await?;

    let (americans, europeans) = (americans.stop().await, europeans.stop().await);
    assert_none_failed(&americans);
    assert_none_failed(&europeans);
    assert_eq!(americans.tally().by_region.into_keys().collect::<Vec<_>>(), [US]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_opens_only_what_was_asked_for() -> Result<()> {
    let world = World::start().await?;

    for (host, region) in [(&world.us, US), (&world.europe, EUROPE)] {
        let replicas = world.roles.replicas(region);
        assert_eq!(replicas.len(), 1);
        let mut wanted = vec![world.roles.address(&Part::agent(region))?, world.roles.address(&Part::gateway(region))?];
        wanted.push(replica_address(&world.roles, region).await?);
        assert_eq!(sorted(host.listening()?), sorted(parse(&wanted)?), "{region}");
    }
    assert_eq!(world.control.listening()?, parse(&[world.roles.address(&Part::Control)?])?);

    // From the other region's host, as somebody without a token.
    let agent = format!("http://{}", world.roles.address(&Part::agent(EUROPE))?);
    let gateway = world.roles.gateway(EUROPE)?;
    let control = format!("http://{}", world.roles.address(&Part::Control)?);
    for url in [
        format!("{agent}/v1/endpoints"),
        format!("{agent}/v1/logs?model=digits"),
        format!("{gateway}/v1/peer"),
        format!("{control}/v1/status"),
    ] {
        let asked = url.clone();
        let status = world.us.run(async move {
            let http = tradewind_api::client::http_client().build()?;
            anyhow::Ok(http.get(asked).send().await?.status())
        });
        assert_eq!(status.await??.as_u16(), 401, "{url}");
    }
    Ok(())
}

/// As its agent tells control.
async fn replica_address(roles: &Roles, region: &str) -> Result<String> {
    let regions = roles.cli_ok(["regions", "list", "-o", "json"]).await?.json()?;
    let regions = regions["regions"].as_array().context("a list of regions")?;
    let found = regions.iter().find(|candidate| candidate["name"].as_str() == Some(region));
    let address = &found.context("the region is listed")?["replicas"][0]["address"];
    Ok(address.as_str().context("its replica has an address")?.to_owned())
}

fn parse(addresses: &[String]) -> Result<Vec<(IpAddr, u16)>> {
    addresses
        .iter()
        .map(|text| text.parse::<std::net::SocketAddr>().map(|at| (at.ip(), at.port())))
        .collect::<Result<_, _>>()
        .map_err(Into::into)
}

fn sorted(mut addresses: Vec<(IpAddr, u16)>) -> Vec<(IpAddr, u16)> {
    addresses.sort_unstable();
    addresses
}
