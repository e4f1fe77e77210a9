//! Requests that wait at the same time and run together: each gets its own answer, and nobody pays for others.

use std::{error::Error as _, num::NonZeroUsize};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tradewind_core::batch::{BatchMode, BatchOptions};
use tradewind_replica::ModelOptions;

use crate::replica::{Answer, Replica, answer, models};

/// Longer than any test waits.
const FOREVER: u64 = 1 << 50;
const QUEUED: &str = "tradewind_replica_requests_queued";
const EXECUTIONS: &str = "tradewind_replica_executions_total";
const BATCHES: &str = "tradewind_replica_batches";

fn rows(spin: &[u64], index: &[i64]) -> Value {
    let input =
        |name: &str, data: Value| json!({"name": name, "datatype": "INT64", "shape": [index.len()], "data": data});
    json!({"inputs": [input("spin", json!(spin)), input("index", json!(index))]})
}

fn send(replica: &Replica, model: &str, body: &Value) -> JoinHandle<Answer> {
    let request = replica.client.post(replica.url(&format!("/v2/models/{model}/infer"))).body(body.to_string());
    tokio::spawn(answer(request))
}

/// The data of an output of a good answer.
fn data(answer: &Answer, output: usize) -> Value {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()["outputs"][output]["data"].clone()
}

/// A replica that is busy until what is returned is aborted.
async fn busy(replica: &Replica) -> JoinHandle<Answer> {
    let blocker = send(replica, "rows", &rows(&[FOREVER], &[0]));
    replica.in_flight(1).await;
    replica.has(QUEUED, 0).await;
    blocker
}

/// Sends these one after the other while the replica is busy, and lets them go.
async fn together(replica: &Replica, blocker: JoinHandle<Answer>, bodies: &[Value]) -> Vec<Answer> {
    let mut waiting = Vec::new();
    for body in bodies {
        waiting.push(send(replica, "rows", body));
        replica.has(QUEUED, waiting.len() as u64).await;
    }
    blocker.abort();
    let mut answers = Vec::new();
    for answer in waiting {
        answers.push(answer.await.unwrap());
    }
    answers
}

/// Shows the replica what rows cost, so that it knows that they are cheap: the loop takes far longer than whatever else the
/// machine does meanwhile.
async fn learned(replica: &Replica) {
    for count in [1, 2, 4, 8, 16, 32, 1, 2, 4, 8, 16, 32] {
        let body = rows(&vec![30_000; count], &vec![1; count]);
        data(&replica.infer("rows", body.to_string()).await, 0);
    }
}

#[tokio::test]
async fn what_waits_runs_together_and_everybody_gets_their_own_rows() {
    let replica = Replica::start("rows").await;
    assert_eq!(replica.metric(BATCHES).await, 1);
    learned(&replica).await;
    let blocker = busy(&replica).await;
    let before = replica.metric(EXECUTIONS).await;
    let bodies = [rows(&[7], &[0]), rows(&[5, 6, 7], &[1, 2, 3]), rows(&[9, 1], &[3, 0])];
    let answers = together(&replica, blocker, &bodies).await;
    let values: Vec<Value> = answers.iter().map(|answer| data(answer, 0)).collect();
    assert_eq!(values, [json!([0.5]), json!([1.5, 2.5, 3.5]), json!([3.5, 0.5])]);
    let spun: Vec<Value> = answers.iter().map(|answer| data(answer, 1)).collect();
    assert_eq!(spun, [json!([7]), json!([5, 6, 7]), json!([9, 1])]);
    assert_eq!(
        replica.metric(EXECUTIONS).await - before,
        1,
        "the one that left was broken off, the others ran at once"
    );
    replica.stop().await;
}

