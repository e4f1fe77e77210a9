//! Whatever a path says, it is refused or stays inside.

use std::path::{Component, Path};

use proptest::prelude::*;
use tradewind_artifacts::bundle::{check_index, check_path};
use tradewind_core::{
    Digest,
    bundle::{BundleFile, BundleIndex},
    causes::chain,
};

use crate::{directory, files_below, source::Source};

fn hostile_component() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just(String::new()),
        Just("a\\b".to_owned()),
        Just("a\0b".to_owned()),
        Just("a\nb".to_owned()),
        Just("*".to_owned()),
        Just("x".repeat(256)),
    ]
}

fn plain_component() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9._ -]{1,12}".prop_filter("plain", |text| text != "." && text != "..")
}

proptest! {
    #[test]
    fn one_hostile_component_is_enough(
        before in prop::collection::vec(plain_component(), 0..4),
        hostile in hostile_component(),
        after in prop::collection::vec(plain_component(), 0..4),
    ) {
        let path = [before, vec![hostile], after].concat().join("/");
        prop_assert!(check_path(&path).is_err(), "{path:?} was accepted");
    }

    #[test]
    fn what_is_accepted_stays_inside(path in r"[ab./\\*\x00~]{0,12}|\PC{0,20}") {
        if check_path(&path).is_ok() {
            let plain = Path::new(&path).components().all(|component| matches!(component, Component::Normal(_)));
            prop_assert!(plain && !path.is_empty() && !path.contains('\0'), "{path:?} was accepted");
            prop_assert!(!path.ends_with('/'));
        }
    }

    #[test]
    fn plain_paths_are_accepted(components in prop::collection::vec(plain_component(), 1..5)) {
        let path = components.join("/");
        prop_assert_eq!(check_path(&path), Ok(()));
    }
}

fn index(paths: &[&str]) -> BundleIndex {
    let file = BundleFile { size: 1, digest: Digest::from_bytes([1; 32]), executable: false };
    BundleIndex { files: paths.iter().map(|path| ((*path).to_owned(), file.clone())).collect() }
}

#[test]
fn an_index_that_cannot_be_a_directory_is_refused() {
    for paths in [&["../x"][..], &["a", "A"], &["straße", "STRAßE"], &["a", "a/b"], &["A", "a/b/c"], &["/x"]] {
        assert!(check_index(&index(paths)).is_err(), "{paths:?} was accepted");
    }
    assert!(check_index(&index(&["a", "b/a", "b/c"])).is_ok());
    let mut huge = index(&["a", "b"]);
    huge.files.get_mut("a").unwrap().size = u64::MAX;
    assert!(check_index(&huge).is_err());
    let many = BundleIndex { files: (0..10_001).map(|n| (n.to_string(), index(&["a"]).files["a"].clone())).collect() };
    assert!(check_index(&many).is_err());
}

#[tokio::test]
async fn a_hostile_index_touches_nothing() {
    let place = directory(&[]);
    let root = place.path().join("agent");
    let installer = tradewind_artifacts::Installer::open(&root).await.unwrap();
    let (source, index) = Source::new(&[("../../evil", b"x")]);
    let error = installer.install(&index, &source, &|_| {}).await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(chain(&error).contains("the bundle may not contain `../../evil`"), "{}", chain(&error));
    assert!(source.offsets().is_empty());
    assert_eq!(files_below(place.path()), [""; 0]);
}
