//! Pipelines as people run them: the real binary, real processes, real files.

mod incremental;
mod killed;
mod limits;
mod trouble;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::context::{Context, show, wait};

/// Numbers in files, one a line; each file is doubled and summed up, and the sums are joined. Every step notes that it ran.
const STEPS: &str = r#"
import json, os
from pathlib import Path
from tradewind.pipeline import step, total

def note(step, name):
    with open(os.environ["TRACE"], "a") as trace:
        trace.write(f"{name} {Path(step.file).name if name == 'double' else step.parameters.get('label', '')}\n")

@step
def double(step):
    note(step, "double")
    numbers = [2 * int(line) for line in Path(step.file).read_text().split()]
    (step.output / "numbers.json").write_text(json.dumps(numbers))

@step
def train(step):
    note(step, "train")
    numbers = json.loads((step.directory("double") / "numbers.json").read_text())
    (step.output / "sum.txt").write_text(str(sum(numbers)))
    return {"sum": total(sum(numbers)), "mean": sum(numbers) / len(numbers)}

@step
def join(step):
    note(step, "join")
    sums = [(part.directory / "sum.txt").read_text() for part in step.all("train")]
    (step.output / "model.txt").write_text(" ".join(sums))
"#;

const PIPELINE: &str = r#"
name = "sums"
[data]
source = ["data/*.txt"]
[[step]]
name = "double"
function = "steps:double"
retries = 0
[[step]]
name = "train"
function = "steps:train"
retries = 0
[aggregate]
function = "steps:join"
"#;

/// A directory with a pipeline.
struct Project {
    context: Context,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let project = Self { context: Context::new() };
        files.iter().for_each(|(path, text)| project.write(path, text));
        project
    }

    /// The one that sums up these files, by their numbers.
    fn sums(files: u32) -> Self {
        let project = Self::new(&[("pipeline.toml", PIPELINE), ("steps.py", STEPS)]);
        (0..files).for_each(|number| project.write(&data(number), &format!("{number}\n{}\n", number * 10 + 1)));
        project
    }

    fn path(&self, path: &str) -> PathBuf {
        self.context.home.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn home(&self, pipeline: &str) -> PathBuf {
        self.path(".tradewind/pipelines").join(pipeline)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = self.context.command(&format!("pipeline {line}"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TRACE", self.path("trace"));
        command
    }

    fn output(&self, line: &str) -> Output {
        wait(self.command(line).spawn().unwrap())
    }

    /// The report of a run that ends well.
    fn run(&self, line: &str) -> Report {
        let output = self.output(&format!("run -o json {line}"));
        assert!(output.status.success(), "{}", show(&output));
        Report(serde_json::from_slice(&output.stdout).unwrap())
    }

    /// What a run that ends badly says.
    fn failure(&self, line: &str) -> String {
        let output = self.output(&format!("run {line}"));
        assert_eq!(output.status.code(), Some(1), "{}", show(&output));
        String::from_utf8(output.stderr).unwrap()
    }

    fn status(&self) -> Value {
        let output = self.output("status -o json");
        assert!(output.status.success(), "{}", show(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Which steps ran since the last look, sorted.
    fn ran(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("trace")).unwrap_or_default();
        fs::write(self.path("trace"), "").unwrap();
        let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        lines.sort();
        lines
    }
}

fn data(number: u32) -> String {
    format!("data/{number:03}.txt")
}

struct Report(Value);

impl Report {
    /// What the aggregate wrote into this file.
    fn result(&self, file: &str) -> String {
        fs::read_to_string(Path::new(self.0["output"].as_str().unwrap()).join(file)).unwrap()
    }

    fn reused(&self, step: &str) -> u64 {
        self.0["steps"][step]["reused"].as_u64().unwrap()
    }

    fn metric(&self, name: &str) -> f64 {
        self.0["metrics"][name].as_f64().unwrap()
    }
}
