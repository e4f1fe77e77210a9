//! What breaks, and which alerts have to tell of it.

use tradewind_core::alert::AlertKind;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Fault {
    /// SIGKILL to a region's agent, which nobody starts again
    Agent,
    /// SIGKILL to a region's gateway, which nobody starts again
    Gateway,
    /// SIGKILL to both replicas of a region; none can be started again
    Replicas,
    /// SIGKILL to one of a region's two replicas; none can be started again
    Replica,
    /// Every answer is wrong
    Wrong,
    /// Every request fails
    Fails,
    /// Answers take longer than the objective, and need more room
    Slow,
    /// Answers need more room than a region would have for another one's users too
    Busy,
    /// The disk of a region's agent is filled up
    Disk,
    /// A region is away while the others get another revision
    Version,
}

impl Fault {
    pub(super) const ALL: [Self; 10] = [
        Self::Agent,
        Self::Gateway,
        Self::Replicas,
        Self::Replica,
        Self::Wrong,
        Self::Fails,
        Self::Slow,
        Self::Busy,
        Self::Disk,
        Self::Version,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Agent => "a region's agent: kill -9",
            Self::Gateway => "a region's gateway: kill -9",
            Self::Replicas => "both replicas: kill -9, and none starts again",
            Self::Replica => "one of two replicas: kill -9, and none starts again",
            Self::Wrong => "every answer is wrong",
            Self::Fails => "every request fails",
            Self::Slow => "answers take 400 ms instead of 2",
            Self::Busy => "answers take 300 ms instead of 2",
            Self::Disk => "the disk of a region's agent is full",
            Self::Version => "a region is away while the others get another revision",
        }
    }

    /// Each is a row.
    pub(super) fn alerts(self) -> &'static [AlertKind] {
        match self {
            Self::Agent | Self::Gateway => &[AlertKind::RegionDown],
            Self::Replicas => &[AlertKind::ModelUnavailable],
            Self::Replica => &[AlertKind::ReplicasMissing],
            Self::Wrong => &[AlertKind::WrongAnswers],
            Self::Fails => &[AlertKind::ErrorBudgetBurn],
            Self::Slow => &[AlertKind::LatencyBudgetBurn, AlertKind::Saturation],
            Self::Busy => &[AlertKind::FailoverUnfit],
            Self::Disk => &[AlertKind::DiskRoom],
            Self::Version => &[AlertKind::VersionDrift],
        }
    }
}
