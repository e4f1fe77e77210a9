//! What breaks, and who watches.

use crate::contender::Contender;

/// The region that is struck. The model is there, with two replicas.
pub(super) const STRUCK: &str = "us-east1";
/// Where its users go. The model is there too.
pub(super) const NEXT: &str = "europe-west1";
/// Has a gateway and no replicas: its users are served by the region that is struck, because that is the nearest.
pub(super) const BEYOND: &str = "us-west1";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Fault {
    /// SIGKILL to one of two replicas
    ReplicaKill,
    /// SIGSTOP to one of two replicas
    ReplicaStop,
    /// SIGSTOP to both replicas
    ReplicasStop,
    /// SIGKILL to both replicas and their agent
    AgentKill,
    /// SIGKILL to a region's gateway, under `tradewind up`
    GatewayKill,
    /// SIGKILL to everything in a region
    RegionKill,
    /// SIGSTOP to everything in a region
    RegionStop,
    /// A region's network, both ways
    Cut,
    /// What is sent to a region is lost
    CutIn,
    /// What a region sends is lost
    CutOut,
}

/// Users who enter in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    pub contender: Contender,
    /// The region whose gateway they ask, or HAProxy in its place.
    pub entry: &'static str,
    /// Whether they know another region's gateway too.
    pub second_address: bool,
}

const fn view(contender: Contender, entry: &'static str) -> View {
    View { contender, entry, second_address: false }
}

/// Of faults behind an entry.
const WITHIN: [View; 2] = [view(Contender::Tradewind, STRUCK), view(Contender::Haproxy, STRUCK)];
/// Of faults of a whole region, whose entry is lost with it.
const OUTSIDE: [View; 3] = [
    view(Contender::Tradewind, BEYOND),
    view(Contender::Haproxy, BEYOND),
    View { contender: Contender::Tradewind, entry: STRUCK, second_address: true },
];

impl Fault {
    pub(super) const ALL: [Self; 10] = [
        Self::ReplicaKill,
        Self::ReplicaStop,
        Self::ReplicasStop,
        Self::AgentKill,
        Self::GatewayKill,
        Self::RegionKill,
        Self::RegionStop,
        Self::Cut,
        Self::CutIn,
        Self::CutOut,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::ReplicaKill => "one of two replicas: kill -9",
            Self::ReplicaStop => "one of two replicas: SIGSTOP",
            Self::ReplicasStop => "both replicas: SIGSTOP",
            Self::AgentKill => "both replicas and the agent: kill -9",
            Self::GatewayKill => "the gateway, under `up`: kill -9",
            Self::RegionKill => "the whole region: kill -9",
            Self::RegionStop => "the whole region: SIGSTOP",
            Self::Cut => "the region's network: cut",
            Self::CutIn => "the region's network: nothing gets in",
            Self::CutOut => "the region's network: nothing gets out",
        }
    }

    pub(super) fn views(self) -> &'static [View] {
        match self {
            Self::ReplicaKill | Self::ReplicaStop | Self::ReplicasStop | Self::AgentKill => &WITHIN,
            Self::GatewayKill => &WITHIN[..1],
            Self::RegionKill | Self::RegionStop | Self::Cut | Self::CutIn | Self::CutOut => &OUTSIDE,
        }
    }

    pub(super) fn is_of_network(self) -> bool {
        matches!(self, Self::Cut | Self::CutIn | Self::CutOut)
    }

    /// The place that cannot serve any more, where it is a whole one.
    pub(super) fn takes_away(self) -> Option<&'static str> {
        (!matches!(self, Self::ReplicaKill | Self::ReplicaStop | Self::GatewayKill)).then_some(STRUCK)
    }
}

impl View {
    pub(super) fn label(self) -> String {
        let name = self.contender.name();
        if self.second_address { format!("{name}, entered there; a second address is known") } else { name.to_owned() }
    }
}
