//! What was acknowledged is there afterwards, whatever happened to the process; and one process owns a store.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use tempfile::tempdir;
use tradewind_store::{Error, OpenError, Range, SqliteOptions, SqliteStore, Store};

use crate::{keys, open, put};

/// Tells this test binary to be the process that writes, to the store in this directory.
const WRITER_DIRECTORY: &str = "TRADEWIND_STORE_TEST_WRITER";
const WRITER_TASKS: u64 = 8;
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let directory = tempdir().unwrap();
    let store = open(directory.path());
    let incarnation = store.incarnation().await.unwrap();
    put(&store, "a", "1").await;
    let last = put(&store, "a", "2").await;
    store.close().await;
    let store = open(directory.path());
    let kv = store.get("a").await.unwrap().unwrap();
    assert_eq!((&kv.value[..], kv.version, kv.mod_revision), (&b"2"[..], 2, last));
    assert_eq!(store.incarnation().await.unwrap(), incarnation);
    let past = store.range(Range::key("a").at(last.previous())).await.unwrap();
    assert_eq!(past.kvs[0].value, "1");
    assert_eq!(put(&store, "a", "3").await, last.next());
}

#[tokio::test]
async fn one_process_owns_a_directory() {
    let directory = tempdir().unwrap();
    let store = open(directory.path());
    let error = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap_err();
    assert!(matches!(error, OpenError::AlreadyOpen { .. }), "{error:?}");
    store.close().await;
    open(directory.path()).health().await.unwrap();
}

#[tokio::test]
async fn a_closed_store_refuses_everything_and_ends_its_watches() {
    let directory = tempdir().unwrap();
    let store = open(directory.path());
    let handle = store.clone();
    let now = put(&store, "a", "1").await;
    let mut watch = handle.watch(tradewind_store::Watch::new("", now.next())).await.unwrap();
    store.close().await;
    assert!(matches!(handle.get("a").await.unwrap_err(), Error::Closed));
    assert!(matches!(handle.txn(tradewind_store::Txn::new()).await.unwrap_err(), Error::Closed));
    assert!(matches!(handle.lease_grant(DEADLINE).await.unwrap_err(), Error::Closed));
    assert!(matches!(handle.health().await.unwrap_err(), Error::Closed));
    let last = tokio::time::timeout(DEADLINE, futures_util::StreamExt::next(&mut watch)).await.unwrap();
    assert!(matches!(last, Some(Err(Error::Closed))), "{last:?}");
}

#[tokio::test]
async fn leases_of_a_former_process_end_when_the_store_opens() {
    let directory = tempdir().unwrap();
    let store = open(directory.path());
    let lease = store.lease_grant(Duration::from_secs(3600)).await.unwrap();
    let leased = |key: &str| tradewind_store::Op::put_leased(key, "", lease.id);
    let txn = tradewind_store::Txn::new().then(leased("leader")).then(leased("member"));
    store.txn(txn).await.unwrap();
    let last = put(&store, "kept", "1").await;
    store.close().await;
    let store = open(directory.path());
    assert_eq!(keys(&store).await, ["kept"]);
    assert!(matches!(store.lease_keep_alive(lease.id).await.unwrap_err(), Error::LeaseNotFound(_)));
    let mut watch = store.watch(tradewind_store::Watch::new("", last.next())).await.unwrap();
    let batch = futures_util::StreamExt::next(&mut watch).await.unwrap().unwrap();
    assert_eq!((batch.revision, batch.events.len()), (last.next(), 2));
}

/// A process writes and says what was acknowledged; it is killed at some moment; all it said is there.
#[test]
fn acknowledged_writes_survive_a_kill() {
    if let Some(directory) = env::var_os(WRITER_DIRECTORY) {
        return write_until_killed(Path::new(&directory));
    }
    let directory = tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    for round in 0..8 {
        let wanted = acknowledged.len() + 20 + round * 37;
        let mut child = spawn_writer(Command::new(env::current_exe().unwrap()), directory.path());
        read_until_then_kill(&mut child, &mut acknowledged, wanted);
        check_all(directory.path(), &acknowledged);
    }
    assert!(acknowledged.len() > 8 * 20);
}

/// A disk that fails: the process may not write beyond a size that its log soon reaches, which it learns on a commit.
#[test]
fn a_commit_that_fails_aborts_and_is_never_acknowledged() {
    const SIGABRT: i32 = 6;
    let directory = tempdir().unwrap();
    // Ignored signals stay ignored in the program that is executed, so the write fails instead of killing.
    let limited = "trap '' XFSZ; ulimit -c 0; ulimit -f 2048; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", limited]).arg(env::current_exe().unwrap());
    let child = spawn_writer(command, directory.path());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(SIGABRT), "{:?}", output.status);
    let mut acknowledged = BTreeMap::new();
    String::from_utf8(output.stdout).unwrap().lines().for_each(|line| note(&mut acknowledged, line));
    assert!(!acknowledged.is_empty());
    check_all(directory.path(), &acknowledged);
}

/// What the process does that [`acknowledged_writes_survive_a_kill`] starts, by running itself.
#[tokio::main(worker_threads = 2)]
async fn write_until_killed(directory: &Path) {
    let store = open(directory);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..WRITER_TASKS {
        let store = store.clone();
        tasks.spawn(async move {
            for number in 0.. {
                let key = format!("{}/{task}/{number}", std::process::id());
                let revision = put(&store, &key, vec![b'x'; (number % 50) * 200]).await;
                // One write call for each line, past the capture of the test harness.
                let line = format!("ACK {key} {revision}\n");
                std::io::stdout().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    // A task that panics must end the process, or its parent waits in vain.
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

fn spawn_writer(mut command: Command, directory: &Path) -> Child {
    command
        .args(["--exact", "durability::acknowledged_writes_survive_a_kill", "--nocapture"])
        .env(WRITER_DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Notes what a line acknowledges, if it does; the test harness may have begun the line.
fn note(acknowledged: &mut BTreeMap<String, u64>, line: &str) {
    if let Some((_, rest)) = line.split_once("ACK ") {
        let (key, revision) = rest.split_once(' ').unwrap();
        acknowledged.insert(key.to_owned(), revision.parse().unwrap());
    }
}

/// Reads what is acknowledged; kills the process once there are so many, and reads what it had still said.
fn read_until_then_kill(child: &mut Child, acknowledged: &mut BTreeMap<String, u64>, wanted: usize) {
    let (sender, lines) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        for line in stdout.lines() {
            sender.send(line.unwrap()).unwrap();
        }
    });
    while acknowledged.len() < wanted {
        note(acknowledged, &lines.recv_timeout(DEADLINE).unwrap());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    lines.iter().for_each(|line| note(acknowledged, &line));
    reader.join().unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn check_all(directory: &Path, acknowledged: &BTreeMap<String, u64>) {
    let store = open(directory);
    let listing = store.list("").await.unwrap();
    let found: BTreeMap<_, _> = listing.kvs.into_iter().map(|kv| (kv.key, kv.mod_revision.get())).collect();
    for (key, revision) in acknowledged {
        assert_eq!(found.get(key), Some(revision), "{key} was acknowledged");
    }
    store.close().await;
}
