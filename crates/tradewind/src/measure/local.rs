//! A version of a model, installed on this machine for as long as it is looked at.

use std::path::PathBuf;

use indicatif::ProgressBar;
use tempfile::TempDir;
use tradewind_api::Code;
use tradewind_artifacts::{Installer, Progress};
use tradewind_core::{
    ModelName, VersionNumber,
    bundle::{ModelVersion, Runtime},
    inference::InferRequest,
    verify::{Case, smoke_request},
};

use super::{Question, failed};
use crate::{failure::Failure, session::Session};

#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) version: ModelVersion,
    /// The installed bundle.
    pub(crate) directory: PathBuf,
    _kept: TempDir,
}

impl Local {
    /// Fetches a version, the newest unless one is named. Only models that ONNX Runtime executes can be looked at so.
    pub(crate) async fn fetch(
        session: &Session,
        name: &ModelName,
        version: Option<VersionNumber>,
        bar: &ProgressBar,
    ) -> Result<Self, Failure> {
        let version = match version {
            Some(version) => session.client.version(name, version).await?,
            None => {
                let newest = session.client.model(name).await?.versions.into_iter().next();
                newest.ok_or_else(|| Failure::new(Code::NotFound, format!("{name} has no version")))?
            }
        };
        if version.manifest.runtime == Runtime::Command {
            let message = format!("{name} {} is a server of its author's own", version.version);
            return Err(Failure::new(Code::Refused, message).hint("this is for ONNX models"));
        }
        let kept = tempfile::tempdir().map_err(|error| failed("cannot make a directory for the model", &error))?;
        let installer =
            Installer::open(kept.path()).await.map_err(|error| failed("cannot install the model", &error))?;
        let told = |progress: Progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        };
        let installed = installer.install(&version.index, &session.client, &told).await;
        let directory = installed.map_err(|error| failed("cannot install the model", &error))?;
        Ok(Self { version, directory, _kept: kept })
    }

    pub(crate) fn name(&self) -> &ModelName {
        &self.version.name
    }

    /// What is asked of it: the request of its first golden case, or a made-up one.
    pub(crate) fn question(&self) -> Result<Question, Failure> {
        Question::of(self.name(), &self.request()?)
    }

    /// Its golden cases, by their paths.
    pub(crate) fn cases(&self) -> Result<Vec<(String, Case)>, Failure> {
        let cases = self.version.cases.iter().map(|path| {
            let content =
                std::fs::read(self.directory.join(path)).map_err(|error| failed("cannot read a case", &error))?;
            let case = Case::parse(&content).map_err(|error| failed("a golden case cannot be read", &error))?;
            Ok((path.clone(), case))
        });
        cases.collect()
    }

    fn request(&self) -> Result<InferRequest, Failure> {
        let first = self.cases()?.into_iter().find_map(|(_, case)| match case {
            Case::Inference(case) => Some(case.request),
            Case::Http(_) => None,
        });
        let made_up = || smoke_request(&self.version.signature, 1);
        first.map_or_else(made_up, Ok).map_err(|error| failed("no request can be made up for the model", &error))
    }
}
