use std::time::{Duration, Instant};

use tradewind_process::{Error, Exit, Process, Signal, Spawn};

use crate::{DEADLINE, Ended, in_time, log_of, read_when_written, sh, until};

#[tokio::test]
async fn a_child_says_how_it_ended() {
    for (script, expected) in [
        ("exit 0", Exit::Code(0)),
        ("exit 37", Exit::Code(37)),
        ("kill -SEGV $$", Exit::Signal(11)),
        ("kill -KILL $$", Exit::Signal(9)),
    ] {
        let process = sh(script).spawn().unwrap();
        assert_eq!(in_time(process.exited()).await, expected, "{script}");
        assert_eq!(in_time(process.exited()).await, expected, "asked again: {script}");
        assert_eq!(process.clone().try_exited(), Some(expected), "asked of a clone: {script}");
        assert!(!process.identity().is_alive());
    }
}

#[tokio::test]
async fn all_who_wait_get_the_same_answer_and_leaving_loses_nothing() {
    let process = sh("read line; exit 5").spawn().unwrap();
    drop(process.exited());
    let endless = sh("exec sleep 1000").spawn().unwrap();
    let _ended = Ended(endless.clone());
    assert!(tokio::time::timeout(Duration::from_millis(20), endless.exited()).await.is_err());
    let (one, other) = in_time(async { tokio::join!(process.exited(), process.exited()) }).await;
    assert_eq!((one, other), (Exit::Code(5), Exit::Code(5)));
    endless.signal(Signal::INT).unwrap();
    assert_eq!(in_time(endless.exited()).await, Exit::Signal(2));
    endless.signal(Signal::INT).expect("a signal to what has ended does nothing");
}

#[tokio::test]
async fn terminate_is_polite_first() {
    let directory = tempfile::tempdir().unwrap();
    let ready = directory.path().join("ready");
    let script = format!("trap 'exit 3' TERM; echo > {}; while :; do sleep 0.01; done", ready.display());
    let process = sh(&script).spawn().unwrap();
    until("the trap is set", || read_when_written(&ready).is_some()).await;
    assert_eq!(in_time(process.terminate(DEADLINE)).await.unwrap(), Exit::Code(3));
    assert_eq!(in_time(process.terminate(DEADLINE)).await.unwrap(), Exit::Code(3), "once more");
}

#[tokio::test]
async fn terminate_kills_what_does_not_listen_once_the_grace_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let ready = directory.path().join("ready");
    let script = format!("trap '' TERM; echo > {}; while :; do sleep 0.01; done", ready.display());
    let process = sh(&script).spawn().unwrap();
    until("the trap is set", || read_when_written(&ready).is_some()).await;
    let grace = Duration::from_millis(200);
    let begun = Instant::now();
    assert_eq!(in_time(process.terminate(grace)).await.unwrap(), Exit::Signal(9));
    assert!(begun.elapsed() >= grace);
}

#[tokio::test]
async fn a_process_outlives_its_parent_and_is_adopted() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let parent = sh(&format!("sleep 1000 & echo $! > {}", file.display())).spawn().unwrap();
    in_time(parent.exited()).await;
    let pid = read_when_written(&file).unwrap().trim().parse().unwrap();
    let identity = tradewind_process::Identity::of(pid).unwrap();

    let adopted = Process::adopt(&identity).unwrap().expect("it runs");
    let _ended = Ended(adopted.clone());
    assert_eq!(adopted.try_exited(), None);
    adopted.kill().unwrap();
    assert_eq!(in_time(adopted.exited()).await, Exit::Unknown);
    assert!(Process::adopt(&identity).unwrap().is_none(), "adopted after its end");
}

#[tokio::test]
async fn a_reused_pid_is_not_adopted() {
    let process = sh("exec sleep 1000").spawn().unwrap();
    let _ended = Ended(process.clone());
    let mut earlier = process.identity().clone();
    earlier.start_time -= 1;
    assert!(Process::adopt(&earlier).unwrap().is_none());
    assert!(Process::adopt(process.identity()).unwrap().is_some());
}

#[tokio::test]
async fn output_is_appended_to_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let spawn = sh("echo out; echo err >&2").log(&log);
    for _ in 0..2 {
        in_time(spawn.spawn().unwrap().exited()).await;
    }
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "out\nerr\nout\nerr\n");
}

#[tokio::test]
async fn environment_and_directory_are_as_asked() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().canonicalize().unwrap();
    let spawn = sh("echo $COLOUR; echo ${HOME-unset}; pwd").current_dir(&place);
    let output = log_of(spawn.env("COLOUR", "blue").env_remove("HOME")).await;
    assert_eq!(output, format!("blue\nunset\n{}\n", place.display()));
    let bare = log_of(Spawn::new("env").env_clear().env("ONLY", "this")).await;
    assert_eq!(bare, "ONLY=this\n");
}

#[tokio::test]
async fn a_child_leads_a_session_of_its_own_and_has_no_input() {
    // The sixth field of the stat file is the session.
    let output = log_of(sh("cut -d' ' -f6 /proc/$$/stat; echo $$; cat; readlink /proc/$$/fd/0")).await;
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[0], lines[1]);
    assert_eq!(lines[2], "/dev/null");
}

#[tokio::test]
async fn no_descriptor_leaks_into_a_child() {
    let file = std::fs::File::open("/dev/null").unwrap();
    // As a careless parent or library would leave it.
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    // `ls` itself opens the directory, as 3.
    let output = log_of(Spawn::new("ls").arg("/proc/self/fd")).await;
    assert_eq!(output, "0\n1\n2\n3\n");
}

#[tokio::test]
async fn what_cannot_be_started_is_said() {
    let missing = Spawn::new("/no/such/program").spawn().unwrap_err();
    let Error::Start { source, .. } = &missing else { panic!("{missing:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
    assert_eq!(missing.to_string(), "cannot start /no/such/program");
    assert!(matches!(Spawn::new("no-such-program").spawn(), Err(Error::NotFound { .. })));
    assert!(matches!(sh("a\0b").spawn(), Err(Error::Nul { .. })));
    assert!(matches!(sh("").log("/no/such/place/log").spawn(), Err(Error::Log { .. })));
}

#[tokio::test]
async fn signals_that_this_process_ignores_are_heard_by_a_child() {
    let ignored = sh("trap '' INT TERM; exec \"$@\"").arg("sh").args(["sh", "-c", "kill -INT $$; exit 8"]);
    assert_eq!(in_time(ignored.spawn().unwrap().exited()).await, Exit::Code(8), "a shell passes them on");
    let heard = sh("kill -INT $$; exit 8").spawn().unwrap();
    assert_eq!(in_time(heard.exited()).await, Exit::Signal(2));
}

#[test]
fn values_of_variables_are_not_shown() {
    let shown = format!("{:?}", sh("true").env("TOKEN", "hunter2"));
    assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
}
