//! The binary tensor extension of REST.

use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::replica::{DEADLINE, Replica};

const HEADER: &str = "Inference-Header-Content-Length";

/// An answer in its two parts.
struct Answer {
    status: StatusCode,
    json: Value,
    tail: Vec<u8>,
    content_type: String,
}

impl Answer {
    fn error(&self) -> &str {
        self.json["error"].as_str().unwrap_or_else(|| panic!("no error: {}", self.json))
    }
}

async fn post(replica: &Replica, model: &str, header: Option<&str>, body: impl Into<reqwest::Body>) -> Answer {
    let mut request = replica.client.post(replica.url(&format!("/v2/models/{model}/infer"))).timeout(DEADLINE);
    if let Some(header) = header {
        request = request.header(HEADER, header);
    }
    let response = request.body(body).send().await.expect("the replica answers");
    let status = response.status();
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    let split = response.headers().get(HEADER).map(|length| length.to_str().unwrap().parse::<usize>().unwrap());
    let body = response.bytes().await.unwrap();
    let (json, tail) = body.split_at(split.unwrap_or(body.len()));
    Answer { status, json: serde_json::from_slice(json).unwrap(), tail: tail.to_vec(), content_type }
}

/// JSON and tensors as one body, sent with the length of the JSON.
async fn send(replica: &Replica, model: &str, json: &Value, tensors: &[&[u8]]) -> Answer {
    let json = json.to_string();
    let body = [json.as_bytes(), &tensors.concat()].concat();
    post(replica, model, Some(&json.len().to_string()), body).await
}

fn input(name: &str, datatype: &str, shape: &[i64], bytes: usize) -> Value {
    json!({"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": bytes}})
}

fn fp32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn strings(values: &[&str]) -> Vec<u8> {
    values.iter().flat_map(|value| [&(value.len() as u32).to_le_bytes(), value.as_bytes()].concat()).collect()
}

#[tokio::test]
async fn every_datatype_comes_back_as_it_was_sent() {
    for (datatype, count, data) in [
        ("BOOL", 3, vec![1, 0, 1]),
        ("UINT8", 2, vec![0, 255]),
        ("INT8", 2, vec![128, 127]),
        ("UINT16", 2, vec![0, 0, 255, 255]),
        ("INT16", 2, vec![0, 128, 255, 127]),
        ("FP16", 2, vec![0, 0x3c, 0, 0x7e]),
        ("BF16", 2, vec![0x80, 0x3f, 0xc0, 0x7f]),
        ("UINT32", 1, vec![255; 4]),
        ("INT32", 1, vec![0, 0, 0, 128]),
        ("FP32", 2, fp32(&[0.1, f32::NAN])),
        ("UINT64", 1, vec![255; 8]),
        ("INT64", 1, vec![0, 0, 0, 0, 0, 0, 0, 128]),
        ("FP64", 1, f64::NEG_INFINITY.to_le_bytes().to_vec()),
        ("BYTES", 3, strings(&["", "a\nb", "é😀"])),
        ("FP32", 0, vec![]),
    ] {
        let model = format!("identity_{}", datatype.to_lowercase());
        let replica = Replica::start(&model).await;
        // Whatever lies before it, aligned or not.
        for padding in 0..8 {
            let request = json!({
                "inputs": [input("x", datatype, &[count], data.len())],
                "parameters": {"binary_data_output": true, "padding": "p".repeat(padding)},
            });
            let answer = send(&replica, &model, &request, &[&data]).await;
            assert_eq!(answer.status, StatusCode::OK, "{datatype}: {}", answer.json);
            let output = json!({
                "name": "y", "datatype": datatype, "shape": [count], "parameters": {"binary_data_size": data.len()},
            });
            assert_eq!(answer.json["outputs"], json!([output]));
            assert_eq!(answer.tail, data, "{datatype}");
            assert_eq!(answer.content_type, "application/octet-stream");
        }
        replica.stop().await;
    }
}

