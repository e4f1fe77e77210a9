//! Bundles as strangers might send them, transfers that break, disks that change behind our back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod blobs;
mod bundles;
mod fuzz;
mod hostile;
mod installs;
mod repairs;
mod source;

use std::{fs, path::Path, time::Duration};

use tempfile::TempDir;

/// Tests of readers watch what these take.
#[global_allocator]
static COUNTING: tradewind_fuzz::Counting = tradewind_fuzz::Counting;

/// The beginning of a real ONNX file: IR version 8, producer `pytorch`.
const ONNX_START: &[u8] = b"\x08\x08\x12\x07pytorch";

/// A directory with these files.
fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, content) in files {
        write(directory.path(), path, content);
    }
    directory
}

fn write(root: &Path, path: &str, content: &[u8]) {
    let place = root.join(path);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(place, content).unwrap();
}

/// Every file below a directory, sorted, relative to it.
fn files_below(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Polls a condition that nothing announces, for at most a deadline that is ten times and more what it takes.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), poll).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}
