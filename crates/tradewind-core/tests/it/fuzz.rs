//! Whatever text or file comes: it is refused, or it is read as what it is written as.

use std::{fmt::Debug, fs, path::PathBuf, str::FromStr};

use tradewind_core::{
    Digest, ModelName, RegionName,
    bundle::{Runtime, Signature},
    duration::Span,
    inference::{Datatype, InferResponse},
    names::NAME_LIMIT,
    pins::table::{KeyHash, Table},
    simulate::faults,
    stored::{self, StoredForm},
    trace::{self, TraceParent},
    verify::{self, Case},
};
use tradewind_fuzz::fuzz;

fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

/// What is read prints as something that is read as the same.
fn prints_as_it_reads<T: FromStr + ToString + PartialEq + Debug>(seeds: &[&str], check: fn(&str, &T)) {
    fuzz(seeds, |input| {
        if let Some(text) = text(input)
            && let Ok(read) = text.parse::<T>()
        {
            assert_eq!(read.to_string().parse::<T>().ok().as_ref(), Some(&read));
            check(text, &read);
        }
    });
}

#[test]
fn names_numbers_and_spans() {
    fn plain(text: &str, printed: &str) {
        assert!(text == printed && text.len() <= NAME_LIMIT && !text.contains(['/', '\\', '%', '\n']), "{text:?}");
    }
    prints_as_it_reads::<ModelName>(&["digits", "resnet-50_v1.5"], |text, name| plain(text, name.as_str()));
    prints_as_it_reads::<RegionName>(&["us-east1", "a"], |text, name| plain(text, name.as_str()));
    let digests = ["blake3:a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7"];
    prints_as_it_reads::<Digest>(&digests, |text, digest| {
        assert!(digest.to_string().ends_with(text) || text.len() == 71)
    });
    prints_as_it_reads::<Span>(&["500ms", "1m30s", "7d", "18446744073709551615ms"], |_, _| ());
    prints_as_it_reads::<Datatype>(&["FP32", "BYTES"], |_, _| ());
}

#[test]
fn traces() {
    let seeds = [
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more",
    ];
    fuzz(&seeds, |input| {
        if let Some(parent) = TraceParent::parse(input) {
            let written = parent.to_string();
            assert_eq!(TraceParent::parse(written.as_bytes()), Some(parent));
            assert_eq!(written.as_bytes()[3..52], input[3..52], "what is passed on is the same to all");
        }
    });
    fuzz(&["a=1,b@c=2, ,d*/-_=~!", "tenant@system=value"], |input| {
        if trace::state_is_sound(input) {
            assert!(text(input).is_some_and(|text| text.chars().all(|c| c == '\t' || !c.is_control())));
            assert!(input.len() <= trace::STATE_LIMIT);
            let doubled = [input, input].join(&b',');
            let empty = input.iter().all(|byte| b", \t".contains(byte));
            assert!(empty || !trace::state_is_sound(&doubled), "every key stands once");
        }
    });
}

#[test]
fn stored_values() {
    use tradewind_core::{
        assignment::Assignment,
        bundle::{ModelHead, ModelVersion},
        deployment::{Deployment, Revision},
        drill::Drill,
        event::EventRecord,
        region::{Member, Region},
        rollout::{RegionRecord, Rollout},
        route::Route,
    };
    fn check<T: StoredForm + PartialEq + Debug>(input: &[u8]) {
        if let Ok(read) = stored::decode::<T>(input) {
            assert_eq!(stored::decode::<T>(&stored::encode(&read)).ok(), Some(read));
        }
    }
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/stored");
    let seeds: Vec<Vec<u8>> =
        fs::read_dir(directory).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(seeds.len() > 10);
    fuzz(&seeds, |input| {
        check::<Assignment>(input);
        check::<Deployment>(input);
        check::<Drill>(input);
        check::<EventRecord>(input);
        check::<Member>(input);
        check::<ModelHead>(input);
        check::<ModelVersion>(input);
        check::<Region>(input);
        check::<RegionRecord>(input);
        check::<Revision>(input);
        check::<Rollout>(input);
        check::<Route>(input);
    });
}

const INFERENCE: &str = r#"{"request":{"id":"a","inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[[1.5,-2e3]]}]},
    "expect":{"outputs":[{"name":"y","datatype":"INT64","shape":[1],"data":[7]},
    {"name":"s","datatype":"BYTES","shape":[1],"data":["a"]},{"name":"z","datatype":"FP32","shape":[2],"data":[0.5,1]}]},
    "tolerance":{"rtol":0.1,"atol":0}}"#;
