//! What becomes of a result that is good enough: a version of the registry.

use std::{
    io,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tradewind_api::models::Published;
use tradewind_core::{ModelName, bundle::lineage::Lineage};

use crate::{
    commands::models::push,
    failure::Failure,
    measure::Local,
    session::Session,
    terminal::{self, Format},
};

/// Golden cases, within what the evaluation writes and within a bundle.
const CASES: &str = "cases";

/// What users get now, to compare with; `None` where no version of the model is deployed.
pub(super) async fn live(session: &Session, model: &ModelName, format: Format) -> Result<Option<Local>, Failure> {
    let status = match session.client.deployment_status(model).await {
        Ok(status) => status,
        Err(error) => {
            let failure = Failure::from(error);
            return if failure.is_not_found() { Ok(None) } else { Err(failure) };
        }
    };
    let Some(version) = status.version else { return Ok(None) };
    let bar = terminal::spinner(format, "fetching what is live");
    let local = Local::fetch(session, model, Some(version), &bar).await;
    bar.finish_and_clear();
    local.map(Some)
}

/// Publishes the bundle in `directory`, with golden cases that lie in `cases`.
pub(super) async fn publish(
    session: &Session,
    model: &ModelName,
    directory: &Path,
    evaluation: Option<&Path>,
    lineage: Lineage,
    format: Format,
) -> Result<Published, Failure> {
    let bundle = assemble(directory, evaluation)
        .map_err(|error| Failure::failed("cannot put the bundle together").cause(error.to_string()))?;
    let source = bundle.path().to_string_lossy().into_owned();
    push::push(session, &source, Some(model.clone()), Some(lineage), format).await
}

/// A copy of the bundle with the golden cases of the evaluation in it, beside those that it has.
fn assemble(directory: &Path, evaluation: Option<&Path>) -> io::Result<TempDir> {
    let bundle = tempfile::tempdir()?;
    copy(directory, bundle.path())?;
    if let Some(cases) = evaluation.map(|evaluation| evaluation.join(CASES)).filter(|cases| cases.is_dir()) {
        copy(&cases, &bundle.path().join(CASES))?;
    }
    Ok(bundle)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
