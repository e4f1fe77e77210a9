//! Loading, overload, cancellation, shutdown.

use std::{error::Error as _, os::fd::OwnedFd, process::Stdio, sync::Arc};

use bytes::Bytes;
use reqwest::StatusCode;
use tokio::{io::AsyncWriteExt, net::TcpStream, process::Command, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tradewind_api::{
    compression::Coding,
    grpc::{
        Code, Method,
        message::{ModelInferRequest, ModelInferResponse},
    },
};
use tradewind_replica::{Listen, Models, ReplicaOptions, run};

use crate::grpc::{Client, tensor};
use crate::replica::{Replica, answer, options};

/// Loops inside the model `n` times.
fn spin(n: u64) -> String {
    format!(r#"{{"inputs":[{{"name":"n","datatype":"INT64","shape":[],"data":[{n}]}}]}}"#)
}

fn inherited() -> ReplicaOptions {
    ReplicaOptions { id: "test".to_owned(), models: Models::One(options("add")), listen: Listen::Inherited }
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
async fn more_requests_than_there_are_places_are_told_to_come_back() {
    let replica = Replica::start("spin").await;
    let url = replica.url("/v2/models/spin/infer");
    let blocking = tokio::spawn(answer(replica.client.post(&url).body(spin(FOREVER))));
    replica.in_flight(1).await;
    let request = ModelInferRequest {
        model_name: "spin".to_owned(),
        inputs: vec![tensor("n", "INT64", &[])],
        raw_input_contents: vec![Bytes::copy_from_slice(&3_i64.to_le_bytes())],
        ..Default::default()
    };
    // Many on one connection, so that nobody runs out of files.
    let mut waiting = JoinSet::new();
    for requests in [128, 128, 128, 127] {
        let client = Arc::new(Client::of(&replica).await);
        for _ in 0..requests {
            let (client, request) = (Arc::clone(&client), request.clone());
            waiting.spawn(async move { client.call(Method::ModelInfer, &request).await });
        }
    }
    replica.in_flight(512).await;
    let refused = replica.infer("spin", spin(3)).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        (&refused.headers["retry-after"], refused.error().as_str()),
        (&"1".parse().unwrap(), "512 requests are under way already")
    );
    Client::of(&replica).await.call(Method::ModelInfer, &request).await.failed(Code::Unavailable);
    blocking.abort();
    while let Some(answer) = waiting.join_next().await {
        answer.unwrap().decode::<ModelInferResponse>();
    }
    replica.stop().await;
}

#[tokio::test]
async fn more_bytes_than_there_is_room_for_are_told_to_come_back() {
    let replica = Replica::start("identity_uint8").await;
    let announce = async |bytes: usize| {
        let mut stream = TcpStream::connect(replica.address).await.unwrap();
        let head =
            format!("POST /v2/models/identity_uint8/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    let mut large = Vec::new();
    for _ in 0..8 {
        large.push(announce(64 << 20).await);
    }
    replica.has("tradewind_replica_request_bytes_in_flight", 512 << 20).await;
    let small = r#"{"inputs":[{"name":"x","datatype":"UINT8","shape":[1],"data":[1]}]}"#;
    let refused = replica.infer("identity_uint8", small).await;
    assert_eq!(
        (refused.status, &refused.headers["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
    );
    assert!(refused.error().contains("hold nearly 512 MiB already"), "{}", refused.text);
    // One of them leaves.
    drop(large.pop());
    replica.has("tradewind_replica_request_bytes_in_flight", 448 << 20).await;
    assert_eq!(replica.infer("identity_uint8", small).await.status, StatusCode::OK);
    // What comes compressed counts as what it is then.
    large.push(announce(60 << 20).await);
    replica.has("tradewind_replica_request_bytes_in_flight", 508 << 20).await;
    let spaces = Coding::Gzip.compress(&vec![b' '; 8 << 20]);
    let full = replica.client.post(replica.url("/v2/models/identity_uint8/infer")).body(spaces);
    let full = answer(full.header("content-encoding", "gzip")).await;
    assert_eq!(full.status, StatusCode::SERVICE_UNAVAILABLE, "{}", full.text);
    drop(large);
    replica.in_flight(0).await;
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
        run(inherited(), CancellationToken::new()).await.unwrap();
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
    let error = run(inherited(), CancellationToken::new()).await.unwrap_err();
    let expected = "0 listening sockets were passed down, expected one (LISTEN_FDS=1 and LISTEN_PID of this process)";
    assert_eq!(error.to_string(), expected);
}
