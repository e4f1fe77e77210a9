use tokio_util::sync::CancellationToken;
use tradewind_process::{Exit, Identity, become_subreaper, children, reap_orphans};

use crate::{again, in_time, plays_child, read_when_written, sh, until};

/// Plays in a process of its own, since it takes in the orphans of the whole process.
#[tokio::test]
async fn orphans_are_reaped_and_children_keep_their_status() {
    if !plays_child() {
        let process = again("orphans::orphans_are_reaped_and_children_keep_their_status").spawn().unwrap();
        assert_eq!(in_time(process.exited()).await, Exit::Code(0));
        return;
    }
    become_subreaper().unwrap();
    let shutdown = CancellationToken::new();
    let reaper = tokio::spawn(reap_orphans(shutdown.clone()));

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let parent = sh(&format!("sleep 1000 & echo $! > {}; exit 4", file.display())).spawn().unwrap();
    let claimed = sh("exit 6").spawn().unwrap();
    let dropped = sh("exit 0").spawn().unwrap().identity().pid;

    until("the orphan's pid is written", || read_when_written(&file).is_some()).await;
    let pid = read_when_written(&file).unwrap().trim().parse().unwrap();
    let orphan = Identity::of(pid).unwrap();
    until("the orphan was handed over", || children().contains(&orphan)).await;
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid as i32).unwrap(), tradewind_process::Signal::KILL)
        .unwrap();
    until("the orphan is reaped", || Identity::of(pid).is_none()).await;
    until("the child that nobody watches is reaped", || Identity::of(dropped).is_none()).await;

    // Both have ended long since, and the reaper has looked at them.
    assert_eq!(in_time(parent.exited()).await, Exit::Code(4));
    assert_eq!(in_time(claimed.exited()).await, Exit::Code(6));
    shutdown.cancel();
    in_time(reaper).await.unwrap().unwrap();
}
