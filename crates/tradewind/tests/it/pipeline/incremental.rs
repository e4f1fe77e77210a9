//! What is done is not done again, and what comes of it is what one batch after the other would give.

use super::{Project, data};

/// What the pipeline of sums comes to, computed here.
fn expected(files: u32) -> (String, f64, f64) {
    let sums: Vec<u32> = (0..files).map(|number| 2 * (number + number * 10 + 1)).collect();
    let all: u32 = sums.iter().sum();
    // The mean of a batch is one of two lines, and batches of files have no rows: each counts as one.
    let mean = f64::from(all) / 2.0 / f64::from(files);
    (sums.iter().map(u32::to_string).collect::<Vec<_>>().join(" "), f64::from(all), mean)
}

#[test]
fn the_number_of_workers_changes_nothing() {
    let (model, sum, mean) = expected(12);
    for workers in [1, 2, 5] {
        let project = Project::sums(12);
        let report = project.run(&format!("--workers {workers}"));
        assert_eq!(report.result("model.txt"), model);
        assert_eq!(report.metric("sum"), sum);
        assert!((report.metric("mean") - mean).abs() < 1e-9);
        assert_eq!(project.ran().len(), 12 + 12 + 1);
    }
}

#[test]
fn a_run_does_only_what_changed() {
    let project = Project::sums(5);
    project.run("");
    assert_eq!(project.ran().len(), 11);
    let again = project.run("");
    assert_eq!((project.ran().len(), again.reused("double"), again.reused("aggregate")), (0, 5, 1));

    project.write(&data(3), "4\n5\n");
    let changed = project.run("");
    assert_eq!(project.ran(), ["double 003.txt", "join", "train"]);
    assert_eq!(changed.result("model.txt"), "2 24 46 18 90");

    // The same numbers, written otherwise: what is made of them is the same, so nothing after that is done again.
    project.write(&data(3), "4 5");
    project.run("");
    assert_eq!(project.ran(), ["double 003.txt"]);

    project.write(&data(5), "1\n");
    project.run("");
    assert_eq!(project.ran(), ["double 005.txt", "join", "train"]);
    std::fs::remove_file(project.path(&data(5))).unwrap();
    project.run("");
    assert!(project.ran().is_empty(), "that was done before");

    let parameters = project.run("--set label=x");
    assert_eq!((project.ran().len(), parameters.reused("train")), (11, 0), "every step is told the parameters");
}

#[test]
fn parameters_of_the_command_line_come_before_all_others() {
    let project = Project::sums(1);
    let own = "function = \"steps:train\"\nparameters = { label = \"own\" }";
    project.write("pipeline.toml", &super::PIPELINE.replace("function = \"steps:train\"", own));
    project.run("");
    assert_eq!(project.ran(), ["double 000.txt", "join", "train own"]);
    project.run("--set label=said");
    assert_eq!(project.ran(), ["double 000.txt", "join said", "train said"]);
}

#[test]
fn the_evaluation_is_of_the_bundle_that_would_be_published() {
    let steps = "from tradewind.pipeline import step\n\n@step\ndef train(step):\n    pass\n\n@step\ndef join(step):\n\
                 \x20   for name in \"ab\":\n        (step.output / name).mkdir()\n        (step.output / name / \"m\").write_text(name)\n\n\
                 @step\ndef judge(step):\n    return {\"is_b\": float((step.directory(\"model\") / \"m\").read_text() == \"b\")}\n";
    let pipeline = "name = \"two\"\n[data]\nsource = [\"data/*\"]\nholdout = 0.5\n[[step]]\nname = \"train\"\nfunction = \"steps:train\"\n\
                    [aggregate]\nfunction = \"steps:join\"\n[evaluate]\nfunction = \"steps:judge\"\n\
                    [publish]\nmodel = \"two\"\nbundle = \"a\"\n";
    let project = Project::new(&[("pipeline.toml", pipeline), ("steps.py", steps), ("data/a", "a"), ("data/b", "b")]);
    assert_eq!(project.run("--no-publish").metric("is_b"), 0.0);
    project.write("pipeline.toml", &pipeline.replace("bundle = \"a\"", "bundle = \"b\""));
    assert_eq!(project.run("--no-publish").metric("is_b"), 1.0);
}

#[test]
fn a_plan_says_what_would_run_and_runs_nothing() {
    let project = Project::sums(4);
    let plan = |line: &str| {
        let output = project.output(&format!("run --plan -o json {line}"));
        assert!(output.status.success(), "{}", crate::context::show(&output));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let before = plan("--workers 3");
    assert_eq!((&before["batches"], &before["workers"], &before["estimated_ms"]), (&4.into(), &3.into(), &().into()));
    assert!(project.ran().is_empty());
    project.run("");
    project.ran();
    project.write(&data(9), "7\n");
    let after = plan("");
    let steps = |name: &str| -> Vec<u64> {
        after["steps"].as_array().unwrap().iter().map(|step| step[name].as_u64().unwrap()).collect()
    };
    assert_eq!((steps("batches"), steps("cached")), (vec![5, 5], vec![4, 4]));
    assert!(after["estimated_ms"].is_u64(), "what steps took is known now");
    assert!(project.ran().is_empty());
}

#[test]
fn what_was_not_used_for_longest_makes_room() {
    let project = Project::sums(3);
    project.run("");
    project.write(&data(0), "100\n");
    project.run("--keep 1B");
    project.ran();
    project.run("");
    assert!(project.ran().is_empty(), "what the newest run used was kept");
    project.write(&data(0), "0\n1\n");
    project.run("");
    assert!(project.ran().contains(&"double 000.txt".to_owned()), "what it did not use was removed");
}
