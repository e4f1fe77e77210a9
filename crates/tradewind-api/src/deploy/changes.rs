//! Parts of a deployment that are asked for one by one: what is absent stays as it is.

use serde::{Deserialize, Serialize};
use tradewind_core::{
    deployment::HealthPolicy,
    duration::Span,
    monitor::{LatencyObjective, Monitors},
    resources::{Cpu, Memory},
    scale::{Bounds, DEFAULT_SCALE_DOWN_AFTER, DEFAULT_TARGET, Scale, ScheduledMinimum},
};
use utoipa::ToSchema;

/// What is to be different about a [`Scale`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScaleChange {
    /// A fixed number. What follows demand is said by the others.
    pub replicas: Option<u32>,
    /// 0: as many as `cpu` is worth.
    pub threads: Option<u32>,
    pub instances: Option<u32>,
    /// 0: as much as there is.
    pub cpu: Option<Cpu>,
    /// `0B`: as much as there is.
    pub memory: Option<Memory>,
    /// 0: as the model's bundle says.
    pub max_batch_rows: Option<u32>,
    /// 0: gateways find it out.
    pub concurrency: Option<u32>,
    /// The fewest replicas; 1 where nothing has said it.
    pub min: Option<u32>,
    pub max: Option<u32>,
    /// Requests in flight for each replica.
    pub target: Option<u32>,
    pub scale_down_after: Option<Span>,
    /// Takes the place of what there was.
    pub schedule: Option<Vec<ScheduledMinimum>>,
}

impl ScaleChange {
    /// Whether it says how the number follows demand.
    pub fn follows_demand(&self) -> bool {
        let Self { min, max, target, scale_down_after, schedule, .. } = self;
        min.is_some() || max.is_some() || target.is_some() || scale_down_after.is_some() || schedule.is_some()
    }

    /// Without what it says of how many replicas there are, fixed or by demand.
    pub fn without_number(self) -> Self {
        Self { replicas: None, min: None, max: None, target: None, scale_down_after: None, schedule: None, ..self }
    }

    /// What is wanted together; why it cannot be, for people.
    pub fn applied_to(self, scale: &Scale) -> Result<Scale, String> {
        let follows = self.follows_demand();
        let Self { replicas, min, max, target, scale_down_after, schedule, .. } = self;
        let mut next = Scale {
            replicas: replicas.unwrap_or(scale.replicas),
            threads: asked(self.threads, scale.threads, 0),
            instances: self.instances.unwrap_or(scale.instances),
            cpu: asked(self.cpu, scale.cpu, Cpu::from_milli(0)),
            memory: asked(self.memory, scale.memory, Memory::from_bytes(0)),
            max_batch_rows: asked(self.max_batch_rows, scale.max_batch_rows, 0),
            concurrency: asked(self.concurrency, scale.concurrency, 0),
            bounds: scale.bounds.clone().filter(|_| replicas.is_none()),
        };
        if !follows {
            return Ok(next);
        }
        if replicas.is_some() {
            let others = "min, max, target, scale_down_after and schedule say how it follows demand";
            return Err(format!("replicas is a fixed number, and {others}: only one of the two can be"));
        }
        let usual = max.map(|max| Bounds {
            min: 1,
            max,
            target: next.concurrency.unwrap_or(DEFAULT_TARGET).min(DEFAULT_TARGET),
            scale_down_after: DEFAULT_SCALE_DOWN_AFTER,
            schedule: Vec::new(),
        });
        let Some(before) = next.bounds.take().or(usual) else {
            return Err("the number of replicas follows demand only up to a max, which nothing has said".to_owned());
        };
        let bounds = Bounds {
            min: min.unwrap_or(before.min),
            max: max.unwrap_or(before.max),
            target: target.unwrap_or(before.target),
            scale_down_after: scale_down_after.unwrap_or(before.scale_down_after),
            schedule: schedule.unwrap_or(before.schedule),
        };
        Ok(Scale { replicas: bounds.first(), bounds: Some(bounds), ..next })
    }
}

/// What was asked for, or else what there was; none where what was asked for says so.
fn asked<T: PartialEq>(asked: Option<T>, before: Option<T>, none: T) -> Option<T> {
    asked.or(before).filter(|value| *value != none)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_fixed_or_follows_demand_and_nothing_is_ignored() {
        let change = |json: &str| serde_json::from_str::<ScaleChange>(json).unwrap();
        let fixed = Scale { replicas: 3, ..Scale::default() };
        let follows = change(r#"{"max": 10}"#).applied_to(&fixed).unwrap();
        let bounds = follows.bounds.clone().unwrap();
        assert_eq!((follows.replicas, bounds.min, bounds.max, bounds.target), (1, 1, 10, 2));
        let next = change(r#"{"min": 0, "scale_down_after": "1m"}"#).applied_to(&follows).unwrap();
        let bounds = next.bounds.clone().unwrap();
        assert_eq!((next.replicas, bounds.min, bounds.max, bounds.scale_down_after), (1, 0, 10, Span::from_secs(60)));
        assert_eq!(change(r#"{"replicas": 4}"#).applied_to(&next).unwrap(), Scale { replicas: 4, ..Scale::default() });
        assert_eq!(change(r#"{"threads": 2}"#).applied_to(&next).unwrap(), Scale { threads: Some(2), ..next });
        let limits = r#"{"cpu": 1.5, "memory": "1GiB", "instances": 2, "max_batch_rows": 8, "concurrency": 4}"#;
        let limited = change(limits).applied_to(&fixed).unwrap();
        assert_eq!((limited.threads(), limited.instances, limited.max_batch_rows), (1, 2, Some(8)));
        assert_eq!(limited.memory.map(Memory::bytes), Some(1 << 30));
        let lifted = r#"{"cpu": 0, "memory": "0B", "instances": 1, "max_batch_rows": 0, "concurrency": 0}"#;
        assert_eq!(change(lifted).applied_to(&limited).unwrap(), fixed);
        let one_at_a_time = change(r#"{"max": 2, "concurrency": 1}"#).applied_to(&fixed).unwrap();
        assert_eq!(one_at_a_time.check(), Ok(()));
        for (json, message) in
            [(r#"{"replicas": 2, "max": 4}"#, "only one of the two"), (r#"{"target": 4}"#, "only up to a max")]
        {
            let refused = change(json).applied_to(&fixed).unwrap_err();
            assert!(refused.contains(message), "{refused}");
        }
    }
}
