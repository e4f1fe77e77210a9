//! Data and steps that are wrong, and what is said of them.

use std::fs;

use super::{PIPELINE, Project, STEPS, data};
use crate::context::show;

/// A pipeline of one command, written in shell.
fn shell(script: &str, keys: &str) -> Project {
    let pipeline = format!(
        "name = \"shell\"\n[data]\nsource = [\"data/*\"]\n[[step]]\nname = \"train\"\nrun = [\"sh\", \"train.sh\"]\n{keys}\n\
         [aggregate]\nrun = [\"true\"]\n"
    );
    Project::new(&[("pipeline.toml", &pipeline), ("train.sh", script), ("data/a", "a"), ("data/b", "b")])
}

#[test]
fn a_poisoned_batch_is_reported_and_does_not_sink_the_run() {
    let project = Project::sums(10);
    project.write("pipeline.toml", &format!("min_success_ratio = 0.8\n{PIPELINE}"));
    project.write(&data(4), "4\nfour\n");
    let report = project.run("");
    assert_eq!((&report.0["failed"], report.result("model.txt").split(' ').count()), (&1.into(), 9));
    let status = project.status();
    let failure = &status["failures"][0];
    assert_eq!((&failure["step"], &failure["batch"]), (&"double".into(), &"data/004.txt".into()));
    let expected = "ValueError: invalid literal for int() with base 10: 'four'";
    assert_eq!(failure["error"], expected);
    let log = fs::read_to_string(failure["log"].as_str().unwrap()).unwrap();
    assert!(log.contains("steps.py") && log.contains(expected), "{log}");

    project.write(&data(5), "five");
    project.write(&data(6), "six");
    let said = project.failure("");
    assert!(said.starts_with("error: too many batches failed: 3 of 10\n"), "{said}");
    assert!(said.contains("`double` of data/005.txt: ValueError") && said.contains("(log: "), "{said}");
    let status = project.status();
    assert_eq!((&status["state"], &status["error"]), (&"failed".into(), &"too many batches failed: 3 of 10".into()));
}

