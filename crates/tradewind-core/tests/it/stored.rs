//! The stored forms, pinned: what an earlier release has written must be read, and what this one writes must be what
//! its fixture says. A change of a form adds a version and a fixture; it never edits one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    path::PathBuf,
};

use serde_json::json;
use tradewind_core::{
    Digest, DrillNumber, Epoch, Generation, ModelName, RegionName, RevisionNumber, RolloutNumber, Slot, Timestamp,
    VersionNumber,
    alert::{
        Alert, AlertKey, AlertKind, Delivery,
        receiver::{Format, Receiver},
        silence::{Matcher, Silence},
    },
    assignment::{Assignment, Check, CheckName, CheckResult, Failure, SlotAssignment, Verification},
    bundle::{
        BundleFile, BundleIndex, CommandOptions, Lineage, Manifest, ModelHead, ModelVersion, Runtime, Signature,
        TensorSpec,
        lineage::{BatchLineage, DataLineage},
    },
    capacity::{Failover, Fit, ModelFailover, Target},
    deployment::{Deployment, DeploymentSpec, HealthPolicy, Revision, SlotRevisions},
    drill::{Counted, Drill, DrillEnd, DrillEstimate, DrillState, EndReason, Measured, TargetUse},
    duration::Span,
    event::{EventKind, EventRecord, Severity},
    inference::Datatype,
    monitor::{LatencyObjective, Monitors},
    probe::Probe,
    region::{Location, Member, MemberRole, Region},
    resources::{Cpu, Memory},
    rollout::{
        Action, FleetSteps, RegionPhase, RegionRecord, Rollout, RolloutFailure, RolloutKind, RolloutState, Soak, Step,
        StepResult, course::Course, strategy::Strategy,
    },
    route::{Route, RouteState},
    scale::{Bounds, Day, Scale, ScheduledMinimum},
    scaler::ByHand,
    stored::{self, StoredForm},
};

fn check<T: StoredForm + PartialEq + Debug>(sample: &T) {
    check_as(T::KIND, sample);
}

/// `name` tells a second sample of one form from the first.
fn check_as<T: StoredForm + PartialEq + Debug>(name: &str, sample: &T) {
    let name = format!("{name}-v{}.json", T::VERSION);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/stored").join(&name);
    let fixture = std::fs::read(&path).unwrap_or_else(|error| {
        let written = String::from_utf8(stored::encode(sample)).unwrap();
        panic!("{}: {error}; this release writes\n{written}", path.display())
    });
    assert_eq!(&stored::decode::<T>(&fixture).unwrap(), sample, "{name} is read as something else");
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    assert_eq!(json(&stored::encode(sample)), json(&fixture), "{name} is not what is written now");
}

fn model() -> ModelName {
    "digits".parse().unwrap()
}

