//! Whatever comes over a wire: it is refused, or it is read as what it is written as, however it was cut on the way.

use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use tradewind_fuzz::fuzz;

use crate::{
    agent::{AgentReport, Endpoints},
    auth::{Authority, Scope},
    deploy::DeployRequest,
    gateway::{
        GatewayReport, PeerState, acceptance,
        config::{ConfigMessage, Edition, diff},
        fixtures::{route, snapshot},
    },
    grpc::{
        frame,
        message::{InferInputTensor, ModelInferRequest},
        target::{TargetError, count_fields, target},
        timeout,
    },
    ndjson::Lines,
};

/// Whether it was read.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(json: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(json).ok()?;
    let written = serde_json::to_vec(&read).unwrap();
    assert_eq!(serde_json::from_slice::<T>(&written).ok().as_ref(), Some(&read));
    Some(read)
}

#[test]
fn lines_are_the_same_however_they_come() {
    fuzz(&["{\"a\":1}\n\n\n{\"b\":2}\r\n{", "\n", "one\ntwo\nthree\n"], |stream| {
        let mut expected: Vec<&[u8]> = stream.split(|byte| *byte == b'\n').collect();
        expected.pop();
        for size in [1, 2, 5, stream.len().max(1)] {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for piece in stream.chunks(size) {
                lines.extend(piece);
                found.extend(std::iter::from_fn(|| lines.take().map(<[u8]>::to_vec)));
            }
            assert_eq!(found, expected, "in pieces of {size} bytes");
        }
    });
}

fn editions() -> [Edition; 2] {
    let (mut one, mut other) = (snapshot("first", 7), snapshot("first", 8));
    one.routes = vec![route("cats", 1, &["us-east1"]), route("digits", 3, &["us-east1", "us-west1"])];
    other.routes = vec![route("digits", 4, &["us-west1"]), route("llama", 1, &["us-east1"])];
    other.mesh_token = "other".to_owned();
    [one, other].map(Edition::new)
}

#[test]
fn configuration_of_gateways() {
    let [one, other] = editions();
    let delta = ConfigMessage::Delta(diff(&one, &other).unwrap());
    let current = ConfigMessage::Current { digest: one.digest };
    let seeds =
        [ConfigMessage::Snapshot(other.clone()), delta, current].map(|message| serde_json::to_vec(&message).unwrap());
    fuzz(&seeds, |line| {
        let Some(message) = round_trip::<ConfigMessage>(line) else { return };
        let changes = matches!(message, ConfigMessage::Delta(_));
        assert!(message.clone().onto(None).is_err() || matches!(message, ConfigMessage::Snapshot(_)));
        if let Ok(next) = message.onto(Some(&one)) {
            assert!(!changes || next == other, "a change leads where its sender says, or nowhere");
            let _judged = acceptance::check(Some(&one.snapshot), &next.snapshot);
            assert!(acceptance::check(None, &next.snapshot).is_err() || !next.snapshot.regions.is_empty());
        }
    });
}

#[test]
fn reports_and_requests() {
    let seeds = [
        r#"{"region":"us-east1","ready":[{"model":"digits","slot":"blue","revision":1,"replicas":2,"headroom":3}]}"#,
        r#"{"region":"us-east1","instance":"x","endpoints":[{"id":"digits-b-1","model":"digits","slot":"blue","revision":1,
            "version":1,"address":"127.0.0.1:1","ready":true}]}"#,
        r#"{"model":"digits","version":2,"regions":["us-east1"],"strategy":{"max_parallel":"all","soak":"1m"},"dry_run":true}"#,
        r#"{"region":"us-east1","pid":1,"started_at":"2026-11-03T14:32:07Z","address":"a:1","prepared":{"digits":1},
            "committed":{"digits":{"epoch":1,"at":"2026-11-03T14:32:07.5Z"}},"refused":null,"peers":[{"region":"us-west1",
            "healthy":true,"round_trip_us":5}],"traffic":[],"users_go_to":{"digits":null}}"#,
    ];
    assert!(round_trip::<PeerState>(seeds[0].as_bytes()).is_some());
    assert!(round_trip::<GatewayReport>(seeds[3].as_bytes()).is_some());
    fuzz(&seeds, |json| {
        round_trip::<PeerState>(json);
        round_trip::<Endpoints>(json);
        round_trip::<DeployRequest>(json);
        round_trip::<GatewayReport>(json);
        round_trip::<AgentReport>(json);
    });
}

