//! What agents and gateways ask and tell.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
    time::timeout,
};
use tradewind_api::{
    Code,
    agent::LogQuery,
    client,
    deploy::DeployRequest,
    gateway::{GatewayReport, RouteQuery},
    status::AddRegion,
};
use tradewind_core::Slot;

use crate::{
    control::{Control, DEADLINE, model, problem, region},
    members::{agent_report, gateway_report},
};

fn logs_of_digits() -> LogQuery {
    LogQuery { model: model("digits"), revision: None, lines: Some(3), follow: false }
}

#[tokio::test]
async fn an_agent_is_sent_its_regions_state_at_once_and_after_each_change() {
    let control = Control::start().await;
    let agent = control.client("agent/us-east1");
    let mut assignments = agent.watch_assignments().await.unwrap();
    let first = timeout(DEADLINE, assignments.next()).await.unwrap().unwrap();
    assert_eq!((first.region, first.assignments.len()), (region("us-east1"), 0));
    assert_eq!(first.mesh_token, control.token("mesh"));

    agent.report_agent(&agent_report("us-east1", Vec::new())).await.unwrap();
    control.push("digits", &[("model.onnx", "weights")]).await.unwrap();
    let regions = Some(vec![region("us-east1")]);
    control.admin.deploy(&model("digits"), &DeployRequest { regions, ..DeployRequest::default() }).await.unwrap();
    let second = loop {
        let message = timeout(DEADLINE, assignments.next()).await.unwrap().unwrap();
        if !message.assignments.is_empty() {
            break message;
        }
    };
    assert!(second.revision > first.revision && second.incarnation == first.incarnation);
    assert!(second.assignments[0].slots.contains_key(&Slot::Blue));
    control.stop().await;
}

#[tokio::test]
async fn gateways_are_sent_regions_and_members_as_they_come() {
    let control = Control::start().await;
    let gateway = control.client("gateway/us-east1");
    let mut messages = gateway.watch_config().await.unwrap();
    let mut held = None;
    let mut next = async || {
        let message = timeout(DEADLINE, messages.next()).await.unwrap().unwrap();
        let edition = message.onto(held.as_ref()).unwrap();
        held = Some(edition.clone());
        edition.snapshot
    };
    let first = next().await;
    assert_eq!(first.regions.len(), 2);
    assert!(first.regions.iter().all(|region| region.gateways.is_empty() && region.location.is_some()));

    for _ in 0..3 {
        gateway.report_gateway(&gateway_report("us-east1")).await.unwrap();
    }
    let mut moved = agent_report("us-east1", Vec::new());
    let agent = control.client("agent/us-east1");
    agent.report_agent(&moved).await.unwrap();
    moved.address = "127.0.0.1:10".to_owned();
    agent.report_agent(&moved).await.unwrap();
    control.admin.add_region(&AddRegion { name: region("home"), location: None }).await.unwrap();
    let mut last = first.revision;
    loop {
        let snapshot = next().await;
        assert!(snapshot.revision > last);
        last = snapshot.revision;
        let Some(home) = snapshot.regions.iter().find(|members| members.name == region("home")) else { continue };
        assert_eq!(home.location, None);
        let us = snapshot.regions.iter().find(|members| members.name == region("us-east1")).unwrap();
        assert_eq!(us.gateways, ["us-east1:7410"]);
        // The new address took the old one's place.
        assert_eq!(us.agents, ["127.0.0.1:10"]);
        break;
    }
    control.stop().await;
}

#[tokio::test]
async fn members_of_no_region_and_false_reports_are_refused() {
    let control = Control::start().await;
    let stranger = control.client("agent/mars");
    let unknown = problem(stranger.watch_assignments().await);
    assert_eq!((unknown.code, unknown.detail.as_str()), (Code::NotFound, "no region is called `mars`"));
    assert_eq!(problem(stranger.report_agent(&agent_report("mars", Vec::new())).await).code, Code::NotFound);
    assert_eq!(problem(control.client("gateway/mars").watch_config().await).code, Code::NotFound);

    let agent = control.client("agent/us-east1");
    let other = problem(agent.report_agent(&agent_report("europe-west1", Vec::new())).await);
    assert_eq!(other.code, Code::Forbidden);
    let mut report = agent_report("us-east1", Vec::new());
    for address in ["", "nowhere", "a/b:80", ":80", "host:99999"] {
        report.address = address.to_owned();
        assert_eq!(problem(agent.report_agent(&report).await).code, Code::Invalid, "{address}");
    }
    control.stop().await;
}

