use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::inference::InferResponse;

fn tensor(name: &str, datatype: Datatype, shape: &[i64], data: Value) -> Tensor {
    let Value::Array(data) = data else { panic!("data is an array") };
    Tensor { name: name.to_owned(), datatype, shape: shape.to_vec(), data }
}

fn case(expected: Tensor) -> GoldenCase {
    GoldenCase {
        request: InferRequest { id: None, inputs: vec![tensor("image", Datatype::Fp32, &[1, 2], json!([0.5, 1]))] },
        expect: Expectation { outputs: vec![expected] },
        tolerance: Tolerance::default(),
    }
}

fn answer(outputs: Vec<Tensor>) -> InferResponse {
    InferResponse { model_name: "m".to_owned(), model_version: None, id: None, outputs }
}

fn digits() -> Signature {
    let spec =
        |name: &str, datatype, shape: &[i64]| TensorSpec { name: name.to_owned(), datatype, shape: shape.to_vec() };
    Signature {
        inputs: vec![spec("image", Datatype::Fp32, &[-1, 2])],
        outputs: vec![spec("label", Datatype::Int64, &[-1]), spec("p", Datatype::Fp32, &[-1, 2])],
    }
}

fn check_compare(expected: Tensor, actual: Tensor, message: Option<&str>) {
    let result = compare(&case(expected), &answer(vec![actual]));
    assert_eq!(result.err().map(|mismatch| mismatch.to_string()).as_deref(), message);
}

#[test]
fn a_difference_is_told_with_what_was_expected_and_what_came() {
    let label = |value: i64| tensor("label", Datatype::Int64, &[1], json!([value]));
    check_compare(label(7), label(7), None);
    check_compare(label(7), label(1), Some("output `label`: expected 7, got 1"));

    let row = |values: Value| tensor("p", Datatype::Fp32, &[1, 3], values);
    check_compare(row(json!([0.1, 0.2, 0.7])), row(json!([[0.1, 0.200001, 0.7]])), None);
    check_compare(
        row(json!([0.1, 0.2, 0.7])),
        row(json!([0.1, 0.7, 0.2])),
        Some("output `p`[0,1]: expected 0.2, got 0.7"),
    );
    check_compare(row(json!([0.1, 0.2, 0.7])), row(json!([0.1, 0.2])), Some("output `p`: expected 3 elements, got 2"));
    check_compare(
        row(json!([1, 1, 1])),
        tensor("p", Datatype::Fp64, &[1, 3], json!([1, 1, 1])),
        Some("output `p`: expected datatype FP32, got FP64"),
    );
    check_compare(
        row(json!([1, 1, 1])),
        tensor("p", Datatype::Fp32, &[3], json!([1, 1, 1])),
        Some("output `p`: expected shape [1,3], got [3]"),
    );
    check_compare(label(7), row(json!([1, 1, 1])), Some("output `label` is missing"));
}

#[test]
fn tolerance_depends_on_the_datatype_and_never_softens_what_is_exact() {
    let one = |datatype, value: Value| tensor("x", datatype, &[1], json!([value]));
    for (datatype, close, far) in [
        (Datatype::Fp64, 1.000_000_5, 1.000_01),
        (Datatype::Fp32, 1.000_05, 1.001),
        (Datatype::Fp16, 1.005, 1.05),
        (Datatype::Bf16, 1.005, 1.05),
    ] {
        let close = compare(&case(one(datatype, json!(1.0))), &answer(vec![one(datatype, json!(close))]));
        assert_eq!(close, Ok(()), "{datatype}");
        assert!(
            compare(&case(one(datatype, json!(1.0))), &answer(vec![one(datatype, json!(far))])).is_err(),
            "{datatype}"
        );
    }
    let generous = Tolerance { rtol: Some(1.0), atol: Some(100.0) };
    for (datatype, expected, actual) in [
        (Datatype::Int64, json!(7), json!(8)),
        (Datatype::Uint64, json!(u64::MAX), json!(u64::MAX - 1)),
        (Datatype::Bool, json!(true), json!(false)),
        (Datatype::Bytes, json!("cat"), json!("dog")),
        (Datatype::Fp32, json!(1.0), json!("NaN")),
        (Datatype::Fp32, json!(1.0), json!(null)),
        (Datatype::Fp32, json!(1.0), json!("Infinity")),
        (Datatype::Fp32, json!("Infinity"), json!(1.0)),
        (Datatype::Fp32, json!("NaN"), json!(1.0)),
    ] {
        let case = GoldenCase { tolerance: generous, ..case(one(datatype, expected)) };
        assert!(compare(&case, &answer(vec![one(datatype, actual)])).is_err(), "{case:?}");
        assert_eq!(compare(&case, &answer(case.expect.outputs.clone())), Ok(()));
    }
}

