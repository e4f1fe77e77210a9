//! Reports as members make them.

use std::collections::BTreeMap;

use tradewind_api::{
    agent::{AgentReport, ModelStatus},
    gateway::GatewayReport,
};
use tradewind_core::{
    Generation, ModelName, RevisionNumber, Slot, Timestamp,
    assignment::{ReplicaCount, SlotPhase, SlotStatus},
};

/// An agent with one ready replica of the model's revision 1 in the blue slot.
pub(crate) fn agent(region: &str, model: &ModelName) -> AgentReport {
    let blue = SlotStatus {
        revision: RevisionNumber(1),
        attempt: 1,
        phase: SlotPhase::Ready,
        replicas: ReplicaCount { ready: 1, desired: 1 },
        resting: false,
        monitored: true,
        armed: true,
        verification: None,
    };
    let slots = BTreeMap::from([(Slot::Blue, blue)]);
    AgentReport {
        region: region.parse().unwrap(),
        instance: format!("{region}-1"),
        pid: 4711,
        started_at: Timestamp::UNIX_EPOCH,
        address: format!("{region}:9"),
        models: vec![ModelStatus { model: model.clone(), observed_generation: Generation(1), slots }],
        replicas: Vec::new(),
        events: Vec::new(),
        scaling: Vec::new(),
        cases: Vec::new(),
        disk: None,
    }
}

/// A gateway that has nothing to tell.
pub(crate) fn gateway(region: &str) -> GatewayReport {
    GatewayReport {
        region: region.parse().unwrap(),
        pid: 4712,
        started_at: Timestamp::UNIX_EPOCH,
        address: format!("{region}:7410"),
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