#[test]
fn timeouts_and_frames() {
    fuzz(&["1S", "99999999H", "250m", "7u", "0n", "2M"], |value| {
        if let Ok(read) = timeout::read(value) {
            assert_eq!(timeout::read(timeout::write(read).as_bytes()), Ok(read));
        }
    });
    fuzz(&[[0, 0, 0, 0, 5], [1, 0xff, 0xff, 0xff, 0xff]], |bytes| {
        if let Some(bytes) = bytes.first_chunk()
            && let Ok(header) = frame::Header::read(*bytes)
        {
            assert_eq!(header.write(), *bytes);
        }
    });
}

#[test]
fn a_messages_model_is_the_same_however_much_of_it_has_come() {
    let request = |model: &str, version: &str| ModelInferRequest {
        model_name: model.to_owned(),
        model_version: version.to_owned(),
        id: "request".to_owned(),
        inputs: vec![InferInputTensor { name: "x".to_owned(), shape: vec![1, -1], ..Default::default() }; 2],
        raw_input_contents: vec![vec![7; 40].into(); 2],
        ..Default::default()
    };
    let seeds = [request("digits", "3"), request("a", ""), request("", "")].map(|request| request.encode_to_vec());
    fuzz(&seeds, |message| {
        let whole = target(message, message.len());
        let mut found = None;
        for length in 0..=message.len().min(256) {
            match target(&message[..length], message.len()) {
                Ok(None) => assert_eq!(found, None, "what was found stays"),
                Ok(Some(target)) => assert_eq!(*found.get_or_insert(target), target),
                Err(error) => assert_eq!((Err(error), found), (whole, None), "what is wrong stays wrong"),
            }
        }
        assert!(found.is_none() || whole == Ok(found));
        assert!(!matches!(whole, Ok(None) | Err(TargetError::TooLate)), "a whole message is judged");
        // Groups, which proto3 has not, can be decoded and are not counted.
        if let (Ok(decoded), Ok(counts)) = (ModelInferRequest::decode(message), count_fields(message, [5, 6, 7])) {
            let lengths = [decoded.inputs.len(), decoded.outputs.len(), decoded.raw_input_contents.len()];
            assert_eq!(counts, lengths);
            assert!(
                ModelInferRequest::decode(&*decoded.encode_to_vec())
                    .is_ok_and(|again| again == decoded || has_nan(&decoded))
            );
        }
    });
}

/// Is not equal to itself.
fn has_nan(request: &ModelInferRequest) -> bool {
    request != &request.clone()
}

#[test]
fn tokens_and_scopes() {
    let directory = std::env::temp_dir().join(format!("tradewind-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let authority = Authority::open(&directory).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    let scopes = ["admin", "mesh", "agent/us-east1", "gateway/us-east1"].map(|scope| scope.parse::<Scope>().unwrap());
    let issued = scopes.each_ref().map(|scope| authority.issue(scope));
    fuzz(&issued, |token| {
        let Ok(token) = std::str::from_utf8(token) else { return };
        if let Some(scope) = authority.check(token) {
            assert!(authority.issue(&scope).eq_ignore_ascii_case(token), "only what was issued is taken");
        }
    });
    fuzz(&scopes.each_ref().map(ToString::to_string), |text| {
        if let Ok(text) = std::str::from_utf8(text)
            && let Ok(scope) = text.parse::<Scope>()
        {
            assert_eq!(scope.to_string(), text);
        }
    });
}
