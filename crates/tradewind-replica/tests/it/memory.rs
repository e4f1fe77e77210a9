//! What a replica keeps in memory: nothing of models that are unloaded, and no more from hour to hour.

use reqwest::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    replica::{Replica, answer},
    several,
};

/// Of this process, in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() >> 10
}

#[tokio::test]
async fn an_unloaded_model_gives_its_memory_back() {
    let replica = several::start(&["large"]).await.ready().await;
    let request = r#"{"inputs":[{"name":"x","datatype":"INT64","shape":[2],"data":[0,16777215]}]}"#;
    let mut empty = Vec::new();
    for _ in 0..20 {
        assert_eq!(replica.infer("large", request).await.json()["outputs"][0]["data"], json!([1.0, 1.0]));
        let loaded = resident();
        assert_eq!(replica.ask("unload", "large").await, StatusCode::OK);
        empty.push(resident());
        let given_back = loaded.saturating_sub(resident());
        assert!(given_back >= 56, "of its 64 MiB it gave {given_back} back");
        assert_eq!(replica.ask("load", "large").await, StatusCode::OK);
    }
    let grown = empty[19].saturating_sub(empty[2]);
    assert!(grown < 16, "it grows: {empty:?}");
    replica.stop().await;
}

/// Requests of any size, several at once, some of them refused.
#[tokio::test]
async fn requests_of_all_sizes_leave_nothing_behind() {
    const CLIENTS: usize = 8;
    const ROWS: usize = 2000;
    let replica = Replica::start("add").await;
    let rounds = if std::env::var_os("TRADEWIND_TEST_LONG").is_some() { 400 } else { 20 };
    let mut after = Vec::new();
    for round in 0..rounds {
        let mut asking = JoinSet::new();
        for client in 0..CLIENTS {
            let (http, url) = (replica.client.clone(), replica.url("/v2/models/add/infer"));
            asking.spawn(async move {
                for request in 0..10 {
                    // Sizes of all kinds, spread evenly and always the same ones.
                    let rows = 1 + (round * 7919 + client * 613 + request * 197) % ROWS;
                    let says = if request == 9 { rows + 1 } else { rows };
                    let tensor =
                        |name| json!({"name": name, "datatype": "FP32", "shape": [says, 3], "data": vec![1; rows * 3]});
                    let body = json!({"inputs": [tensor("a"), tensor("b")]}).to_string();
                    let expected = if request == 9 { StatusCode::BAD_REQUEST } else { StatusCode::OK };
                    assert_eq!(answer(http.post(&url).body(body)).await.status, expected);
                }
            });
        }
        while let Some(asked) = asking.join_next().await {
            asked.unwrap();
        }
        after.push(resident());
    }
    let (settled, end) = (after[rounds / 2], after[rounds - 1]);
    assert!(end < settled + 16, "it grows: {after:?}");
    replica.stop().await;
}
