//! A fake agent and a fake gateway: they do what they are told at once, and say so.

use std::collections::BTreeMap;

use tokio::task::JoinHandle;
use tradewind_api::{
    Client,
    agent::{AgentEvent, AgentReport, HEARTBEAT, ModelStatus, RegionAssignments},
    gateway::{Committed, GatewayReport, config::Edition},
};
use tradewind_core::{
    Timestamp,
    assignment::{
        Assignment, Check, CheckName, CheckResult, ReplicaCount, SlotAssignment, SlotPhase, SlotStatus, Verification,
    },
};

use crate::control::{Control, region};

/// Ends with the test.
pub(crate) struct Member(JoinHandle<()>);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) fn agent_report(name: &str, events: Vec<AgentEvent>) -> AgentReport {
    AgentReport {
        region: region(name),
        instance: format!("{name}-1"),
        pid: 4711,
        started_at: Timestamp::now(),
        address: "127.0.0.1:9".to_owned(),
        models: Vec::new(),
        replicas: Vec::new(),
        scaling: Vec::new(),
        cases: Vec::new(),
        disk: None,
        events,
    }
}

pub(crate) fn gateway_report(name: &str) -> GatewayReport {
    GatewayReport {
        region: region(name),
        pid: 4712,
        started_at: Timestamp::now(),
        address: format!("{name}:7410"),
        prepared: BTreeMap::new(),
        committed: BTreeMap::new(),
        refused: None,
        config: None,
        peers: Vec::new(),
        traffic: Vec::new(),
        users_go_to: BTreeMap::new(),
        load: Vec::new(),
    }
}

/// Runs whatever it is assigned; golden cases pass with revisions other than `bad_revision`.
pub(crate) fn agent(control: &Control, name: &'static str, bad_revision: Option<u64>) -> Member {
    let client = control.client(&format!("agent/{name}"));
    Member(tokio::spawn(async move {
        let mut assignments = client.watch_assignments().await.unwrap();
        let mut report = agent_report(name, Vec::new());
        let mut heartbeats = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                message = assignments.next() => {
                    let Ok(message) = message else { return };
                    report.models = statuses(&message, bad_revision);
                }
                _ = heartbeats.tick() => {}
            }
            tell(client.report_agent(&report).await);
        }
    }))
}

/// Prepares and commits whatever it is shown.
pub(crate) fn gateway(control: &Control, name: &'static str) -> Member {
    let client: Client = control.client(&format!("gateway/{name}"));
    Member(tokio::spawn(async move {
        let mut messages = client.watch_config().await.unwrap();
        let mut held = None;
        let mut report = gateway_report(name);
        let mut heartbeats = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Ok(message) = message else { return };
                    let edition = message.onto(held.as_ref()).unwrap();
                    take(&mut report, &edition);
                    held = Some(edition);
                }
                _ = heartbeats.tick() => {}
            }
            tell(client.report_gateway(&report).await);
        }
    }))
}

/// A report that was not taken, as when the control plane stops, is made again with the next heartbeat.
fn tell<T>(outcome: Result<T, tradewind_api::client::Error>) {
    drop(outcome);
}

fn take(report: &mut GatewayReport, edition: &Edition) {
    for route in &edition.snapshot.routes {
        if let Some(prepared) = &route.prepared {
            report.prepared.insert(route.model.clone(), prepared.epoch);
        }
        if let Some(committed) = &route.committed {
            let committed = Committed { epoch: committed.epoch, at: Timestamp::now() };
            report.committed.insert(route.model.clone(), committed);
        }
    }
}

fn statuses(message: &RegionAssignments, bad_revision: Option<u64>) -> Vec<ModelStatus> {
    let status = |assignment: &Assignment| ModelStatus {
        model: assignment.model.clone(),
        observed_generation: assignment.generation,
        slots: assignment.slots.iter().map(|(slot, assigned)| (*slot, slot_status(assigned, bad_revision))).collect(),
    };
    message.assignments.iter().map(status).collect()
}

fn slot_status(assigned: &SlotAssignment, bad_revision: Option<u64>) -> SlotStatus {
    let bad = bad_revision == Some(assigned.revision.0);
    SlotStatus {
        revision: assigned.revision,
        attempt: assigned.attempt,
        phase: SlotPhase::Ready,
        replicas: ReplicaCount { ready: assigned.scale.replicas, desired: assigned.scale.replicas },
        resting: false,
        monitored: assigned.monitored,
        armed: assigned.armed,
        verification: assigned.verify.map(|attempt| Verification {
            attempt,
            checks: vec![Check {
                name: CheckName::GoldenCases,
                result: if bad { CheckResult::Failed } else { CheckResult::Passed },
                detail: if bad { "3/20 golden cases" } else { "20/20 golden cases" }.to_owned(),
            }],
            finished_at: Timestamp::UNIX_EPOCH,
        }),
    }
}
