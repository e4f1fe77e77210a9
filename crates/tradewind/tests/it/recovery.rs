//! Processes that die at the worst moment, and what is true afterwards.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use tradewind_core::RegionName;
use tradewind_testkit::{Host, Load, Roles, eventually_ok};

mod everything;
mod push;
mod rollout;

const REGIONS: [&str; 2] = ["us-east1", "europe-west1"];
const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits");
/// Ten times what a step needs on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Roles on this machine's loopback, none of them running.
fn roles() -> Result<Roles> {
    let this = Host::this();
    Roles::new(env!("CARGO_BIN_EXE_tradewind"), &this, &REGIONS.map(|region| (region, &this)))
}

fn request() -> Result<String> {
    Ok(fs::read_to_string(format!("{DIGITS}/request.json"))?)
}

fn infer(model: &str) -> String {
    format!("/v2/models/{model}/infer")
}

fn gateways(roles: &Roles) -> Result<Vec<(RegionName, String)>> {
    roles.regions().map(|region| Ok((region.clone(), roles.gateway(region.as_str())?))).collect()
}

/// One user at each gateway.
fn users(roles: &Roles, model: &str) -> Result<Load> {
    Load::start(&gateways(roles)?, 1, Duration::from_millis(20), &infer(model), &request()?)
}

/// Waits until each region's gateway answers from its own region with a revision at an epoch.
async fn serves(roles: &Roles, model: &str, revision: u64, epoch: u64) -> Result<()> {
    let http = tradewind_api::client::http_client().build()?;
    let body = request()?;
    for (region, gateway) in gateways(roles)? {
        let url = format!("{gateway}{}", infer(model));
        let what = format!("{region} serves revision {revision} of {model} at epoch {epoch}");
        eventually_ok(&what, DEADLINE, || async {
            let answer = http.post(&url).body(body.clone()).send().await?;
            let header = |name: &str| -> Result<String> {
                Ok(answer.headers().get(name).with_context(|| format!("no {name}"))?.to_str()?.to_owned())
            };
            ensure!(answer.status().is_success(), "{}", answer.status());
            let got = (header("x-tradewind-region")?, header("x-tradewind-revision")?, header("x-tradewind-epoch")?);
            ensure!(got == (region.to_string(), revision.to_string(), epoch.to_string()), "{got:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
