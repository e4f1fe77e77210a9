//! The workspace's manifest: each dependency from outside carries its reason.

use super::{Finding, Rule, tree::SourceFile};

const SECTION: &str = "[workspace.dependencies]";

pub(super) fn findings(file: &SourceFile) -> Vec<Finding> {
    let mut inside = false;
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        if line.starts_with('[') {
            inside = line.trim() == SECTION;
            continue;
        }
        let Some((name, value)) = line.split_once('=').filter(|_| inside && !line.starts_with('#')) else { continue };
        // Our own crates explain themselves.
        if !value.contains("path =") && !has_comment(value) {
            findings.push(Finding {
                path: file.path.clone(),
                line: index + 1,
                rule: Rule::Reason,
                message: format!("`{}` has no reason: say after it, in a comment, what it is here for", name.trim()),
            });
        }
    }
    findings
}

/// Whether a comment with words follows the value. A `#` inside quotes begins none.
fn has_comment(value: &str) -> bool {
    let mut quoted = false;
    let hash = value.find(|c: char| {
        quoted ^= c == '"';
        c == '#' && !quoted
    });
    hash.is_some_and(|hash| !value[hash + 1..].trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dependencies_from_outside_need_a_reason() {
        let text = "[workspace.package]\nversion = \"1\"\n[workspace.dependencies]\n# all of them\n\
                    core = { path = \"core\" }\nserde = \"1\" # data on wires\nrand = \"1\"\nurl = \"#1\" #\n[profile.dev]\ndebug = 1\n";
        let found = findings(&SourceFile { path: "Cargo.toml".into(), text: text.to_owned() });
        let found: Vec<String> = found.iter().map(Finding::to_string).collect();
        assert_eq!(
            found,
            [
                "Cargo.toml:7: `rand` has no reason: say after it, in a comment, what it is here for",
                "Cargo.toml:8: `url` has no reason: say after it, in a comment, what it is here for",
            ]
        );
    }
}
