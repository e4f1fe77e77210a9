use std::time::Duration;

use tradewind_process::{Exit, Family, Process};

use crate::{DEADLINE, in_time, sh, until};

const VARIABLE: &str = "TRADEWIND_TEST_FAMILY";

/// A shell with a child, and a grandchild in a session of its own.
async fn family(name: &str, script: &str) -> (Process, Family) {
    let value = format!("{name}-{}", std::process::id());
    let family = Family::new(VARIABLE, &value);
    assert!(family.members().is_empty());
    let head =
        sh(&format!("sleep 1000 & setsid sh -c 'sleep 1000 & wait' & {script}")).env(VARIABLE, &value).spawn().unwrap();
    until("all have started", || family.members().len() == 4).await;
    (head, family)
}

#[tokio::test]
async fn a_family_is_ended_with_all_its_descendants() {
    let (head, family) = family("polite", "trap 'exit 7' TERM; wait").await;
    assert_eq!(family.members()[0], *head.identity(), "the oldest comes first");
    in_time(family.terminate(Some(&head), DEADLINE)).await.unwrap();
    assert!(family.members().is_empty());
    assert_eq!(in_time(head.exited()).await, Exit::Code(7), "its exit status is not lost");
}

#[tokio::test]
async fn who_outlives_the_head_or_its_grace_is_killed() {
    let (head, family) = family("deaf", "trap '' TERM; exec sleep 1000").await;
    in_time(family.terminate(Some(&head), Duration::from_millis(50))).await.unwrap();
    assert!(family.members().is_empty());
    assert_eq!(in_time(head.exited()).await, Exit::Signal(9));

    let (head, family) = self::family("orphans", "wait").await;
    head.kill().unwrap();
    in_time(head.exited()).await;
    assert_eq!(family.members().len(), 3);
    in_time(family.kill(None)).await.unwrap();
    assert!(family.members().is_empty());
}