const ANSWER: &str = r#"{"model_name":"m","outputs":[{"name":"y","datatype":"INT64","shape":[1],"data":[7]},
    {"name":"s","datatype":"BYTES","shape":[1],"data":["a"]},{"name":"z","datatype":"FP32","shape":[2],"data":[0.5,1]}]}"#;
const HTTP: &str = r#"{"http":{"method":"PUT","path":"/v1/a?b","headers":{"accept":"x"},"body":{"n":[1,null]}},
    "expect":{"status":200,"json":{"a":[1,{"b":0.5}]},"contains":"a","matches":"^\\{\"a\": *.+\\}$"},"tolerance":{"atol":0.2}}"#;
const BODY: &str = r#"{"a":[1,{"b":0.6,"c":null}],"d":"\u00e9"}"#;

#[test]
fn golden_cases_and_the_answers_to_them() {
    let signature: Signature = serde_json::from_str(
        r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]}],"outputs":[{"name":"y","datatype":"INT64","shape":[1]},
        {"name":"s","datatype":"BYTES","shape":[1]},{"name":"z","datatype":"FP32","shape":[2]}]}"#,
    )
    .unwrap();
    let answer: InferResponse = serde_json::from_str(ANSWER).unwrap();
    fuzz(&[INFERENCE, HTTP], |input| {
        let Ok(case) = Case::parse(input) else { return };
        let written = match &case {
            Case::Inference(case) => serde_json::to_vec(case),
            Case::Http(case) => serde_json::to_vec(case),
        };
        assert_eq!(Case::parse(&written.unwrap()).ok().as_ref(), Some(&case));
        for runtime in [Runtime::Onnx, Runtime::Command] {
            let checked = case.check(runtime, Some(&signature)).and(case.check(runtime, None));
            assert!(checked.is_err() || matches!(case, Case::Http(_)));
        }
        match &case {
            Case::Inference(case) => drop(verify::compare(case, &answer)),
            Case::Http(case) if case.check().is_ok() => drop(case.compare(200, BODY.as_bytes())),
            Case::Http(_) => {}
        }
    });
    let (Ok(Case::Inference(inference)), Ok(Case::Http(http))) =
        (Case::parse(INFERENCE.as_bytes()), Case::parse(HTTP.as_bytes()))
    else {
        panic!("the seeds are cases");
    };
    assert_eq!((verify::compare(&inference, &answer), http.compare(200, BODY.as_bytes())), (Ok(()), Ok(())));
    fuzz(&[ANSWER], |input| {
        if let Ok(answer) = serde_json::from_slice::<InferResponse>(input)
            && verify::compare(&inference, &answer).is_ok()
        {
            let label = answer.outputs.iter().find(|output| output.name == "y").unwrap();
            assert_eq!(label.data.iter().flat_map(|value| value.as_i64()).collect::<Vec<_>>(), [7], "{answer:?}");
        }
    });
    fuzz(&[BODY], |input| {
        if http.compare(200, input).is_ok() {
            let answer: serde_json::Value = serde_json::from_slice(input).unwrap();
            assert!((answer["a"][0].as_f64().unwrap() - 1.0).abs() < 0.3, "{answer}");
        }
    });
}

#[test]
fn faults_to_simulate() {
    let regions: Vec<RegionName> = ["us-east1", "box2x4"].map(|name| name.parse().unwrap()).into();
    let seeds =
        ["region-down:us-east1@30s-2m,slow:box2x4x20,fails:us-east1#1,bad:us-east1", "control-down@1s-2s,unclear"];
    fuzz(&seeds, |input| {
        if let Some(Ok(read)) = text(input).map(|text| faults::parse(text, &regions)) {
            let printed: Vec<String> = read.iter().map(ToString::to_string).collect();
            assert_eq!(faults::parse(&printed.join(","), &regions), Ok(read));
        }
    });
}

#[test]
fn tables_of_pinned_users() {
    let good = Table::of(["ada", "bob", "carol"].map(|user| KeyHash::of(user.as_bytes())).to_vec()).unwrap();
    fuzz(&[good.bytes()], |input| {
        if let Ok(table) = Table::read(input.to_vec()) {
            assert_eq!(table.bytes(), input);
            assert!(table.users() > 0 && !table.contains(KeyHash::of(b"dave")));
        }
    });
}