fn region() -> RegionName {
    "us-east1".parse().unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn failure() -> Failure {
    Failure {
        message: "verification failed in us-east1".to_owned(),
        causes: vec!["golden cases 3/20".to_owned()],
        hint: Some("see the log".to_owned()),
        retryable: true,
    }
}

fn step() -> Step {
    Step {
        result: StepResult::Success,
        started_at: at(1),
        finished_at: Some(at(2)),
        attempts: 1,
        detail: "digest ok".to_owned(),
    }
}

fn tensor() -> TensorSpec {
    TensorSpec { name: "image".to_owned(), datatype: Datatype::Fp32, shape: vec![-1, 64] }
}

#[test]
fn registry() {
    check(&ModelHead { name: model(), latest: VersionNumber(3) });
    let file = BundleFile { size: 12, digest: digest(1), executable: false };
    let manifest = Manifest {
        name: Some(model()),
        model: "model.onnx".to_owned(),
        cases: vec!["cases/*.json".to_owned()],
        ..Manifest::default()
    };
    check(&ModelVersion {
        name: model(),
        version: VersionNumber(3),
        digest: digest(2),
        index: BundleIndex { files: BTreeMap::from([("model.onnx".to_owned(), file)]) },
        manifest,
        signature: Signature { inputs: vec![tensor()], outputs: Vec::new() },
        cases: vec!["cases/001.json".to_owned()],
        pushed_at: at(0),
        lineage: None,
    });
}

#[test]
fn a_version_that_is_a_server() {
    let command = CommandOptions {
        run: vec!["./server".to_owned(), "--port={port}".to_owned()],
        ready: Probe::Http("/health".to_owned()),
        env: BTreeMap::from([("MODEL_DIR".to_owned(), "{bundle}/weights".to_owned())]),
        directory: Some("app".to_owned()),
        startup: Span::from_secs(90),
        drain: Span::from_secs(300),
    };
    let file = BundleFile { size: 12, digest: digest(1), executable: true };
    check_as(
        "model_version-command",
        &ModelVersion {
            name: model(),
            version: VersionNumber(3),
            digest: digest(2),
            index: BundleIndex { files: BTreeMap::from([("app/server".to_owned(), file)]) },
            manifest: Manifest {
                model: "model.onnx".to_owned(),
                runtime: Runtime::Command,
                command: Some(command),
                ..Manifest::default()
            },
            signature: Signature::default(),
            cases: Vec::new(),
            pushed_at: at(0),
            lineage: None,
        },
    );
}

#[test]
fn a_version_that_a_pipeline_has_made() {
    let file = BundleFile { size: 12, digest: digest(1), executable: false };
    let batches = BatchLineage { cut: "by 100 rows".to_owned(), total: 18, failed: 1, held_out: 2 };
    let lineage = Lineage {
        pipeline: "digits".to_owned(),
        run: Some(12),
        by: "ada@build-7".to_owned(),
        started_at: at(0),
        finished_at: at(9),
        data: Some(DataLineage {
            files: 3,
            bytes: 4096,
            rows: Some(1797),
            digest: Some(digest(3)),
            batches: Some(batches),
        }),
        code: Some(digest(4)),
        requirements: vec!["scikit-learn==1.8.0".to_owned()],
        parameters: [("layers", json!([64, 10])), ("rate", json!(0.1))]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        metrics: BTreeMap::from([("accuracy".to_owned(), 0.971)]),
        gate: vec!["accuracy 0.971000, at least 0.95".to_owned()],
        compared_with: Some(VersionNumber(2)),
    };
    check_as(
        "model_version-lineage",
        &ModelVersion {
            name: model(),
            version: VersionNumber(3),
            digest: digest(2),
            index: BundleIndex { files: BTreeMap::from([("model.onnx".to_owned(), file)]) },
            manifest: Manifest { model: "model.onnx".to_owned(), ..Manifest::default() },
            signature: Signature::default(),
            cases: Vec::new(),
            pushed_at: at(0),
            lineage: Some(lineage),
        },
    );
}

#[test]
fn regions() {
    let location = Some(Location { latitude: 33.2, longitude: -80.0 });
    check(&Region { name: region(), location, drained: false });
    check(&Member { region: region(), role: MemberRole::Gateway, address: "127.0.0.1:7410".to_owned() });
}

#[test]
fn deployments() {
    check(&Deployment {
        model: model(),
        live: Some(RevisionNumber(1)),
        latest_revision: RevisionNumber(2),
        latest_rollout: RolloutNumber(2),
        live_rollout: Some(RolloutNumber(1)),
        latest_epoch: Epoch(3),
        slots: SlotRevisions { blue: Some(RevisionNumber(1)), green: Some(RevisionNumber(2)) },
        removing: false,
        bad: BTreeMap::new(),
    });
    let spec = DeploymentSpec {
        model: model(),
        version: VersionNumber(3),
        digest: digest(2),
        regions: vec![region()],
        scale: Scale { threads: Some(1), ..Scale::default() },
        strategy: Strategy { min_regions: Some(1), ..Strategy::default() },
        health: HealthPolicy::default(),
        region_health: BTreeMap::from([(region(), HealthPolicy { unhealthy_after: 5, ..HealthPolicy::default() })]),
        monitors: Monitors::default(),
        region_monitors: BTreeMap::new(),
        region_scale: BTreeMap::new(),
        stay_in: BTreeSet::new(),
    };
    let revision = |spec| Revision {
        number: RevisionNumber(2),
        spec,
        created_at: at(0),
        created_by: "ada@engine".to_owned(),
        copy_of: None,
    };
    check(&revision(spec.clone()));
    let latency = Some(LatencyObjective { within: Span::from_millis(100), share: 0.99 });
    let monitors = Monitors { latency, ..Monitors::default() };
    let own = Monitors { availability: 0.99, golden_interval: Span::from_secs(300), saturation: 0.8, ..monitors };
    let region_monitors = BTreeMap::from([(region(), own)]);
    check_as("revision-monitors", &revision(DeploymentSpec { monitors, region_monitors, ..spec.clone() }));
    let time = |text: &str| text.parse().unwrap();
    let minimum =
        ScheduledMinimum { from: time("08:00"), to: time("18:00"), min: 4, days: [Day::Mon, Day::Fri].into() };
    let bounds = Bounds { min: 0, max: 10, target: 2, scale_down_after: Span::from_secs(600), schedule: vec![minimum] };
    let scale = Scale { bounds: Some(bounds), threads: Some(1), ..Scale::default() };
    check_as("revision-bounds", &revision(DeploymentSpec { scale, ..spec.clone() }));
    let scale = Scale {
        threads: Some(2),
        instances: 3,
        cpu: Some(Cpu::from_milli(6500)),
        memory: Some(Memory::from_bytes(512 << 20)),
        max_batch_rows: Some(16),
        ..Scale::default()
    };
    check_as("revision-resources", &revision(DeploymentSpec { scale, ..spec }));
}

#[test]
fn rollouts() {
    check(&Rollout {
        model: model(),
        number: RolloutNumber(2),
        kind: RolloutKind::Deploy,
        revision: RevisionNumber(2),
        from: Some(RevisionNumber(1)),
        slot: Slot::Green,
        regions: vec![region()],
        strategy: Strategy::default(),
        state: RolloutState::Failed,
        failure: Some(RolloutFailure { region: Some(region()), action: Action::Verify, failure: failure() }),
        steps: FleetSteps { select: Some(step()), ..FleetSteps::default() },
        created_at: at(0),
        finished_at: Some(at(9)),
        committed_at: None,
        soak_until: None,
        soak: Soak::Pending,
        trace: None,
        records_of: None,
        course: Course::default(),
    });
    let check_result =
        Check { name: CheckName::GoldenCases, result: CheckResult::Failed, detail: "golden cases 3/20".to_owned() };
    check(&RegionRecord {
        region: region(),
        phase: RegionPhase::Retrying,
        attempt: 2,
        retry_at: Some(at(3)),
        deadline: Some(at(600)),
        deploy: Some(step()),
        configure_monitoring: Some(step()),
        verify: None,
        verification: Some(Verification { attempt: 1, checks: vec![check_result], finished_at: at(2) }),
        failure: Some((Action::Verify, failure())),
        alone: false,
        routed_at: Some(Epoch(3)),
    });
    let unproved =
        Check { name: CheckName::Digest, result: CheckResult::Unproved, detail: "digest unproved".to_owned() };
    check_as(
        "region_record-unproved",
        &RegionRecord {
            region: region(),
            phase: RegionPhase::Verified,
            attempt: 1,
            retry_at: None,
            deadline: None,
            deploy: None,
            configure_monitoring: None,
            verify: Some(step()),
            verification: Some(Verification { attempt: 1, checks: vec![unproved], finished_at: at(2) }),
            failure: None,
            alone: false,
            routed_at: None,
        },
    );
}

#[test]
fn desired_state() {
    let held = SlotAssignment {
        revision: RevisionNumber(2),
        version: VersionNumber(3),
        digest: digest(2),
        scale: Scale { threads: Some(1), ..Scale::default() },
        health: HealthPolicy::default(),
        monitors: Monitors::default(),
        attempt: 1,
        monitored: true,
        verify: Some(1),
        armed: false,
        alone: false,
        trace: None,
    };
    let assignment = Assignment {
        region: region(),
        model: model(),
        generation: Generation(41),
        slots: BTreeMap::from([(Slot::Green, held)]),
        by_hand: None,
    };
    check(&assignment);
    let by_hand = Some(ByHand { replicas: 5, by: "ada@engine".to_owned(), at: at(7) });
    check_as("assignment-by_hand", &Assignment { slots: BTreeMap::new(), by_hand, ..assignment });
    let state = RouteState {
        epoch: Epoch(3),
        live: Slot::Green,
        revision: RevisionNumber(2),
        version: VersionNumber(3),
        regions: vec![region()],
        health: HealthPolicy::default(),
        region_health: BTreeMap::new(),
        stay_in: BTreeSet::new(),
        candidate: None,
    };
    check(&Route { model: model(), committed: Some(state), prepared: None, pins: Default::default() });
}

#[test]
fn events() {
    check(&EventRecord {
        at: at(0),
        severity: Severity::Warning,
        kind: EventKind::RegionUnhealthy,
        region: Some(region()),
        model: Some(model()),
        message: "no agent for 12 s".to_owned(),
    });
}

#[test]
fn alerts() {
    let key = AlertKey { kind: AlertKind::ErrorBudgetBurn, model: Some(model()), region: Some(region()) };
    let delivery = Delivery { firing_at: Some(at(3)), resolved_at: None, severity: None };
    check(&Alert {
        id: "001700000002000-1".to_owned(),
        key,
        severity: tradewind_core::alert::Severity::Critical,
        detail: "50 of 1000 requests failed".to_owned(),
        since: at(1),
        fired_at: at(2),
        resolved_at: Some(at(9)),
        hushed: false,
        deliveries: BTreeMap::from([("pager".parse().unwrap(), delivery)]),
    });
    check(&Silence {
        id: "17".to_owned(),
        matcher: Matcher { kind: Some(AlertKind::RegionDown), model: None, region: Some(region()) },
        until: at(3600),
        comment: "the data centre moves".to_owned(),
        created_at: at(0),
        created_by: "ada@engine".to_owned(),
    });
    check(&Receiver {
        name: "pager".parse().unwrap(),
        url: "https://example.com/hook".to_owned(),
        format: Format::Json,
        secret: Some("whsec_c2VjcmV0".to_owned()),
        created_at: at(0),
    });
}

#[test]
fn drills() {
    let target = Target { region: region(), in_flight: 6.5, utilisation: Some(0.25), utilisation_then: Some(0.5) };
    let model =
        ModelFailover { model: model(), fit: Fit::Fits, in_flight: 6.5, share: Some(1.0), targets: vec![target] };
    let estimate = DrillEstimate {
        failover: Failover { fit: Fit::Fits, models: vec![model] },
        moved_ms: 1000,
        failed: Some(0),
        p99_us: Some(92_000),
        returned_ms: 12_000,
    };
    let counted = Counted { requests: 3012, failed: 1, requests_of_others: 812, failed_of_others: 2 };
    let used = TargetUse { model: self::model(), region: region(), in_flight: 7.5, utilisation: None };
    check(&Drill {
        number: DrillNumber(3),
        region: region(),
        lasts: Span::from_secs(30),
        started_at: at(0),
        started_by: "ada@engine".to_owned(),
        forced: true,
        state: DrillState::Done,
        ended: Some(DrillEnd { at: at(30), reason: EndReason::Time }),
        estimate,
        before: Some(counted),
        measured: Measured {
            moved_ms: Some(180),
            counted: Some(counted),
            p99_before_us: Some(1_800),
            p99_during_us: Some(91_000),
            p99_after_us: None,
            targets: vec![used],
            returned_ms: Some(10_400),
        },
        interrupted: false,
    });
}

#[test]
fn a_form_of_another_kind_or_of_a_newer_release_is_refused() {
    let head = stored::encode(&ModelHead { name: model(), latest: VersionNumber(3) });
    let error = stored::decode::<Member>(&head).unwrap_err();
    assert_eq!(error.to_string(), "expected a stored member, found a model_head");
    let newer = String::from_utf8(head).unwrap().replace("\"v\":1", "\"v\":2");
    let error = stored::decode::<ModelHead>(newer.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("written by a newer release"), "{error}");
}
