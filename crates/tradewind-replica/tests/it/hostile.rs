//! Requests that no honest client sends: each is refused with a reason, and the replica goes on serving.

use reqwest::StatusCode;

use crate::replica::{Replica, answer};

const MODEL: &str = "add";

fn input(name: &str, datatype: &str, shape: &str, data: &str) -> String {
    format!(r#"{{"name":"{name}","datatype":"{datatype}","shape":{shape},"data":{data}}}"#)
}

fn request(inputs: &[String]) -> String {
    format!(r#"{{"inputs":[{}]}}"#, inputs.join(","))
}

/// A request whose `a` is as given and whose `b` is right.
fn with(shape: &str, data: &str) -> String {
    request(&[input("a", "FP32", shape, data), input("b", "FP32", "[1,3]", "[1,2,3]")])
}

async fn check(replica: &Replica, body: impl Into<reqwest::Body>, expected: &str) {
    let answer = replica.infer(MODEL, body).await;
    let message = answer.error();
    assert!(message.contains(expected), "`{message}` does not say `{expected}`");
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{message}");
    let honest = replica.infer(MODEL, with("[1,3]", "[1,2,3]")).await;
    assert_eq!(honest.status, StatusCode::OK, "after {message}: {}", honest.text);
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let replica = Replica::start(MODEL).await;
    check(&replica, "", "the request has no body").await;
    check(&replica, "hello", "not a valid inference request: expected value at line 1 column 1").await;
    check(&replica, "{}", "missing field `inputs`").await;
    check(&replica, "[]", "not a valid inference request").await;
    check(&replica, "null", "not a valid inference request").await;
    check(&replica, vec![b'"', 0xff, 0xfe, b'"'], "not UTF-8").await;
    let whole = with("[1,3]", "[1,2,3]");
    for length in 1..whole.len() {
        check(&replica, whole[..length].to_owned(), "EOF while parsing").await;
    }
    check(&replica, whole.clone() + "x", "trailing characters").await;
    check(&replica, r#"{"inputs":[],"inputs":[]}"#, "duplicate field `inputs`").await;
    check(&replica, r#"{"inputs":[{"name":"a"}]}"#, "missing field `datatype`").await;
    replica.stop().await;
}

#[tokio::test]
async fn deep_nesting_neither_overflows_the_stack_nor_passes() {
    let replica = Replica::start(MODEL).await;
    let deep = |open: &str, close: &str| open.repeat(1_000_000) + "1" + &close.repeat(1_000_000);
    check(&replica, with("[1,3]", &deep("[", "]")), "`data` must be flat, or nested as its shape [1, 3]").await;
    check(&replica, with(&deep("[", "]"), "[1]"), "invalid type").await;
    check(&replica, deep("{\"inputs\":", "}"), "invalid type").await;
    check(&replica, "[".repeat(1_000_000), "not a valid inference request").await;
    replica.stop().await;
}

#[tokio::test]
async fn inputs_must_be_those_of_the_signature() {
    let replica = Replica::start(MODEL).await;
    let good = |name| input(name, "FP32", "[1,3]", "[1,2,3]");
    check(&replica, request(&[good("a")]), "input `b` is missing").await;
    check(&replica, request(&[good("a"), good("b"), good("c")]), "the model has no input `c`").await;
    check(&replica, request(&[good("a"), good("b"), good("a")]), "input `a` is given twice").await;
    let wrong = |datatype| request(&[input("a", datatype, "[1,3]", "[1,2,3]"), good("b")]);
    check(&replica, wrong("INT64"), "input `a` has datatype INT64, the model takes FP32").await;
    check(&replica, wrong("fp32"), "input `a` has datatype fp32, the model takes FP32").await;
    check(&replica, wrong(&"x".repeat(100_000)), "the model takes FP32").await;
    replica.stop().await;
}

#[tokio::test]
async fn shapes_must_fit_the_signature_and_the_data() {
    let replica = Replica::start(MODEL).await;
    check(&replica, with("[3]", "[1,2,3]"), "input `a` has shape [3], the model takes [N,3]").await;
    check(&replica, with("[1,4]", "[1,2,3,4]"), "input `a` has shape [1, 4], the model takes [N,3]").await;
    check(&replica, with("[-1,3]", "[1,2,3]"), "input `a` has shape [-1, 3], the model takes [N,3]").await;
    check(&replica, with("[-1,-3]", "[1,2,3]"), "the model takes [N,3]").await;
    check(&replica, with("[1.5,3]", "[1,2,3]"), "not a valid inference request").await;
    check(&replica, with("[99999999999999999999,3]", "[1]"), "not a valid inference request").await;
    check(&replica, with("[9223372036854775807,3]", "[1,2,3]"), "too many elements").await;
    check(&replica, with("[1000000000000,3]", "[1,2,3]"), "`data` has 3 elements, its shape").await;
    check(&replica, with("[1,3]", "[1,2]"), "`data` has 2 elements, its shape [1, 3] has 3").await;
    check(&replica, with("[1,3]", "[1,2,3,4]"), "more than the 3 elements").await;
    check(&replica, with(&format!("[{}1]", "1,".repeat(100_000)), "[1]"), "the model takes [N,3]").await;
    replica.stop().await;
}

#[tokio::test]
async fn values_must_be_of_the_datatype() {
    let replica = Replica::start(MODEL).await;
    for (data, expected) in [
        ("[1,\"2\",3]", "input `a`: element 1: \"2\" is not a FP32"),
        ("[1,2,null]", "element 2: null is not a FP32"),
        ("[true,2,3]", "element 0: true is not a FP32"),
        ("[{},2,3]", "element 0: {} is not a FP32"),
        ("[1e39,2,3]", "element 0: 1e39 is not a FP32, it is out of range"),
        ("[NaN,2,3]", "not a valid inference request"),
        ("[Infinity,2,3]", "not a valid inference request"),
        ("{\"0\":1}", "`data` must be an array"),
        ("null", "input `a` has no `data`"),
    ] {
        check(&replica, with("[1,3]", data), expected).await;
    }
    replica.stop().await;
    let bytes = Replica::start("identity_uint8").await;
    for (data, expected) in [
        ("[1,300]", "input `x`: element 1: 300 is not a UINT8, it is out of range"),
        ("[1,-1]", "element 1: -1 is not a UINT8, it is out of range"),
        ("[1.5,1]", "element 0: 1.5 is not a UINT8, it is written with a fraction or an exponent"),
    ] {
        let answer = bytes.infer("identity_uint8", request(&[input("x", "UINT8", "[2]", data)])).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.error().contains(expected), "`{}` does not say `{expected}`", answer.error());
    }
    bytes.stop().await;
}

#[tokio::test]
async fn compressed_and_oversized_requests_are_refused_clearly() {
    let replica = Replica::start(MODEL).await;
    let post = || replica.client.post(replica.url("/v2/models/add/infer"));
    let compressed = answer(post().header("Content-Encoding", "br").body("{}")).await;
    assert_eq!(compressed.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let announced = answer(post().body(vec![b' '; (64 << 20) + 1])).await;
    assert_eq!(announced.status, StatusCode::PAYLOAD_TOO_LARGE);
    replica.stop().await;
}

#[tokio::test]
async fn a_failure_inside_the_model_is_told_and_passes() {
    let replica = Replica::start("reshape").await;
    let body = |shape: &str| request(&[input("x", "FP32", "[4]", "[1,2,3,4]"), input("shape", "INT64", "[2]", shape)]);
    for shape in ["[3,2]", "[-5,2]", "[4611686018427387904,4]", "[9223372036854775807,9223372036854775807]"] {
        let answer = replica.infer("reshape", body(shape)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{shape}: {}", answer.text);
        let message = answer.error();
        assert!(message.starts_with("the model refused the input: operator Reshape"), "{message}");
        assert!(!message.contains("/onnxruntime"), "{message}");
    }
    let mismatched = Replica::start(MODEL).await;
    let inputs = [input("a", "FP32", "[2,3]", "[1,2,3,4,5,6]"), input("b", "FP32", "[3,3]", "[1,2,3,4,5,6,7,8,9]")];
    let answer = mismatched.infer(MODEL, request(&inputs)).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.error().contains("broadcast"), "{}", answer.error());
    mismatched.stop().await;
    assert_eq!(replica.infer("reshape", body("[2,2]")).await.status, StatusCode::OK);
    replica.stop().await;
}