#[test]
fn results_that_cannot_be_are_not_tried_again() {
    for (script, expected) in [
        (r#"printf '{"metrics": {"loss": NaN}}' > "$RESULT""#, "JSON has no NaN and no Infinity"),
        (r#"printf '{"metrics": {"loss": 1e999}}' > "$RESULT""#, "its result cannot be read"),
        (r#"printf '{"metric": {}}' > "$RESULT""#, "unknown field `metric`"),
        (r#"ln -s /etc/passwd "$OUTPUT/link""#, "it wrote link, which is a symbolic link"),
        (r#"mkfifo "$OUTPUT/pipe""#, "it wrote pipe, which is no plain file"),
        ("echo the data is spoilt >&2; exit 65", "exit code 65: the data is spoilt"),
    ] {
        let head = r#"
            told=$(cat "$TRADEWIND_STEP"); echo "$told" >> "$TRACE"
            field() { printf '%s' "$told" | sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"; }
            RESULT=$(field result) OUTPUT=$(field output)
        "#;
        let project = shell(&format!("{head}\n{script}\n"), "retries = 3");
        let said = project.failure("--workers 1");
        assert!(said.contains(expected), "{said}, not {expected}");
        assert_eq!(project.ran().len(), 1, "neither again nor with the other batch, as both are needed");
    }
}

#[test]
fn workers_in_any_language_are_understood_or_named() {
    let keys = "worker = true\nretries = 0";
    let loop_of = |body: &str| format!("while read -r order; do {body}; done\n");
    let report = shell(&loop_of(r#"echo "$order" >> "$TRACE"; echo '{"ok": true}'"#), keys).run("--workers 1");
    assert_eq!(report.0["steps"]["train"]["done"], 2);
    for (script, expected) in [
        (loop_of("echo hello"), "its worker answered `hello`, which is no reply"),
        (loop_of(r#"echo '{"ok": true, "extra": 1}'"#), "unknown field `extra`"),
        (loop_of(r#"echo '{"ok": false, "error": "too cold"}'"#), "`train` of data/a: too cold"),
        (loop_of("echo gone >&2; exit 4"), "its worker ended: exit code 4: gone"),
        (loop_of("head -c 2000000 /dev/zero; sleep 100"), "its worker's reply is longer than 1048576 bytes"),
        ("exec 1>&-; read -r order\n".to_owned(), "its worker ended: exit code 0"),
        ("exit 0\n".to_owned(), "its worker ended: exit code 0"),
    ] {
        let said = shell(&script, keys).failure("--workers 1");
        assert!(said.contains(expected), "{said}, not {expected}");
    }
}

#[test]
fn what_may_end_otherwise_is_tried_again() {
    // Each batch fails once.
    let script = r#"mark="$TRACE.$(echo "$TRADEWIND_STEP" | tr / _)"; [ -e "$mark" ] || { : > "$mark"; exit 3; }"#;
    let project = shell(script, "retries = 1");
    let report = project.run("");
    assert_eq!((&report.0["failed"], &report.0["steps"]["train"]["failed"]), (&0.into(), &2.into()));
    let status = project.status();
    assert_eq!(
        (&status["failures"][0]["error"], &status["failures"][0]["given_up"]),
        (&"exit code 3".into(), &false.into())
    );
}

#[test]
fn a_metric_of_two_kinds_is_named() {
    let project = Project::sums(2);
    project.write("steps.py", &STEPS.replace("\"mean\": sum", "\"mean\": total(1) if len(numbers) > 2 else sum"));
    project.write(&data(1), "1\n2\n3\n");
    let said = project.failure("");
    assert!(
        said.contains("metric `mean` of `train` does not add up: in one batch it is a mean, in another a sum"),
        "{said}"
    );
}

#[test]
fn data_that_is_wrong_is_named_by_file_and_column() {
    let project = Project::new(&[
        ("pipeline.toml", &PIPELINE.replace("data/*.txt\"]", "data/*.csv\"]\nbatch = { rows = 2 }")),
        ("steps.py", STEPS),
        ("data/a.csv", "day,price\n1,2.5\n2,3.5\n"),
        ("data/b.csv", "day,cost\n1,2.5\n"),
    ]);
    let said = project.failure("");
    assert!(said.contains("data/a.csv has no column `cost`, which `data/b.csv` has"), "{said}");
    fs::remove_file(project.path("data/a.csv")).unwrap();
    fs::remove_file(project.path("data/b.csv")).unwrap();
    let said = project.failure("");
    assert!(said.contains("no file matches `data/*.csv`"), "{said}");
}

#[test]
fn files_that_cannot_be_are_refused_before_anything_runs() {
    let project = Project::sums(1);
    for (text, expected) in [
        (PIPELINE.replace("[data]", "[dta]"), "pipeline.toml, line 3: unknown key `dta`"),
        (PIPELINE.replace("steps:double", "steps"), "`step.double.function`: `steps` is not a function"),
        (format!("{PIPELINE}retry = 3\n"), "unknown key `retry`"),
    ] {
        project.write("pipeline.toml", &text);
        let output = project.output("run");
        let said = show(&output);
        assert!(output.status.code() == Some(2) && said.contains(expected), "{said}, not {expected}");
    }
    project.write("pipeline.toml", &PIPELINE.replace("steps:double", "nowhere:double"));
    let said = project.failure("");
    assert!(said.contains("`double`: there is no module `nowhere` beside the pipeline's file"), "{said}");
    project.write("pipeline.toml", &PIPELINE.replace("steps:double", "steps:triple"));
    let said = project.failure("");
    assert!(said.contains("`double` of data/000.txt") && said.contains("triple"), "{said}");
    assert!(project.ran().is_empty());
}

#[test]
fn who_takes_the_model_is_asked_before_any_work() {
    let project = Project::sums(1);
    project.write("pipeline.toml", &format!("{PIPELINE}[publish]\nmodel = \"sums\"\n"));
    let output = project.output("run --url http://127.0.0.1:1");
    assert_eq!(output.status.code(), Some(4), "{}", show(&output));
    assert!(project.ran().is_empty());
    project.run("--no-publish");
    assert_eq!(project.ran().len(), 3);
}

#[test]
fn one_run_at_a_time() {
    let project = Project::sums(1);
    project.write(
        "steps.py",
        &STEPS.replace("    note(step, \"double\")", "    open(os.environ['TRACE'] + '.fifo').read()"),
    );
    let fifo = project.path("trace.fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let first = project.command("run").spawn().unwrap();
    // Opening it waits until the step reads from it.
    let mut hold = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    let said = project.failure("");
    assert!(said.contains(&format!("another run of it is under way, as process {}", first.id())), "{said}");
    assert_eq!(project.status()["state"], "running");
    std::io::Write::write_all(&mut hold, b"go on").unwrap();
    drop(hold);
    assert!(crate::context::wait(first).status.success());
    assert_eq!(project.status()["state"], "succeeded");
}
