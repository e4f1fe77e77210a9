//! Rules about single files, read line by line.

use std::path::Path;

use super::{Finding, Rule, tree::SourceFile};

/// The longest Rust file. Past half of it, look for the second subject in it.
const LINES_LIMIT: usize = 500;
/// The folder of these rules. Their tests spell out what they refuse.
const RULES: &str = "xtask/src/tidy";
const CORE: &str = "crates/tradewind-core/src";

const SILENCED: &[(&str, &str)] = &[
    ("todo!", "do it now, or leave it out"),
    ("unimplemented!", "do it now, or leave it out"),
    ("#[ignore", "a test that cannot run says what to install and fails; one that is wrong is mended"),
    ("#[allow(", "use #[expect(lint, reason = \"..\")], which reports when it is no longer needed"),
    ("#![allow(", "use #![expect(lint, reason = \"..\")], which reports when it is no longer needed"),
];
const IMPURE: &[(&str, &str)] = &[
    ("std::fs", "read it in the crate that asks and pass it in"),
    ("std::net", "the core has no network"),
    ("std::process", "the core starts nothing"),
    ("std::env", "pass it in"),
    ("SystemTime", "pass the time in as a Timestamp"),
    ("Instant::now", "pass the time in as a Timestamp"),
    ("Timestamp::now", "pass the time in as a Timestamp"),
    ("tokio::", "the core is synchronous"),
    ("reqwest::", "the core has no network"),
];
const MACHINE_PATHS: &[&str] = &["/work/", "/root/"];

pub(super) fn findings(file: &SourceFile) -> Vec<Finding> {
    let mut found = Findings { file, list: Vec::new() };
    if file.path.starts_with(RULES) {
        return found.list;
    }
    found.machine_paths();
    if file.path.extension().is_some_and(|extension| extension == "rs") {
        found.shape();
        found.habits();
    }
    found.list
}

struct Findings<'a> {
    file: &'a SourceFile,
    list: Vec<Finding>,
}

impl Findings<'_> {
    fn add(&mut self, line: usize, rule: Rule, message: String) {
        self.list.push(Finding { path: self.file.path.clone(), line, rule, message });
    }

    fn machine_paths(&mut self) {
        for (number, line) in numbered(&self.file.text) {
            if let Some(path) = MACHINE_PATHS.iter().find(|path| contains_absolute(line, path)) {
                let message = format!("`{path}` is a path of one machine: use a relative path or a placeholder");
                self.add(number, Rule::MachinePath, message);
            }
        }
    }

    /// The file as a whole.
    fn shape(&mut self) {
        let path = &self.file.path;
        if path.file_name().is_some_and(|name| name == "mod.rs") {
            let parent = path.parent().unwrap_or(Path::new("")).with_extension("rs");
            self.add(1, Rule::ModRs, format!("no mod.rs: call it {}", parent.display()));
        }
        let lines = self.file.text.lines().count();
        if lines > LINES_LIMIT {
            let message = format!("{lines} lines, the limit is {LINES_LIMIT}: split it by subject");
            self.add(LINES_LIMIT + 1, Rule::Length, message);
        }
        let root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
        if root && !self.file.text.starts_with("//!") {
            let message = "a crate begins with `//!`: say what it is for, and what it must not know".to_owned();
            self.add(1, Rule::CrateDoc, message);
        }
    }

    /// What single lines of code may not say.
    fn habits(&mut self) {
        let core = self.file.path.starts_with(CORE);
        let mut sleep_allowed = SleepAllowed::default();
        let mut test = self.file.path.with_extension("").components().any(|part| part.as_os_str() == "tests");
        for (number, line) in numbered(&self.file.text) {
            // Test modules stand at the end of their file.
            test |= line.trim() == "#[cfg(test)]";
            if line.trim_start().starts_with("//") {
                continue;
            }
            if let Some((word, advice)) = SILENCED.iter().find(|(word, _)| line.contains(word)) {
                self.add(number, Rule::Silenced, format!("`{word}`: {advice}"));
            }
            if let Some((word, advice)) = IMPURE.iter().find(|(word, _)| core && line.contains(word)) {
                self.add(number, Rule::PureCore, format!("`{word}` in the core: {advice}"));
            }
            let may_sleep = sleep_allowed.line(line);
            if test && line.contains("sleep(") && !may_sleep {
                let message = "a test that sleeps is slow and still flaky: wait for the condition, with a deadline, \
                               or poll it (`while !condition { sleep }`)";
                self.add(number, Rule::Sleep, message.to_owned());
            }
        }
    }
}

/// Follows where a test may sleep: in the body of a loop that polls a condition, and where time is simulated.
#[derive(Debug, Default)]
struct SleepAllowed {
    poll_lines_left: usize,
    simulated_time: bool,
}

impl SleepAllowed {
    /// A poll is short; what stands further from its `while` does something else.
    const POLL_LINES: usize = 4;

