use std::{fs, os::unix::fs::symlink, path::Path, time::SystemTime};

use tempfile::TempDir;
use tradewind_artifacts::{Check, Drift, Installer, bundle_digest};
use tradewind_core::bundle::BundleIndex;

use crate::{ONNX_START, directory, files_below, source::Source};

struct Installed {
    _place: TempDir,
    installer: Installer,
    source: Source,
    index: BundleIndex,
}

impl Installed {
    async fn new() -> Self {
        let place = directory(&[]);
        let installer = Installer::open(place.path()).await.unwrap();
        let (source, index) = Source::new(&[("model.onnx", ONNX_START), ("w/a.bin", b"aaaa"), ("w/b.bin", b"bbbb")]);
        installer.install(&index, &source, &|_| {}).await.unwrap();
        source.offsets();
        Self { _place: place, installer, source, index }
    }

    /// Does harm, expects it to be found, and to be repaired with so many fetches.
    async fn check(&self, harm: impl Fn(&Path), expected: &[Drift], fetches: usize) {
        let directory = self.installer.path_of(&bundle_digest(&self.index));
        harm(&directory);
        for how in [Check::Quick, Check::Full] {
            assert_eq!(self.installer.check(&self.index, how).await.unwrap(), expected, "{how:?}");
        }
        let repaired = self.installer.repair(&self.index, &self.source, &|_| {}).await.unwrap();
        assert_eq!(repaired, directory);
        assert_eq!(self.source.offsets().len(), fetches);
        assert_eq!(self.installer.check(&self.index, Check::Full).await.unwrap(), []);
        assert_eq!(files_below(&directory), ["model.onnx", "w/a.bin", "w/b.bin"]);
    }
}

fn altered(path: &str) -> Drift {
    Drift::Altered { path: path.to_owned() }
}

fn overwrite(path: &Path, content: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
}

#[tokio::test]
async fn harm_is_found_and_repaired_with_what_is_still_right() {
    let installed = Installed::new().await;
    installed.check(|at| overwrite(&at.join("w/a.bin"), b"AAAA"), &[altered("w/a.bin")], 1).await;
    installed.check(|at| overwrite(&at.join("w/a.bin"), b"a"), &[altered("w/a.bin")], 1).await;
    let gone = Drift::Missing { path: "w/b.bin".to_owned() };
    installed.check(|at| fs::remove_file(at.join("w/b.bin")).unwrap(), &[gone], 1).await;
    let extra = Drift::Extra { path: "w/c.bin".to_owned() };
    installed.check(|at| fs::write(at.join("w/c.bin"), b"").unwrap(), &[extra], 0).await;
    let all = ["model.onnx", "w/a.bin", "w/b.bin"].map(|path| Drift::Missing { path: path.to_owned() });
    installed.check(|at| fs::remove_dir_all(at).unwrap(), &all, 3).await;
}

#[tokio::test]
async fn a_link_in_a_files_place_is_harm_and_is_not_followed() {
    let installed = Installed::new().await;
    let outside = directory(&[("a.bin", b"aaaa")]);
    let target = outside.path().join("a.bin");
    let harm = |at: &Path| {
        fs::remove_file(at.join("w/a.bin")).unwrap();
        symlink(&target, at.join("w/a.bin")).unwrap();
    };
    installed.check(harm, &[altered("w/a.bin")], 1).await;
    let harm = |at: &Path| {
        fs::remove_dir_all(at.join("w")).unwrap();
        symlink(outside.path(), at.join("w")).unwrap();
    };
    let directory = installed.installer.path_of(&bundle_digest(&installed.index));
    harm(&directory);
    let found = installed.installer.check(&installed.index, Check::Full).await.unwrap();
    assert!(found.contains(&Drift::Extra { path: "w".to_owned() }), "{found:?}");
    installed.installer.repair(&installed.index, &installed.source, &|_| {}).await.unwrap();
    assert_eq!(installed.installer.check(&installed.index, Check::Full).await.unwrap(), []);
    assert_eq!(fs::read(&target).unwrap(), b"aaaa", "what the link led to is untouched");
}

#[tokio::test]
async fn a_quick_check_is_not_fooled_by_a_restored_time() {
    let installed = Installed::new().await;
    let harm = |at: &Path| {
        let path = at.join("w/a.bin");
        let before: SystemTime = fs::metadata(&path).unwrap().modified().unwrap();
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        fs::set_permissions(&path, permissions).unwrap();
        fs::write(&path, b"AAAA").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    };
    installed.check(harm, &[altered("w/a.bin")], 1).await;
}

#[tokio::test]
async fn touching_a_file_is_no_harm() {
    let installed = Installed::new().await;
    let path = installed.installer.path_of(&bundle_digest(&installed.index)).join("w/a.bin");
    overwrite(&path, b"aaaa");
    assert_eq!(installed.installer.check(&installed.index, Check::Quick).await.unwrap(), []);
}

#[tokio::test]
async fn who_has_an_old_file_open_keeps_it_through_a_repair() {
    let installed = Installed::new().await;
    let directory = installed.installer.path_of(&bundle_digest(&installed.index));
    let open = fs::File::open(directory.join("model.onnx")).unwrap();
    installed
        .check(|at| fs::remove_file(at.join("w/a.bin")).unwrap(), &[Drift::Missing { path: "w/a.bin".into() }], 1)
        .await;
    assert_eq!(std::io::read_to_string(open).unwrap().as_bytes(), ONNX_START);
}

#[tokio::test]
async fn what_is_unused_is_removed_and_the_rest_stays() {
    let installed = Installed::new().await;
    let (other, other_index) = Source::new(&[("model.onnx", b"other")]);
    let installer = &installed.installer;
    installer.install(&other_index, &other, &|_| {}).await.unwrap();
    let (kept, unused) = (bundle_digest(&installed.index), bundle_digest(&other_index));
    assert_eq!(installer.remove_unused(&[kept]).await.unwrap(), [unused]);
    assert_eq!(installer.installed().await.unwrap(), [kept]);
    assert!(!installer.path_of(&unused).exists());
    assert_eq!(installer.check(&installed.index, Check::Full).await.unwrap(), []);
    assert_eq!(installer.remove_unused(&[kept]).await.unwrap(), []);
}