#[test]
fn the_file_format_refuses_keys_it_does_not_know() {
    let text = json!({
        "request": {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 2], "data": [[0, 1]]}]},
        "expect": {"outputs": [{"name": "label", "datatype": "INT64", "shape": [1], "data": [7]}]},
        "tolerance": {"rtol": 1e-4, "atol": 1e-5},
    });
    let case: GoldenCase = serde_json::from_value(text.clone()).unwrap();
    assert_eq!(case.tolerance, Tolerance { rtol: Some(1e-4), atol: Some(1e-5) });
    assert_eq!(check_against(&case, &digits()), Ok(()));
    for pointer in ["", "/expect", "/tolerance"] {
        let mut altered = text.clone();
        altered.pointer_mut(pointer).unwrap()["tolerence"] = json!(1);
        assert!(serde_json::from_value::<GoldenCase>(altered).is_err(), "an unknown key in {pointer:?} was accepted");
    }
}

#[test]
fn a_case_that_cannot_hold_is_refused() {
    let label = tensor("label", Datatype::Int64, &[1], json!([7]));
    let good = case(label.clone());
    assert_eq!(check_against(&good, &digits()), Ok(()));

    let with_output = |output: Tensor| GoldenCase { expect: Expectation { outputs: vec![output] }, ..good.clone() };
    let with_inputs = |inputs: Vec<Tensor>| GoldenCase { request: InferRequest { id: None, inputs }, ..good.clone() };
    let image = &good.request.inputs[0];
    let cases = [
        (
            with_output(Tensor { name: "lable".to_owned(), ..label.clone() }),
            "the model has no output `lable`, it has `label`, `p`",
        ),
        (
            with_output(tensor("label", Datatype::Fp32, &[1], json!([7]))),
            "output `label`: the model has datatype INT64, the case FP32",
        ),
        (
            with_output(tensor("label", Datatype::Int64, &[1, 1], json!([7]))),
            "output `label`: the model has shape [N], the case [1,1]",
        ),
        (
            with_output(tensor("label", Datatype::Int64, &[2], json!([7]))),
            "output `label`: shape [2] does not hold 1 elements",
        ),
        (
            with_output(tensor("label", Datatype::Int64, &[1], json!([7.5]))),
            "output `label`: 7.5 is not of datatype INT64",
        ),
        (with_inputs(vec![]), "input `image` is missing"),
        (with_inputs(vec![image.clone(), image.clone()]), "input `image` is given twice"),
        (
            with_inputs(vec![Tensor { shape: vec![1, 3], ..image.clone() }]),
            "input `image`: the model has shape [N,2], the case [1,3]",
        ),
        (
            GoldenCase { expect: Expectation { outputs: vec![] }, ..good.clone() },
            "no output is expected: a case without expectation proves nothing",
        ),
        (
            GoldenCase { tolerance: Tolerance { rtol: Some(-1.0), atol: None }, ..good.clone() },
            "rtol must be zero or a positive number",
        ),
    ];
    for (case, message) in cases {
        assert_eq!(check_against(&case, &digits()), Err(message.to_owned()));
    }
}

#[test]
fn a_signature_is_the_same_in_any_order_and_no_other() {
    let declared = digits();
    let mut actual = digits();
    actual.outputs.reverse();
    assert_eq!(signature_matches(&declared, &actual), Ok(()));
    actual.outputs.pop();
    assert_eq!(signature_matches(&declared, &actual), Err("output `label` is missing".to_owned()));
    assert_eq!(signature_matches(&actual, &declared), Err("output `label` was not declared".to_owned()));
    actual = digits();
    actual.inputs[0].shape[1] = 3;
    assert_eq!(
        signature_matches(&declared, &actual),
        Err("input `image`: expected image FP32 [N,2], got image FP32 [N,3]".to_owned())
    );
}