    fn line(&mut self, line: &str) -> bool {
        let line = line.trim_start();
        if line.starts_with("#[test") || line.starts_with("#[tokio::test") {
            self.simulated_time = line.contains("start_paused = true");
        }
        if line.starts_with("while ") {
            self.poll_lines_left = Self::POLL_LINES;
        }
        let polls = self.poll_lines_left > 0;
        self.poll_lines_left = self.poll_lines_left.saturating_sub(1);
        polls || self.simulated_time
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Whether the path stands in the line as an absolute one, not as the middle of a longer path or URL.
fn contains_absolute(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '~' | '}' | ')'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, text: &str, expected: &[&str]) {
        let found = findings(&SourceFile { path: path.into(), text: text.to_owned() });
        let found: Vec<String> = found.iter().map(Finding::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_clean_file_says_nothing() {
        check("crates/a/src/lib.rs", "//! What it is for.\n\nfn f() {}\n", &[]);
    }

    #[test]
    fn shape() {
        check("crates/a/src/b/mod.rs", "", &["crates/a/src/b/mod.rs:1: no mod.rs: call it crates/a/src/b.rs"]);
        check(
            "a/src/main.rs",
            "fn main() {}\n",
            &["a/src/main.rs:1: a crate begins with `//!`: say what it is for, and what it must not know"],
        );
        check("a/src/b.rs", &"\n".repeat(500), &[]);
        check("a/src/b.rs", &"\n".repeat(501), &["a/src/b.rs:501: 501 lines, the limit is 500: split it by subject"]);
    }

    #[test]
    fn nothing_is_silenced_or_left_for_later() {
        check(
            "a/src/b.rs",
            "fn f() {\n    todo!()\n}\n// todo! in words is no code\n#[ignore = \"slow\"]\n#[allow(unused)]\n",
            &[
                "a/src/b.rs:2: `todo!`: do it now, or leave it out",
                "a/src/b.rs:5: `#[ignore`: a test that cannot run says what to install and fails; one that is wrong is mended",
                "a/src/b.rs:6: `#[allow(`: use #[expect(lint, reason = \"..\")], which reports when it is no longer needed",
            ],
        );
    }

    #[test]
    fn tests_do_not_sleep_but_code_may() {
        let sleeps = "a test that sleeps is slow and still flaky: wait for the condition, with a deadline, or poll it (`while !condition { sleep }`)";
        check("a/src/b.rs", "async fn back_off() { sleep(pause).await }\n", &[]);
        check(
            "a/src/b.rs",
            "#[cfg(test)]\nmod tests { fn t() { sleep(pause) } }\n",
            &[&format!("a/src/b.rs:2: {sleeps}")],
        );
        check("a/src/b/tests.rs", "fn t() { sleep(pause) }\n", &[&format!("a/src/b/tests.rs:1: {sleeps}")]);
        check("a/tests/it/b.rs", "fn t() { thread::sleep(pause) }\n", &[&format!("a/tests/it/b.rs:1: {sleeps}")]);
    }

    #[test]
    fn a_test_may_poll() {
        check("a/tests/it/b.rs", "while !done() {\n    sleep(POLL).await;\n}\n", &[]);
        check(
            "a/tests/it/b.rs",
            "while !done() {\n}\n\n\n    sleep(POLL).await;\n",
            &[
                "a/tests/it/b.rs:5: a test that sleeps is slow and still flaky: wait for the condition, with a deadline, or poll it (`while !condition { sleep }`)",
            ],
        );
    }

    #[test]
    fn a_test_may_sleep_in_simulated_time() {
        let simulated = "#[tokio::test(start_paused = true)]\nasync fn a() { sleep(HOUR).await }\n";
        check("a/tests/it/b.rs", simulated, &[]);
        let then_real = format!("{simulated}#[tokio::test]\nasync fn b() {{ sleep(HOUR).await }}\n");
        check(
            "a/tests/it/b.rs",
            &then_real,
            &[
                "a/tests/it/b.rs:4: a test that sleeps is slow and still flaky: wait for the condition, with a deadline, or poll it (`while !condition { sleep }`)",
            ],
        );
    }

    #[test]
    fn the_core_reads_no_clock_and_no_file() {
        check("crates/tradewind-core/src/a.rs", "use std::{fmt, str};\n", &[]);
        check(
            "crates/tradewind-core/src/a.rs",
            "use std::fs;\nlet t = Timestamp::now();\n",
            &[
                "crates/tradewind-core/src/a.rs:1: `std::fs` in the core: read it in the crate that asks and pass it in",
                "crates/tradewind-core/src/a.rs:2: `Timestamp::now` in the core: pass the time in as a Timestamp",
            ],
        );
        check("crates/tradewind-store/src/a.rs", "use std::fs;\n", &[]);
    }

    #[test]
    fn no_path_of_a_machine_in_any_file() {
        check(
            "README.md",
            "see /work/x\nsee `/root/y`\nsee https://example.org/work/z and net/root/a\n",
            &[
                "README.md:1: `/work/` is a path of one machine: use a relative path or a placeholder",
                "README.md:2: `/root/` is a path of one machine: use a relative path or a placeholder",
            ],
        );
    }
}
