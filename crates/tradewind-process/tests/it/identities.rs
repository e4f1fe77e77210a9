use std::process::{Command, Stdio};

use tradewind_process::{Identity, find_by_argument};

use crate::{Ended, in_time, sh, until};

#[test]
fn this_process_lives_and_its_namesakes_do_not() {
    let this = Identity::of_this_process();
    assert!(this.is_alive());
    assert!(!Identity { start_time: this.start_time + 1, ..this.clone() }.is_alive(), "another start time");
    assert!(!Identity { boot_id: "before the power cut".to_owned(), ..this.clone() }.is_alive(), "another boot");
    assert_eq!(Identity::of(u32::MAX), None);
    let stored = serde_json::to_string(&this).unwrap();
    assert_eq!(serde_json::from_str::<Identity>(&stored).unwrap(), this);
}

#[tokio::test]
async fn a_zombie_is_dead() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let identity = Identity::of(child.id()).unwrap();
    assert!(identity.is_alive());
    drop(child.stdin.take());
    until("the child is a zombie", || !identity.is_alive()).await;
    assert_eq!(Identity::of(child.id()), Some(identity), "it is still there, unreaped");
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
async fn a_process_is_found_by_a_whole_argument() {
    let id = format!("replica-{}", std::process::id());
    let process = sh("kill -STOP $$").arg(&id).spawn().unwrap();
    let _ended = Ended(process.clone());
    let found = find_by_argument(&id);
    assert_eq!(found, [process.identity().clone()]);
    assert_eq!(find_by_argument(&id[1..]), []);
    process.kill().unwrap();
    in_time(process.exited()).await;
    assert_eq!(find_by_argument(&id), []);
}
