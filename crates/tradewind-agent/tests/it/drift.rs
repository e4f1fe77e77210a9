//! Installed bundles that somebody alters.

use std::os::unix::fs::PermissionsExt;

use tradewind_core::event::EventKind;

use crate::world::{World, case, good};

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_model_is_found_put_right_and_loaded_again() {
    let mut world = World::start().await;
    let digest = world.push(1, &good(), &[("cases/001.json", case())]);
    world.assign(world.slot(1, digest, 2));
    world.change(|slot| slot.verify = Some(1));
    world.blue("verified", |slot| slot.verification.is_some()).await;
    let before: Vec<String> = world.records().into_iter().map(|record| record.id).collect();

    let path = world.installed(&digest).join("model.onnx");
    let content = std::fs::read(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, r#"{"label": 9, "crash": null}"#).unwrap();

    let found = world.event(EventKind::DriftFound).await;
    assert_eq!(found.message, "the installed bundle of digits 1 was altered: `model.onnx` was altered");
    world.event(EventKind::DriftRepaired).await;
    assert_eq!(std::fs::read(&path).unwrap(), content);
    // While one is replaced the others serve: never fewer than two.
    let replaced = |all: &[tradewind_api::agent::Endpoint]| {
        assert!(all.iter().filter(|each| each.ready).count() >= 2, "{all:?}");
        all.len() == 2 && all.iter().all(|each| !before.contains(&each.id))
    };
    world.endpoints("both replaced", replaced).await;
    assert!(!world.kinds().contains(&EventKind::ReplicaExited), "{:?}", world.kinds());
}
