//! Real processes: how they end, who may wait for them, what they are given.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod families;
mod groups;
mod handles;
mod identities;
mod orphans;
mod sockets;

use std::{
    future::Future,
    path::{Path, PathBuf},
    time::Duration,
};

use tradewind_process::{Process, Spawn};

/// Ten times and more what anything here takes.
const DEADLINE: Duration = Duration::from_secs(30);

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("took longer than the deadline")
}

/// Polls a condition that nothing announces.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, poll).await.unwrap_or_else(|_| panic!("{what}: not within the deadline"));
}

fn sh(script: &str) -> Spawn {
    Spawn::new("/bin/sh").arg("-c").arg(script)
}

async fn log_of(spawn: Spawn) -> String {
    let directory = tempfile::tempdir().unwrap();
    let log: PathBuf = directory.path().join("log");
    in_time(spawn.log(&log).spawn().unwrap().exited()).await;
    std::fs::read_to_string(&log).unwrap()
}

fn read_when_written(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))
}

/// This test binary again, running only `test`, in a process of its own.
fn again(test: &str) -> Spawn {
    Spawn::new(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env("PLAYS_CHILD", "1")
}

fn plays_child() -> bool {
    std::env::var_os("PLAYS_CHILD").is_some()
}

/// Ends a process that a test leaves behind, whatever becomes of the test.
struct Ended(Process);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}