#[tokio::test]
async fn json_and_binary_mix_in_both_directions() {
    let replica = Replica::start("add").await;
    let b = fp32(&[1.0, 2.0, 3.0]);
    let mut request = json!({
        "id": "7",
        "inputs": [
            input("b", "FP32", &[1, 3], b.len()),
            {"name": "a", "datatype": "FP32", "shape": [1, 3], "data": [10, 20, 30]},
        ],
        "outputs": [{"name": "difference", "parameters": {"binary_data": true}}, {"name": "sum"}],
    });
    let sum = json!({"name": "sum", "datatype": "FP32", "shape": [1, 3], "data": [11.0, 22.0, 33.0]});
    let answer = send(&replica, "add", &request, &[&b]).await;
    assert_eq!((answer.status, &answer.json["id"]), (StatusCode::OK, &json!("7")), "{}", answer.json);
    assert_eq!(answer.json["outputs"][0]["parameters"], json!({"binary_data_size": 12}));
    assert_eq!(answer.json["outputs"][1], sum);
    assert_eq!(answer.tail, fp32(&[9.0, 18.0, 27.0]));

    // An output's own word counts more than the request's.
    request["parameters"] = json!({"binary_data_output": true});
    request["outputs"] = json!([{"name": "sum", "parameters": {"binary_data": false}}]);
    let answer = send(&replica, "add", &request, &[&b]).await;
    assert_eq!((answer.json["outputs"][0].clone(), answer.tail.len()), (sum, 0));
    assert_eq!(answer.content_type, "application/json");

    // The tensors of the answer follow its JSON in its order.
    request["outputs"] = json!([{"name": "difference"}, {"name": "sum"}]);
    let answer = send(&replica, "add", &request, &[&b]).await;
    assert_eq!(answer.tail, fp32(&[9.0, 18.0, 27.0, 11.0, 22.0, 33.0]));
    replica.stop().await;
}

#[tokio::test]
async fn a_header_of_no_length_makes_the_body_one_raw_tensor() {
    let replica = Replica::start("identity_fp32").await;
    let data = fp32(&[0.5, 2.0, f32::INFINITY]);
    let answer = post(&replica, "identity_fp32", Some("0"), data.clone()).await;
    assert_eq!((answer.status, &answer.json["outputs"][0]["shape"]), (StatusCode::OK, &json!([3])));
    assert_eq!(answer.tail, data);
    let answer = post(&replica, "identity_fp32", Some("0"), vec![0; 5]).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.error(), "input `x` takes [N]: its shape does not follow from 5 raw bytes, send it in JSON");
    replica.stop().await;

    let text = Replica::start("identity_bytes").await;
    let answer = post(&text, "identity_bytes", Some("0"), "427").await;
    assert_eq!((answer.status, answer.tail), (StatusCode::OK, strings(&["427"])));
    text.stop().await;

    let add = Replica::start("add").await;
    let answer = post(&add, "add", Some("0"), vec![0; 12]).await;
    assert_eq!(answer.error(), "a request of one raw tensor is for models of one input, this one has 2");
    add.stop().await;
}

