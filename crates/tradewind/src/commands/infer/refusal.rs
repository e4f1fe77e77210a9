//! A request that was refused: what was wrong with it, and what the model wants instead.

use serde_json::Value;
use tradewind_api::{Code, client};
use tradewind_core::{ModelName, RegionName, VersionNumber, bundle::TensorSpec};

use crate::{failure::Failure, session::Session};

/// An answer other than a result.
#[derive(Debug)]
pub(super) struct Refusal {
    status: u16,
    detail: String,
    /// Who gave it.
    region: String,
}

impl Refusal {
    pub(super) fn new(status: u16, body: &[u8], region: Option<String>, entered: &RegionName) -> Self {
        let body: Option<Value> = serde_json::from_slice(body).ok();
        let said = body.as_ref().and_then(|body| body.get("error")).and_then(Value::as_str);
        let detail = said.map_or_else(|| format!("the gateway answered with status {status}"), str::to_owned);
        Self { status, detail, region: region.unwrap_or_else(|| entered.to_string()) }
    }

    fn code(&self) -> Code {
        match self.status {
            404 => Code::NotFound,
            413 => Code::TooLarge,
            400..=428 | 430..=499 => Code::Invalid,
            429 | 502..=504 => Code::Unavailable,
            _ => Code::Internal,
        }
    }

    /// The failure, with a hint that comes from what control knows of the model, as far as it can be asked.
    pub(super) async fn explain(self, session: &Session, model: &ModelName, asked: Option<VersionNumber>) -> Failure {
        let hint = match self.code() {
            Code::NotFound => not_found(session, model, asked).await,
            Code::Invalid => wanted(session, model, asked).await,
            Code::TooLarge => "send it as several smaller requests".to_owned(),
            Code::Unavailable => "see how its regions are with `tradewind status`".to_owned(),
            _ => format!("see its log with `tradewind logs {model} --region {}`", self.region),
        };
        Failure::new(self.code(), self.detail).hint(hint)
    }
}

/// Why nothing answers to a name: it may be another model's, or this model may not be deployed.
async fn not_found(session: &Session, model: &ModelName, asked: Option<VersionNumber>) -> String {
    let status = match session.client.deployment_status(model).await {
        Ok(status) => status,
        Err(client::Error::Problem(problem)) if problem.code == Code::NotFound => {
            let list = || "see what there is with `tradewind models list`".to_owned();
            return problem.hint.unwrap_or_else(list);
        }
        Err(_) => return "see what serves with `tradewind status`".to_owned(),
    };
    match status.version.filter(|version| asked.is_some_and(|asked| asked != *version)) {
        Some(version) => format!("version {version} serves: tradewind infer {model}:{version}"),
        None => format!("see where it serves with `tradewind status {model}`"),
    }
}

/// The inputs of the version that serves.
async fn wanted(session: &Session, model: &ModelName, asked: Option<VersionNumber>) -> String {
    match inputs(session, model, asked).await {
        Ok(Some((version, inputs))) => {
            let inputs: Vec<String> = inputs.iter().map(ToString::to_string).collect();
            format!(
                "{model} {version} wants {}; see it in full with `tradewind models show {model}:{version}`",
                inputs.join(", ")
            )
        }
        Ok(None) | Err(_) => format!("see what it wants with `tradewind models show {model}`"),
    }
}

async fn inputs(
    session: &Session,
    model: &ModelName,
    asked: Option<VersionNumber>,
) -> Result<Option<(VersionNumber, Vec<TensorSpec>)>, client::Error> {
    let version = match asked {
        Some(version) => Some(version),
        None => session.client.deployment_status(model).await?.version,
    };
    let Some(version) = version else { return Ok(None) };
    let inputs = session.client.version(model, version).await?.signature.inputs;
    Ok((!inputs.is_empty()).then_some((version, inputs)))
}
