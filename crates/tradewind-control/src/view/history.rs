//! The revisions of a deployment.

use std::collections::BTreeMap;

use tradewind_api::deploy::HistoryEntry;
use tradewind_core::{
    RevisionNumber,
    deployment::{Deployment, Revision},
    rollout::{Rollout, RolloutState},
};

/// Newest first. `revisions` and `rollouts` are in the order of their numbers.
pub(crate) fn view(revisions: &[Revision], rollouts: &[Rollout], deployment: Option<&Deployment>) -> Vec<HistoryEntry> {
    let live = deployment.and_then(|deployment| deployment.live);
    // A later rollout of the same revision takes the earlier one's place.
    let states: BTreeMap<RevisionNumber, RolloutState> =
        rollouts.iter().map(|rollout| (rollout.revision, rollout.state)).collect();
    let before = std::iter::once(None).chain(revisions.iter().map(Some));
    let mut entries: Vec<HistoryEntry> = revisions
        .iter()
        .zip(before)
        .map(|(revision, before)| HistoryEntry {
            revision: revision.number,
            version: revision.spec.version,
            regions: revision.spec.regions.clone(),
            created_at: revision.created_at,
            scale: revision.spec.scale.clone(),
            created_by: revision.created_by.clone(),
            changes: revision.spec.changes_since(before.map(|before| &before.spec)),
            state: states.get(&revision.number).copied(),
            live: live == Some(revision.number),
            bad: deployment.and_then(|deployment| deployment.bad.get(&revision.number).cloned()),
            copy_of: revision.copy_of,
            rollouts: rollouts
                .iter()
                .filter(|rollout| rollout.revision == revision.number)
                .map(|rollout| rollout.number)
                .collect(),
        })
        .collect();
    entries.reverse();
    entries
}
