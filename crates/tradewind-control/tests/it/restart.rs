//! Starting, and starting again.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tradewind_api::status::EventQuery;
use tradewind_control::Error;
use tradewind_core::VersionNumber;

use crate::{
    control::{Control, model, options},
    members::{agent_report, gateway_report},
};

#[tokio::test]
async fn everything_that_was_acknowledged_is_there_after_a_restart() {
    let control = Control::start().await;
    control.push("digits", &[("model.onnx", "weights")]).await.unwrap();
    control.client("agent/us-east1").report_agent(&agent_report("us-east1", Vec::new())).await.unwrap();
    control.client("gateway/us-east1").report_gateway(&gateway_report("us-east1")).await.unwrap();
    let (models, admin) = (control.admin.models().await.unwrap(), control.token("admin"));
    let version = control.admin.version(&model("digits"), VersionNumber(1)).await.unwrap();

    let control = control.restart().await;
    assert_eq!(control.token("admin"), admin);
    assert_eq!(control.admin.models().await.unwrap().models.len(), models.models.len());
    assert_eq!(control.admin.version(&model("digits"), VersionNumber(1)).await.unwrap(), version);
    assert!(!control.push("digits", &[("model.onnx", "weights")]).await.unwrap().created);
    let regions = control.admin.regions().await.unwrap().regions;
    let us = regions.iter().find(|region| region.name.as_str() == "us-east1").unwrap();
    assert_eq!((us.agents.len(), us.gateways.len()), (1, 1));
    assert!(!us.agents[0].alive && !us.gateways[0].alive);
    let pushed = EventQuery { model: Some(model("digits")), ..EventQuery::default() };
    assert_eq!(control.admin.events(&pushed).await.unwrap().events.len(), 1);
    control.stop().await;
}

#[tokio::test]
async fn a_busy_port_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address: SocketAddr = taken.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let error = tradewind_control::run(options(directory.path(), address), CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, Error::PortBusy { .. }), "{error:?}");
    assert!(error.to_string().contains(&address.port().to_string()) && error.hint().is_some(), "{error}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was touched");
}

#[tokio::test]
async fn a_data_directory_has_one_control_plane() {
    let control = Control::start().await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let options = options(control.directory(), address);
    let error = tradewind_control::run(options, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, Error::Store { .. }), "{error:?}");
    control.stop().await;
}
