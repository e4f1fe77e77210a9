//! Values in, values out.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::replica::Replica;

/// Sends `data` through the identity model of `datatype` and expects it back, to the letter.
async fn round_trips(datatype: &str, data: &str, expected: &str) {
    let model = format!("identity_{}", datatype.to_lowercase());
    let replica = Replica::start(&model).await;
    let count = data.split(',').count();
    let inputs = format!(r#"[{{"name":"x","datatype":"{datatype}","shape":[{count}],"data":{data}}}]"#);
    let answer = replica.infer(&model, format!(r#"{{"inputs":{inputs}}}"#)).await;
    let outputs = format!(r#"[{{"name":"y","datatype":"{datatype}","shape":[{count}],"data":{expected}}}]"#);
    let whole = format!(r#"{{"model_name":"{model}","model_version":"3","outputs":{outputs}}}"#);
    assert_eq!((answer.status, answer.text), (StatusCode::OK, whole));
    replica.stop().await;
}

#[tokio::test]
async fn integers_reach_their_bounds() {
    for (datatype, data) in [
        ("UINT8", "[0,255]"),
        ("UINT16", "[0,65535]"),
        ("UINT32", "[0,4294967295]"),
        ("UINT64", "[0,18446744073709551615]"),
        ("INT8", "[-128,127]"),
        ("INT16", "[-32768,32767]"),
        ("INT32", "[-2147483648,2147483647]"),
        ("INT64", "[-9223372036854775808,9223372036854775807]"),
    ] {
        round_trips(datatype, data, data).await;
    }
}

#[tokio::test]
async fn floats_round_trip_exactly() {
    let fp32 = "[0.1,-0.0,3.4028235e38,1e-45,16777216.0,1.0000001]";
    round_trips("FP32", fp32, &fp32.replace("e38", "e+38")).await;
    let fp64 = "[0.1,1.7976931348623157e308,5e-324,0.30000000000000004,9007199254740993]";
    let expected = "[0.1,1.7976931348623157e+308,5e-324,0.30000000000000004,9007199254740992.0]";
    round_trips("FP64", fp64, expected).await;
    round_trips("FP16", "[0.5,65504,-1,0.1]", "[0.5,65504.0,-1.0,0.099975586]").await;
    round_trips("BF16", "[0.5,256,-1]", "[0.5,256.0,-1.0]").await;
}

#[tokio::test]
async fn booleans_and_strings_round_trip() {
    round_trips("BOOL", "[true,false]", "[true,false]").await;
    round_trips("BYTES", r#"["","a\"b\\c\nd"]"#, r#"["","a\"b\\c\nd"]"#).await;
    round_trips("BYTES", r#"["\u00e9","\ud83d\ude00"]"#, "[\"é\",\"😀\"]").await;
}

fn add(extra: Value) -> String {
    let mut request = json!({
        "inputs": [
            {"name": "b", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6], "parameters": {"unknown": 1}},
            {"name": "a", "datatype": "FP32", "shape": [2, 3], "data": [[10, 20, 30], [40, 50, 60]]},
        ],
        "parameters": {"binary_data_output": false, "unknown": {"deep": []}},
    });
    request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    request.to_string()
}

#[tokio::test]
async fn inputs_go_by_name_flat_or_nested_and_the_id_comes_back() {
    let replica = Replica::start("add").await;
    let answer = replica.post("/v2/models/add/versions/3/infer", add(json!({"id": "α-1"}))).await;
    let output = |name, data: [f32; 6]| json!({"name": name, "datatype": "FP32", "shape": [2, 3], "data": data});
    let expected = json!({
        "model_name": "add",
        "model_version": "3",
        "id": "α-1",
        "outputs": [
            output("sum", [11.0, 22.0, 33.0, 44.0, 55.0, 66.0]),
            output("difference", [9.0, 18.0, 27.0, 36.0, 45.0, 54.0]),
        ],
    });
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, expected));
    assert_eq!(answer.headers["content-type"], "application/json");
    replica.stop().await;
}

#[tokio::test]
async fn outputs_are_selected_by_name_in_the_order_asked_for() {
    let replica = Replica::start("add").await;
    for asked in [vec!["difference"], vec!["difference", "sum"], vec![]] {
        let outputs: Vec<_> = asked.iter().map(|name| json!({"name": name})).collect();
        let answer = replica.infer("add", add(json!({"outputs": outputs}))).await.json();
        let names: Vec<_> = answer["outputs"].as_array().unwrap().iter().map(|output| output["name"].clone()).collect();
        let expected = if asked.is_empty() { vec!["sum", "difference"] } else { asked };
        assert_eq!(names, expected);
    }
    for (outputs, message) in [
        (json!([{"name": "product"}]), "the model has no output `product`"),
        (json!([{"name": "sum"}, {"name": "sum"}]), "output `sum` is asked for twice"),
    ] {
        let answer = replica.infer("add", add(json!({"outputs": outputs}))).await;
        assert_eq!((answer.status, answer.error().as_str()), (StatusCode::BAD_REQUEST, message));
    }
    replica.stop().await;
}

#[tokio::test]
async fn scalars_and_empty_batches_are_tensors_too() {
    let scalar = Replica::start("scalar").await;
    let body = json!({"inputs": [{"name": "x", "datatype": "FP64", "shape": [], "data": [2.5]}]}).to_string();
    let output = scalar.infer("scalar", body).await.json()["outputs"][0].clone();
    assert_eq!(output, json!({"name": "y", "datatype": "FP64", "shape": [], "data": [-2.5]}));
    scalar.stop().await;
    let add = Replica::start("add").await;
    let input = |name| json!({"name": name, "datatype": "FP32", "shape": [0, 3], "data": []});
    let answer = add.infer("add", json!({"inputs": [input("a"), input("b")]}).to_string()).await;
    assert_eq!(answer.json()["outputs"][0], json!({"name": "sum", "datatype": "FP32", "shape": [0, 3], "data": []}));
    add.stop().await;
}

#[tokio::test]
async fn external_data_is_part_of_the_model() {
    let replica = Replica::start("external").await;
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}).to_string();
    let answer = replica.infer("external", body).await.json();
    assert_eq!(answer["outputs"][0]["data"], json!([11.0, 22.0, 33.0]));
    replica.stop().await;
}

#[tokio::test]
async fn large_requests_take_the_way_beside_the_reactor() {
    let replica = Replica::start("identity_fp32").await;
    let data: Vec<f32> = (0..200_000_u32).map(|n| n as f32 / 7.0).collect();
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [data.len()], "data": data}]}).to_string();
    let answer = replica.infer("identity_fp32", body).await.json();
    let returned: Vec<f32> = serde_json::from_value(answer["outputs"][0]["data"].clone()).unwrap();
    assert!(returned == data, "every value comes back as it was sent");
    replica.stop().await;
}

#[tokio::test]
async fn values_that_json_cannot_carry_are_an_error_of_the_server() {
    let replica = Replica::start("reciprocal").await;
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 0]}]}).to_string();
    let answer = replica.infer("reciprocal", body).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        answer.error(),
        "output `y` holds a value that JSON cannot carry (NaN or infinity); ask for it as binary data"
    );
    replica.stop().await;
}
