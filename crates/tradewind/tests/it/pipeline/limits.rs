//! Steps that take too much: time, memory, processes, words, disk.

use std::{fs, process::Command};

use anyhow::Result;
use tradewind_process::Identity;
use tradewind_testkit::Disk;

use super::{Project, STEPS};

/// A pipeline of one batch and one step of Python.
fn one(body: &str, keys: &str) -> Project {
    let pipeline = format!(
        "name = \"one\"\n[data]\nsource = [\"data/*\"]\n[[step]]\nname = \"train\"\nfunction = \"steps:train\"\nretries = 0\n\
         {keys}\n[aggregate]\nrun = [\"true\"]\n"
    );
    let steps = format!("import os\nfrom tradewind.pipeline import step\n\n@step\ndef train(step):\n{body}\n");
    Project::new(&[("pipeline.toml", &pipeline), ("steps.py", &steps), ("data/a", "a")])
}

#[test]
fn a_step_that_hangs_is_ended() {
    let said = one("    while True: pass", "timeout = \"500ms\"").failure("");
    assert!(said.contains("`train` of data/a: it took longer than 0.5 s"), "{said}");
}

#[test]
fn a_step_that_dies_is_told_from_one_that_fails() {
    let said = one("    print('so far', flush=True); os.kill(os.getpid(), 9)", "").failure("");
    assert!(said.contains("its worker ended: killed by signal 9 (SIGKILL): so far"), "{said}");
    let said = one("    os._exit(7)", "").failure("");
    assert!(said.contains("its worker ended: exit code 7"), "{said}");
}

#[test]
fn a_step_that_takes_too_much_memory_is_ended_and_said_to_have_done_so() {
    let body = "    taken = bytearray(400 << 20)\n    for at in range(0, len(taken), 4096): taken[at] = 1\n    while True: pass";
    let said = one(body, "memory = \"128MiB\"").failure("");
    assert!(said.contains("it took more than 128MiB of memory"), "{said}");
}

#[test]
fn what_a_step_leaves_running_is_ended_with_it() -> Result<()> {
    let project = Project::new(&[
        (
            "pipeline.toml",
            "name = \"fork\"\n[data]\nsource = [\"data/*\"]\n[[step]]\nname = \"train\"\nrun = [\"sh\", \"fork.sh\"]\n\
             [aggregate]\nrun = [\"true\"]\n",
        ),
        (
            "fork.sh",
            "setsid sh -c 'echo $$ > \"$TRACE\"; exec sleep 1000000' &\nwhile ! [ -s \"$TRACE\" ]; do :; done\n",
        ),
        ("data/a", "a"),
    ]);
    project.run("");
    let pid = fs::read_to_string(project.path("trace"))?;
    let alive = Identity::of(pid.trim().parse()?).is_some_and(|identity| identity.is_alive());
    assert!(!alive, "the process that was left is gone");
    Ok(())
}

#[test]
fn a_flood_of_words_is_cut_short() {
    let body = "    print('first')\n    for _ in range(300): print('.' * 100_000)\n    print('last')\n    raise ValueError('enough')";
    let project = one(body, "");
    let said = project.failure("");
    assert!(said.contains("ValueError: enough"), "{said}");
    let status = project.status();
    let log = fs::read_to_string(status["failures"][0]["log"].as_str().unwrap()).unwrap();
    assert!(log.starts_with("first\n") && log.contains("bytes are left out here]") && log.contains("last\n"));
    assert!(log.len() < 2 << 20, "{}", log.len());
}

#[test]
fn a_disk_without_room_is_said_and_nothing_is_lost() -> Result<()> {
    let project = Project::sums(6);
    let said = project.failure("--min-free 1000TiB");
    assert!(said.contains("are kept free") && said.contains("free some space there"), "{said}");
    assert!(project.ran().is_empty());
    let Ok(disk) = Disk::mount(&project.path("small")) else {
        // Root alone may mount; who is not has seen the half of it.
        assert!(!rustix_is_root(), "root can mount");
        return Ok(());
    };
    for file in ["pipeline.toml", "steps.py"] {
        fs::copy(project.path(file), project.path("small").join(file))?;
    }
    let big = STEPS.replace(
        "    return {\"sum\"",
        "    (step.output / \"big\").write_bytes(b'.' * (60 << 20))\n    return {\"sum\"",
    );
    fs::write(project.path("small/steps.py"), big)?;
    fs::create_dir(project.path("small/data"))?;
    for number in 0..6 {
        fs::write(project.path("small").join(super::data(number)), format!("{number}\n"))?;
    }
    let said = project.failure("small --min-free 1KiB --workers 1");
    assert!(said.contains("No space left on device"), "{said}");
    let done = project.ran().len();
    assert!(done > 0);
    drop(disk);
    Ok(())
}

fn rustix_is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}