#[tokio::test]
async fn large_tensors_come_back_whole() {
    let replica = Replica::start("identity_fp32").await;
    let values: Vec<f32> = (0..4_000_000_u32).map(|n| n as f32 / 7.0).collect();
    let data = Bytes::from(fp32(&values));
    let request = json!({
        "inputs": [input("x", "FP32", &[values.len() as i64], data.len())],
        "outputs": [{"name": "y", "parameters": {"binary_data": true}}],
    });
    let answer = send(&replica, "identity_fp32", &request, &[&data]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    assert!(answer.tail == data, "every byte comes back");
    replica.stop().await;
}

#[tokio::test]
async fn malformed_binary_requests_are_refused() {
    let replica = Replica::start("add").await;
    let (a, b) = (input("a", "FP32", &[1, 3], 12), input("b", "FP32", &[1, 3], 12));
    let good = json!({"inputs": [a, b]});
    let sized = |size: Value| json!({"inputs": [a, {"name": "b", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": size}}]});
    let bytes = [0; 24];
    for (request, tensors, expected) in [
        (&good, &bytes[..23], "input `b` has 12 bytes by its `binary_data_size`, but only 11 are left of the request"),
        (&good, &[][..], "input `a` has 12 bytes by its `binary_data_size`, but only 0 are left"),
        (&good, &[0; 25], "the request has 1 bytes more than its JSON and its binary tensors"),
        (&sized(json!(11)), &bytes[..23], "input `b`: its raw data has 11 bytes, its shape [1, 3] of FP32 has 12"),
        (&sized(json!(0)), &bytes[..12], "input `b`: its raw data has 0 bytes"),
        (&sized(json!(u64::MAX)), &bytes, "input `b` has 18446744073709551615 bytes by its `binary_data_size`"),
        (&sized(json!(-12)), &bytes, "not a valid inference request: invalid value: integer `-12`"),
        (&sized(json!(12.5)), &bytes, "not a valid inference request: invalid type: floating point"),
        (&sized(json!("12")), &bytes, "not a valid inference request: invalid type: string"),
        (&sized(Value::Null), &bytes[..12], "input `b` has no `data`"),
    ] {
        let answer = send(&replica, "add", request, &[tensors]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.json);
        assert!(answer.error().contains(expected), "`{}` does not say `{expected}`", answer.error());
    }
    let mut both = good.clone();
    both["inputs"][1]["data"] = json!([1, 2, 3]);
    assert_eq!(
        send(&replica, "add", &both, &[&bytes]).await.error(),
        "input `b` has both `data` and `binary_data_size`"
    );
    let unannounced = post(&replica, "add", None, good.to_string()).await;
    let expected = "input `a` has a `binary_data_size`, but the header Inference-Header-Content-Length is missing";
    assert_eq!((unannounced.status, unannounced.error()), (StatusCode::BAD_REQUEST, expected));
    let whole = [good.to_string().as_bytes(), &bytes].concat();
    for (header, expected) in [
        ("-1", "must be a number of bytes"),
        ("+3", "must be a number of bytes"),
        ("1e3", "must be a number of bytes"),
        ("", "must be a number of bytes"),
        ("99999999999999999999999", "must be a number of bytes"),
        ("5, 5", "must be a number of bytes"),
        ("18446744073709551615", "Inference-Header-Content-Length is 18446744073709551615, but the request has"),
        ("10", "not a valid inference request: EOF while parsing"),
        (&whole.len().to_string(), "not a valid inference request: trailing characters"),
    ] {
        let answer = post(&replica, "add", Some(header), whole.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{header}: {}", answer.json);
        assert!(answer.error().contains(expected), "`{}` does not say `{expected}`", answer.error());
    }
    assert_eq!(send(&replica, "add", &good, &[&bytes]).await.status, StatusCode::OK);
    replica.stop().await;
}

#[tokio::test]
async fn malformed_elements_are_refused() {
    for (model, datatype, shape, data, expected) in [
        ("identity_bool", "BOOL", 2, vec![1, 2], "input `x`: element 1: 2 is not a BOOL, which is 0 or 1"),
        ("identity_bytes", "BYTES", 2, strings(&["a"]), "input `x`: element 1: it ends after 0 of its 4 bytes"),
        ("identity_bytes", "BYTES", 1, vec![255; 6], "element 0: it ends after 2 of its 4294967295 bytes"),
        ("identity_bytes", "BYTES", 1, strings(&["a", "b"]), "has 5 bytes after the 1 elements of its shape [1]"),
        ("identity_bytes", "BYTES", 1 << 40, strings(&["a"]), "element 1: it ends after 0 of its 4 bytes"),
        ("identity_bytes", "BYTES", 1, strings(&["a\0b"]), "element 0 has a NUL character"),
        ("identity_bytes", "BYTES", 1, vec![1, 0, 0, 0, 255], "element 0 is not UTF-8"),
        (
            "identity_fp16",
            "FP16",
            1 << 40,
            vec![0; 4],
            "has 4 bytes, its shape [1099511627776] of FP16 has 2199023255552",
        ),
    ] {
        let replica = Replica::start(model).await;
        let request = json!({"inputs": [input("x", datatype, &[shape], data.len())]});
        let answer = send(&replica, model, &request, &[&data]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{expected}: {}", answer.json);
        assert!(answer.error().contains(expected), "`{}` does not say `{expected}`", answer.error());
        replica.stop().await;
    }
}