#[tokio::test]
async fn what_the_model_refuses_fails_alone() {
    let replica = Replica::start("rows").await;
    learned(&replica).await;
    let blocker = busy(&replica).await;
    let answers = together(&replica, blocker, &[rows(&[1], &[1]), rows(&[1], &[99]), rows(&[1], &[2])]).await;
    assert_eq!((data(&answers[0], 0), data(&answers[2], 0)), (json!([1.5]), json!([2.5])));
    assert_eq!(answers[1].status, StatusCode::BAD_REQUEST, "{}", answers[1].text);
    assert!(answers[1].error().contains("operator Gather"), "{}", answers[1].text);
    replica.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_a_batch_takes_nobody_with_it() {
    let replica = Replica::start("rows").await;
    learned(&replica).await;
    let blocker = busy(&replica).await;
    // It would hold a batch up for ever, but for its client, who leaves before it runs.
    let endless = send(&replica, "rows", &rows(&[FOREVER], &[0]));
    replica.has(QUEUED, 1).await;
    let [leaving, staying] = [rows(&[300_000], &[0]), rows(&[3], &[1])].map(|body| send(&replica, "rows", &body));
    replica.has(QUEUED, 3).await;
    endless.abort();
    replica.in_flight(3).await;
    blocker.abort();
    replica.has(QUEUED, 0).await;
    leaving.abort();
    assert_eq!(data(&staying.await.unwrap(), 0), json!([1.5]));
    replica.stop().await;
}

#[tokio::test]
async fn the_urgent_ones_run_first_and_the_others_in_their_turn() {
    let off = |options: &mut ModelOptions| {
        options.batching = BatchOptions { mode: BatchMode::Off, ..BatchOptions::default() };
    };
    let replica = Replica::start_with("rows", off).await;
    assert_eq!(replica.metric(BATCHES).await, 0);
    let blocker = busy(&replica).await;
    let (order, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    for (nth, priority) in [None, Some(3), Some(1), Some(0), Some(1)].into_iter().enumerate() {
        let mut body = rows(&[30_000], &[1]);
        if let Some(priority) = priority {
            body["parameters"] = json!({"priority": priority});
        }
        let (waiting, order) = (send(&replica, "rows", &body), order.clone());
        tokio::spawn(async move {
            data(&waiting.await.unwrap(), 0);
            order.send(nth).unwrap();
        });
        replica.has(QUEUED, nth as u64 + 1).await;
    }
    drop(order);
    blocker.abort();
    let mut found = Vec::new();
    while let Some(nth) = arrivals.recv().await {
        found.push(nth);
    }
    assert_eq!(found, [2, 4, 0, 3, 1]);
    replica.stop().await;
}

#[tokio::test]
async fn rows_that_heed_each_other_are_found_out_and_run_one_by_one() {
    let x = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]});
    for (mode, batches) in [(BatchMode::Auto, 0), (BatchMode::On, 1), (BatchMode::Off, 0)] {
        let replica = Replica::start_with("centred", |options| options.batching.mode = mode).await;
        assert_eq!(replica.metric(BATCHES).await, batches, "{mode:?}");
        assert_eq!(data(&replica.infer("centred", x.to_string()).await, 0), json!([0.0, 0.0, 0.0]));
        replica.stop().await;
    }
    // Open in both dimensions, of text, or without rows at all.
    for (model, batches) in
        [("add", 1), ("identity_fp16", 1), ("identity_bool", 1), ("identity_bytes", 0), ("scalar", 0)]
    {
        let replica = Replica::start_with(model, |options| options.batching.mode = BatchMode::Auto).await;
        assert_eq!(replica.metric(BATCHES).await, batches, "{model}");
        replica.stop().await;
    }
}

/// The model among its golden cases, in a directory of its own.
fn with_cases(model: &str, cases: &[Value]) -> (tempfile::TempDir, Vec<String>) {
    let bundle = tempfile::tempdir().unwrap();
    std::fs::copy(models().join(format!("{model}.onnx")), bundle.path().join(format!("{model}.onnx"))).unwrap();
    let names = cases.iter().enumerate().map(|(nth, request)| {
        let name = format!("{nth}.json");
        let case = json!({"request": request, "expect": {"outputs": []}});
        std::fs::write(bundle.path().join(&name), case.to_string()).unwrap();
        name
    });
    let names = names.collect();
    (bundle, names)
}

#[tokio::test]
async fn golden_cases_warm_the_model_up_and_show_what_made_up_requests_do_not() {
    // Every made-up index is in the table, and so the model looks well; the golden case knows better.
    let cases = [rows(&[1], &[3]), rows(&[1], &[77])];
    let (bundle, names) = with_cases("rows", &cases);
    let change = |options: &mut ModelOptions| (options.bundle, options.cases) = (bundle.path().into(), names.clone());
    let error = Replica::spawn_with("rows", change).await.ended().await.unwrap_err();
    let cause = error.source().expect("it has a cause").to_string();
    assert!(
        cause.starts_with("the model does not take the golden case 1.json: the model refused the input"),
        "{cause}"
    );

    let (bundle, names) = with_cases("rows", &cases[..1]);
    let change = |options: &mut ModelOptions| (options.bundle, options.cases) = (bundle.path().into(), names.clone());
    let replica = Replica::start_with("rows", change).await;
    assert_eq!(replica.metric(BATCHES).await, 1);
    replica.stop().await;
}

#[tokio::test]
async fn several_instances_run_side_by_side() {
    let replica = Replica::start_with("rows", |options| options.instances = NonZeroUsize::new(2).unwrap()).await;
    let blocker = busy(&replica).await;
    for index in 0..4 {
        let answer = replica.infer("rows", rows(&[1], &[index]).to_string()).await;
        assert_eq!(data(&answer, 0), json!([index as f64 + 0.5]), "the other instance answers");
    }
    blocker.abort();
    replica.in_flight(0).await;
    replica.stop().await;
}

#[tokio::test]
async fn who_would_be_answered_too_late_is_told_at_once() {
    let replica = Replica::start("rows").await;
    for _ in 0..3 {
        // A tenth of a second or so each.
        data(&replica.infer("rows", rows(&[100_000], &[0]).to_string()).await, 0);
    }
    let blocker = busy(&replica).await;
    let waiting: Vec<_> = (0..20).map(|_| send(&replica, "rows", &rows(&[100_000], &[0]))).collect();
    replica.has(QUEUED, 20).await;
    let request = replica.client.post(replica.url("/v2/models/rows/infer")).header("x-request-timeout", "10ms");
    let refused = answer(request.body(rows(&[1], &[0]).to_string())).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.text);
    assert!(refused.error().contains("the answer would come too late"), "{}", refused.text);
    let malformed = replica.client.post(replica.url("/v2/models/rows/infer")).header("x-request-timeout", "soon");
    assert_eq!(answer(malformed.body("{}")).await.status, StatusCode::BAD_REQUEST);
    blocker.abort();
    for answer in waiting {
        data(&answer.await.unwrap(), 0);
    }
    replica.stop().await;
}
