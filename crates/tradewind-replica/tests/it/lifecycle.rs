//! Loading, overload, cancellation, shutdown.

use std::{error::Error as _, os::fd::OwnedFd, process::Stdio};

use reqwest::StatusCode;
use tokio::{process::Command, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tradewind_replica::{Listen, run};

use crate::replica::{Replica, answer, options};

/// Loops inside the model `n` times.
fn spin(n: u64) -> String {
    format!(r#"{{"inputs":[{{"name":"n","datatype":"INT64","shape":[],"data":[{n}]}}]}}"#)
}

/// Longer than any test waits.
const FOREVER: u64 = 1 << 50;

#[tokio::test]
async fn a_model_that_does_not_load_ends_the_replica_with_the_reason() {
    let bundle = tempfile::tempdir().unwrap();
    std::fs::write(bundle.path().join("bad.onnx"), b"\x08\x0a\x3a\x03garbage").unwrap();
    let replica = Replica::spawn_in(bundle.path().to_owned(), "bad").await;
    let error = replica.ended().await.unwrap_err();
    assert_eq!(error.to_string(), "could not load bad 3");
    let cause = error.source().expect("it has a cause").to_string();
    assert!(cause.starts_with("bad.onnx is not an ONNX model"), "{cause}");
}

#[tokio::test]
async fn a_missing_model_ends_the_replica_with_the_reason() {
    let bundle = tempfile::tempdir().unwrap();
    let error = Replica::spawn_in(bundle.path().to_owned(), "none").await.ended().await.unwrap_err();
    assert!(error.source().expect("it has a cause").to_string().starts_with("could not read "), "{error:?}");
}

#[tokio::test]
async fn more_requests_than_the_queue_holds_are_told_to_come_back() {
    let replica = Replica::start("spin").await;
    let mut requests = JoinSet::new();
    for _ in 0..200 {
        let request = replica.client.post(replica.url("/v2/models/spin/infer")).body(spin(20_000));
        requests.spawn(answer(request));
    }
    let (mut served, mut refused) = (0, 0);
    while let Some(answer) = requests.join_next().await {
        let answer = answer.unwrap();
        match answer.status {
            StatusCode::OK => served += 1,
            StatusCode::SERVICE_UNAVAILABLE => {
                assert_eq!(answer.headers["retry-after"], "1");
                assert_eq!(answer.error(), "128 requests wait for the model already");
                refused += 1;
            }
            other => panic!("{other}: {}", answer.text),
        }
    }
    assert!(served >= 128 && refused > 0, "{served} served, {refused} refused");
    replica.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_model() {
    let replica = Replica::start("spin").await;
    let request = replica.client.post(replica.url("/v2/models/spin/infer")).body(spin(FOREVER));
    let abandoned = tokio::spawn(answer(request));
    replica.in_flight(1).await;
    assert_eq!(replica.get("/v2/health/live").await.status, StatusCode::OK, "health answers while the model is busy");
    abandoned.abort();
    replica.in_flight(0).await;
    assert_eq!(replica.infer("spin", spin(3)).await.json()["outputs"][0]["data"], serde_json::json!([3]));
    replica.stop().await;
}

#[tokio::test]
async fn a_shutdown_answers_what_was_accepted() {
    let replica = Replica::start("spin").await;
    let request = replica.client.post(replica.url("/v2/models/spin/infer")).body(spin(100_000));
    let accepted = tokio::spawn(answer(request));
    replica.in_flight(1).await;
    let address = replica.address;
    replica.stop().await;
    let answer = accepted.await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the port is closed");
}

/// Marks the child of the test below.
const CHILD: &str = "TRADEWIND_TEST_CHILD";

/// Runs this very test again as a child, whose descriptor 3 is a socket that this process bound.
#[tokio::test]
async fn it_takes_over_a_socket_that_its_parent_bound() {
    if std::env::var_os(CHILD).is_some() {
        run(options("add", Listen::Inherited), CancellationToken::new()).await.unwrap();
        return;
    }
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v2/health/live", socket.local_addr().unwrap());
    // The shell does what the agent does between fork and exec.
    let _child = Command::new("sh")
        .args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" --exact \"$1\" 3<&0 0</dev/null"])
        .arg(std::env::current_exe().unwrap())
        .arg("lifecycle::it_takes_over_a_socket_that_its_parent_bound")
        .env(CHILD, "1")
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let live = answer(crate::replica::client().get(url)).await;
    assert_eq!((live.status, live.text.as_str()), (StatusCode::OK, "{\"live\":true}"));
}

#[tokio::test]
async fn without_a_passed_socket_it_says_so() {
    let error = run(options("add", Listen::Inherited), CancellationToken::new()).await.unwrap_err();
    let expected = "0 listening sockets were passed down, expected one (LISTEN_FDS=1 and LISTEN_PID of this process)";
    assert_eq!(error.to_string(), expected);
}
