//! Parts of a deployment that are asked for one by one: what is absent stays as it is.

use serde::{Deserialize, Serialize};
use tradewind_core::{
    deployment::{HealthPolicy, Scale},
    duration::Span,
    monitor::{LatencyObjective, Monitors},
};
use utoipa::ToSchema;

/// What is to be different about a [`Scale`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScaleChange {
    pub replicas: Option<u32>,
    pub threads: Option<u32>,
    /// 0: gateways find it out.
    pub concurrency: Option<u32>,
}

impl ScaleChange {
    pub fn applied_to(self, scale: Scale) -> Scale {
        Scale {
            replicas: self.replicas.unwrap_or(scale.replicas),
            threads: self.threads.unwrap_or(scale.threads),
            concurrency: self.concurrency.map_or(scale.concurrency, |limit| Some(limit).filter(|limit| *limit > 0)),
        }
    }
}

/// What is to be different about a [`HealthPolicy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthChange {
    pub interval: Option<Span>,
    pub timeout: Option<Span>,
    pub unhealthy_after: Option<u32>,
    pub healthy_after: Option<u32>,
}

impl HealthChange {
    pub fn applied_to(self, health: HealthPolicy) -> HealthPolicy {
        HealthPolicy {
            interval: self.interval.unwrap_or(health.interval),
            timeout: self.timeout.unwrap_or(health.timeout),
            unhealthy_after: self.unhealthy_after.unwrap_or(health.unhealthy_after),
            healthy_after: self.healthy_after.unwrap_or(health.healthy_after),
        }
    }

    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// What is to be different about [`Monitors`].
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MonitorsChange {
    pub availability: Option<f64>,
    pub latency: Option<LatencyObjective>,
    pub golden_interval: Option<Span>,
    pub saturation: Option<f64>,
}

impl MonitorsChange {
    pub fn applied_to(self, monitors: Monitors) -> Monitors {
        Monitors {
            availability: self.availability.unwrap_or(monitors.availability),
            latency: self.latency.or(monitors.latency),
            golden_interval: self.golden_interval.unwrap_or(monitors.golden_interval),
            saturation: self.saturation.unwrap_or(monitors.saturation),
        }
    }

    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}