#[tokio::test]
async fn logs_come_from_the_regions_agent() {
    let control = Control::start().await;
    let unknown = problem(control.admin.logs(&region("us-east1"), &logs_of_digits()).await);
    assert_eq!((unknown.code, unknown.detail.as_str()), (Code::NotFound, "no model is called `digits`"));
    control.push("digits", &[("model.onnx", "weights")]).await.unwrap();
    let none = problem(control.admin.logs(&region("us-east1"), &logs_of_digits()).await);
    assert_eq!((none.code, none.detail.as_str()), (Code::Unreachable, "us-east1 has no agent"));

    // A fake agent that answers one request.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut report = agent_report("us-east1", Vec::new());
    report.address = listener.local_addr().unwrap().to_string();
    control.client("agent/us-east1").report_agent(&report).await.unwrap();
    let served = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let read = connection.read(&mut request).await.unwrap();
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\none\ntwo\n";
        connection.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    });
    let logs = control.admin.logs(&region("us-east1"), &logs_of_digits()).await.unwrap();
    assert_eq!(logs.text().await.unwrap(), "one\ntwo\n");
    let request = served.await.unwrap();
    assert!(request.starts_with("GET /v1/logs?model=digits&lines=3&follow=false HTTP/1.1"), "{request}");
    assert!(request.contains(&control.token("mesh")), "{request}");

    // It is gone now.
    let gone = problem(control.admin.logs(&region("us-east1"), &logs_of_digits()).await);
    assert_eq!((gone.code, gone.detail.as_str()), (Code::Unreachable, "the agent of us-east1 does not answer"));
    control.stop().await;
}

#[tokio::test]
async fn routes_are_explained_by_a_gateway_of_the_users_region() {
    let control = Control::start().await;
    let explain = async |model_name: &str, from: &str| {
        let query = RouteQuery { from: region(from), user: Some("ada".to_owned()) };
        control.admin.explain_route(&model(model_name), &query).await
    };
    control.push("digits", &[("model.onnx", "weights")]).await.unwrap();
    for (name, from, code, detail) in [
        ("digit", "us-east1", Code::NotFound, "no model is called `digit`"),
        ("digits", "us-wst1", Code::NotFound, "no region is called `us-wst1`"),
        ("digits", "us-east1", Code::Unreachable, "us-east1 has no gateway"),
    ] {
        let problem = problem(explain(name, from).await);
        assert_eq!((problem.code, problem.detail.as_str()), (code, detail));
        assert!(problem.hint.is_some(), "{detail}");
    }

    // One that is gone, one that is no gateway, and one that answers, twice.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stranger, knowing) = (gateway_that("200 OK", "hello").await, gateway_that("200 OK", EXPLAINED).await);
    for address in [gone.local_addr().unwrap(), stranger.address, knowing.address] {
        let report = GatewayReport { address: address.to_string(), ..gateway_report("us-east1") };
        control.client("gateway/us-east1").report_gateway(&report).await.unwrap();
    }
    drop(gone);
    let answer = explain("digits", "us-east1").await.unwrap();
    assert_eq!((answer.schema_version, answer.explanation.goes_to), (1, Some(region("europe-west1"))));
    let request = knowing.served.await.unwrap();
    assert!(request.starts_with("GET /v1/explain?model=digits&user=ada&from=us-east1 HTTP/1.1"), "{request}");
    assert!(request.contains(&control.token("mesh")), "{request}");

    // That one is gone now.
    let gone = problem(explain("digits", "us-east1").await);
    assert_eq!((gone.code, gone.detail.as_str()), (Code::Unreachable, "no gateway of us-east1 answers"));

    let unrouted = gateway_that("404 Not Found", r#"{"error": "model `digits` is not routed yet"}"#).await;
    let report = GatewayReport { address: unrouted.address.to_string(), ..gateway_report("europe-west1") };
    control.client("gateway/europe-west1").report_gateway(&report).await.unwrap();
    let unrouted = problem(explain("digits", "europe-west1").await);
    assert_eq!((unrouted.code, unrouted.detail.as_str()), (Code::NotFound, "users are not routed to digits"));
    assert_eq!(unrouted.causes, ["model `digits` is not routed yet"]);
    control.stop().await;
}

const EXPLAINED: &str = r#"{"model": "digits", "gateway": "127.0.0.1:7410", "region": "us-east1", "from": "us-east1", "epoch": 1, "revision": 1,
    "slot": "blue", "goes_to": "europe-west1", "regions": [], "replicas": []}"#;

/// A fake gateway that answers one request, and what it was asked.
#[derive(Debug)]
struct FakeGateway {
    address: SocketAddr,
    served: JoinHandle<String>,
}

async fn gateway_that(status: &'static str, answers: &'static str) -> FakeGateway {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let read = connection.read(&mut request).await.unwrap();
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answers.len());
        connection.write_all(format!("{head}{answers}").as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    });
    FakeGateway { address, served }
}

#[tokio::test]
async fn a_stream_ends_when_the_control_plane_stops() {
    let control = Control::start().await;
    let agent = control.client("agent/us-east1");
    let mut assignments = agent.watch_assignments().await.unwrap();
    timeout(DEADLINE, assignments.next()).await.unwrap().unwrap();
    control.stop().await;
    assert!(timeout(DEADLINE, assignments.next()).await.unwrap().is_err(), "nothing had changed");
    assert!(matches!(agent.watch_assignments().await, Err(client::Error::Unreachable { .. })));
}