#[test]
fn a_smoke_answer_must_be_whole_and_finite() {
    let label = tensor("label", Datatype::Int64, &[1], json!([7]));
    let p = |data: Value| tensor("p", Datatype::Fp32, &[1, 2], data);
    let check = |outputs| check_smoke(&answer(outputs), &digits()).map_err(|mismatch| mismatch.to_string());
    assert_eq!(check(vec![label.clone(), p(json!([0.5, 0.5]))]), Ok(()));
    assert_eq!(check(vec![label.clone()]), Err("output `p` is missing".to_owned()));
    let message = "output `p`: expected finite FP32 elements, got NaN";
    assert_eq!(check(vec![label.clone(), p(json!([0.5, null]))]), Err(message.to_owned()));
    let short = tensor("p", Datatype::Fp32, &[1, 3], json!([1, 2, 3]));
    assert_eq!(check(vec![label, short]), Err("output `p`: expected shape [N,2], got [1,3]".to_owned()));
}

#[test]
fn a_smoke_request_has_a_limit() {
    let mut signature = digits();
    signature.inputs[0].shape = vec![i64::MAX, 4];
    assert_eq!(smoke_request(&signature, 1), Err(SmokeTooLarge { input: "image".to_owned() }));
}

#[test]
fn deeply_nested_data_is_no_danger() {
    let mut data = json!([1]);
    for _ in 0..100 {
        data = json!([data]);
    }
    check_compare(tensor("x", Datatype::Int8, &[1], data), tensor("x", Datatype::Int8, &[1], json!([1])), None);
}

#[test]
fn the_summary_counts() {
    assert_eq!(summary(20, 20), "20/20 golden cases");
    assert_eq!(summary(0, 1), "0/1 golden case");
}

fn datatypes() -> impl Strategy<Value = Datatype> {
    proptest::sample::select(Datatype::ALL.to_vec())
}

fn specs(most: usize) -> impl Strategy<Value = Vec<TensorSpec>> {
    let shape = proptest::collection::vec(prop_oneof![Just(-1_i64), 0_i64..4], 0..4);
    proptest::collection::vec((datatypes(), shape), 1..most).prop_map(|specs| {
        let named = specs.into_iter().enumerate();
        named.map(|(n, (datatype, shape))| TensorSpec { name: format!("t{n}"), datatype, shape }).collect()
    })
}

proptest! {
    /// What the smoke request sends fits the signature, for every signature and seed, and is the same each time.
    #[test]
    fn a_smoke_request_fits_its_signature(inputs in specs(4), seed: u64) {
        let signature = Signature { outputs: inputs.clone(), inputs };
        let request = smoke_request(&signature, seed).unwrap();
        prop_assert_eq!(&request, &smoke_request(&signature, seed).unwrap());
        let echoed = answer(request.inputs.clone());
        prop_assert_eq!(check_smoke(&echoed, &signature), Ok(()));
        let case = GoldenCase { expect: Expectation { outputs: request.inputs.clone() }, request, tolerance: Tolerance::default() };
        prop_assert_eq!(check_against(&case, &signature), Ok(()));
        prop_assert_eq!(compare(&case, &echoed), Ok(()));
    }

    /// Exactly what lies within the tolerance passes, whichever element it is.
    #[test]
    fn floats_pass_within_the_tolerance_only(
        values in proptest::collection::vec(-1e6_f64..1e6, 1..20),
        at in any::<proptest::sample::Index>(),
        factor in prop_oneof![0.0..0.99_f64, 1.01..5.0_f64],
        rtol in 1e-6..1e-1_f64,
        atol in 1e-6..1.0_f64,
    ) {
        let shape = [values.len() as i64];
        let mut moved = values.clone();
        let at = at.index(values.len());
        moved[at] += factor * (atol + rtol * values[at].abs());
        let case = GoldenCase {
            tolerance: Tolerance { rtol: Some(rtol), atol: Some(atol) },
            ..case(tensor("x", Datatype::Fp64, &shape, json!(values)))
        };
        let result = compare(&case, &answer(vec![tensor("x", Datatype::Fp64, &shape, json!(moved))]));
        prop_assert_eq!(result.is_ok(), factor < 1.0);
        if let Err(mismatch) = result {
            let place = if values.len() == 1 { "`x`:".to_owned() } else { format!("`x`[{at}]:") };
            prop_assert!(mismatch.to_string().contains(&place), "{}", mismatch);
        }
    }

    /// Integers differ as soon as they differ, up to the ends of 64 bits.
    #[test]
    fn integers_are_exact(expected: i64, actual: i64) {
        let one = |value: i64| tensor("x", Datatype::Int64, &[1], json!([value]));
        prop_assert_eq!(compare(&case(one(expected)), &answer(vec![one(actual)])).is_ok(), expected == actual);
    }
}
