//! What the region should run: the last good message of control, in memory and on disk.

use std::{fs, io, path::Path, sync::Arc};

use tokio::sync::watch;
use tradewind_api::{agent::RegionAssignments, auth::write_private};
use tradewind_core::{ModelName, RegionName, assignment::Assignment};

/// Why a message was not taken up, or not wholly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("it is for region {0}")]
    Region(RegionName),
    #[error("it shows revision {offered}, revision {held} is known already")]
    Older { offered: u64, held: u64 },
    #[error("its assignment of {0} is older than the one that is known")]
    Generation(ModelName),
}

/// What is held after `offered` arrived, and what of it was refused. Pure.
pub(crate) fn merge(
    region: &RegionName,
    held: Option<&RegionAssignments>,
    mut offered: RegionAssignments,
) -> Result<(RegionAssignments, Vec<Refusal>), Refusal> {
    if offered.region != *region {
        return Err(Refusal::Region(offered.region));
    }
    // Another incarnation was restored from a snapshot: its numbers start over.
    let Some(held) = held.filter(|held| held.incarnation == offered.incarnation) else {
        return Ok((offered, Vec::new()));
    };
    if offered.revision < held.revision {
        return Err(Refusal::Older { offered: offered.revision, held: held.revision });
    }
    let mut refused = Vec::new();
    for assignment in &mut offered.assignments {
        let newer = |known: &&Assignment| known.model == assignment.model && known.generation > assignment.generation;
        if let Some(known) = held.assignments.iter().find(newer) {
            refused.push(Refusal::Generation(assignment.model.clone()));
            assignment.clone_from(known);
        }
    }
    Ok((offered, refused))
}

/// The desired state, for everyone in the agent. It changes only after the change is on disk.
#[derive(Debug)]
pub(crate) struct Desired {
    region: RegionName,
    state: watch::Sender<Option<Arc<RegionAssignments>>>,
}

impl Desired {
    /// Begins with what `path` holds; a file that is damaged counts as absent.
    pub(crate) fn load(region: RegionName, path: &Path) -> Self {
        let state = match read(path) {
            Ok(state) => state.filter(|state| state.region == region),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the last desired state cannot be read; waiting for control");
                None
            }
        };
        Self { region, state: watch::Sender::new(state.map(Arc::new)) }
    }

    pub(crate) fn current(&self) -> Option<Arc<RegionAssignments>> {
        self.state.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<RegionAssignments>>> {
        self.state.subscribe()
    }

    /// Takes up a message of control, as far as it is not older than what is held. Returns what was refused of it.
    pub(crate) async fn offer(&self, offered: RegionAssignments, path: &Path) -> Result<Vec<Refusal>, OfferError> {
        let held = self.current();
        let (merged, refused) = merge(&self.region, held.as_deref(), offered)?;
        let merged = Arc::new(merged);
        if !held.is_some_and(|held| same_but_for_revision(&held, &merged)) {
            let (path, content) = (path.to_owned(), Arc::clone(&merged));
            let written = tokio::task::spawn_blocking(move || write(&path, &content)).await;
            written.unwrap_or_else(|panic| Err(io::Error::other(panic))).map_err(OfferError::Write)?;
        }
        self.state.send_replace(Some(merged));
        Ok(refused)
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum OfferError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("it cannot be written down")]
    Write(#[source] io::Error),
}

fn same_but_for_revision(one: &RegionAssignments, other: &RegionAssignments) -> bool {
    one.incarnation == other.incarnation && one.mesh_token == other.mesh_token && one.assignments == other.assignments
}

fn write(path: &Path, state: &RegionAssignments) -> io::Result<()> {
    let json = serde_json::to_vec(state).expect("wire types have string keys and finite numbers");
    let mut content = blake3::hash(&json).to_hex().as_bytes().to_vec();
    content.push(b'\n');
    content.extend_from_slice(&json);
    write_private(path, &content)
}

fn read(path: &Path) -> io::Result<Option<RegionAssignments>> {
    let content = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    let invalid = |message: &str| io::Error::new(io::ErrorKind::InvalidData, message.to_owned());
    let end = content.iter().position(|&byte| byte == b'\n').ok_or_else(|| invalid("it has no checksum"))?;
    let (checksum, json) = (&content[..end], &content[end + 1..]);
    if checksum != blake3::hash(json).to_hex().as_bytes() {
        return Err(invalid("its checksum is wrong"));
    }
    Ok(Some(serde_json::from_slice(json)?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tradewind_core::Generation;

    use super::*;

    fn state(incarnation: &str, revision: u64, generations: &[(&str, u64)]) -> RegionAssignments {
        let region: RegionName = "us-east1".parse().unwrap();
        let assignment = |&(model, generation): &(&str, u64)| Assignment {
            region: region.clone(),
            model: model.parse().unwrap(),
            generation: Generation(generation),
            slots: BTreeMap::new(),
            by_hand: None,
        };
        RegionAssignments {
            region: region.clone(),
            incarnation: incarnation.to_owned(),
            revision,
            mesh_token: "t".to_owned(),
            assignments: generations.iter().map(assignment).collect(),
        }
    }

    fn check(held: &RegionAssignments, offered: RegionAssignments, expected: Result<&[(&str, u64)], Refusal>) {
        let merged = merge(&held.region, Some(held), offered).map(|(merged, _)| {
            let entry = |each: &Assignment| (each.model.to_string(), each.generation.0);
            merged.assignments.iter().map(entry).collect::<Vec<_>>()
        });
        let expected = expected.map(|list| list.iter().map(|&(model, n)| (model.to_owned(), n)).collect::<Vec<_>>());
        assert_eq!(merged, expected);
    }

    #[test]
    fn nothing_goes_back_within_an_incarnation() {
        let held = state("a", 10, &[("x", 5), ("y", 7)]);
        check(&held, state("a", 11, &[("x", 6), ("y", 7)]), Ok(&[("x", 6), ("y", 7)]));
        check(&held, state("a", 11, &[("x", 4), ("y", 8)]), Ok(&[("x", 5), ("y", 8)]));
        check(&held, state("a", 9, &[("x", 6)]), Err(Refusal::Older { offered: 9, held: 10 }));
        check(&held, state("a", 11, &[]), Ok(&[]));
        check(&held, state("b", 1, &[("x", 1)]), Ok(&[("x", 1)]));
        let mut foreign = state("a", 12, &[]);
        foreign.region = "eu".parse().unwrap();
        check(&held, foreign.clone(), Err(Refusal::Region(foreign.region)));
    }

    #[test]
    fn what_is_on_disk_is_read_back_and_damage_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("desired.json");
        assert_eq!(read(&path).unwrap(), None);
        let held = state("a", 10, &[("x", 5)]);
        write(&path, &held).unwrap();
        assert_eq!(read(&path).unwrap(), Some(held.clone()));
        assert_eq!(Desired::load(held.region.clone(), &path).current().as_deref(), Some(&held));

        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"revision\":10", "\"revision\":11")).unwrap();
        assert!(read(&path).is_err());
        assert_eq!(Desired::load(held.region, &path).current(), None);
    }
}
