//! Names inside a bundle. They come from strangers and become names on a disk, so they are checked as text first;
//! what the disk then holds under them is checked again where it is opened.

use std::borrow::Cow;

/// The longest path of a bundle's file, in bytes.
pub const PATH_BYTES_LIMIT: usize = 1024;
/// The longest component of a path, in bytes (`NAME_MAX` of common file systems).
pub const COMPONENT_BYTES_LIMIT: usize = 255;
/// The most components of a path.
pub const DEPTH_LIMIT: usize = 16;

/// Why a path cannot name a file of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    #[error("it is empty")]
    Empty,
    #[error("it is absolute")]
    Absolute,
    #[error("it leaves the bundle with `..`")]
    Parent,
    #[error("it has an empty component or `.`")]
    Component,
    #[error("it contains a backslash")]
    Backslash,
    #[error("it contains `*`")]
    Star,
    #[error("it contains a control character")]
    Control,
    #[error("it is longer than {PATH_BYTES_LIMIT} bytes, or a component longer than {COMPONENT_BYTES_LIMIT}")]
    TooLong,
    #[error("it is nested deeper than {DEPTH_LIMIT} levels")]
    TooDeep,
}

/// Whether `path` may name a file of a bundle: relative, `/` between plain components, nothing special in it.
pub fn check_path(path: &str) -> Result<(), PathProblem> {
    if path.is_empty() {
        return Err(PathProblem::Empty);
    }
    if path.len() > PATH_BYTES_LIMIT {
        return Err(PathProblem::TooLong);
    }
    if path.starts_with('/') {
        return Err(PathProblem::Absolute);
    }
    for c in path.chars() {
        match c {
            '\\' => return Err(PathProblem::Backslash),
            '*' => return Err(PathProblem::Star),
            c if c.is_control() => return Err(PathProblem::Control),
            _ => {}
        }
    }
    for component in path.split('/') {
        match component {
            ".." => return Err(PathProblem::Parent),
            "" | "." => return Err(PathProblem::Component),
            long if long.len() > COMPONENT_BYTES_LIMIT => return Err(PathProblem::TooLong),
            _ => {}
        }
    }
    if path.split('/').count() > DEPTH_LIMIT { Err(PathProblem::TooDeep) } else { Ok(()) }
}

/// The same for a pattern: a path whose last component may contain `*`.
pub(super) fn check_pattern(pattern: &str) -> Result<(), PathProblem> {
    let (directory, name) =
        pattern.rsplit_once('/').map_or((None, pattern), |(directory, name)| (Some(directory), name));
    let name = name.replace('*', "x");
    let plain = directory.map_or(Cow::Borrowed(name.as_str()), |directory| Cow::Owned(format!("{directory}/{name}")));
    check_path(&plain)
}

/// Whether `path` is one of those that `pattern` means. `*` stands for any characters of a file name, never for `/`.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let split = |text| str::rsplit_once(text, '/').unwrap_or(("", text));
    let (pattern_directory, pattern_name) = split(pattern);
    let (directory, name) = split(path);
    pattern_directory == directory && name_matches(pattern_name, name)
}

fn name_matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    let pieces: Vec<&str> = rest.split('*').collect();
    let (last, middle) = pieces.split_last().expect("a split has at least one piece");
    // The leftmost match of each piece leaves the most for those after it.
    for piece in middle {
        let Some(at) = name.find(piece) else { return false };
        name = &name[at + piece.len()..];
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_within_a_file_name() {
        for (pattern, path, expected) in [
            ("cases/*.json", "cases/001.json", true),
            ("cases/*.json", "cases/.json", true),
            ("cases/*.json", "cases/001.jsonl", false),
            ("cases/*.json", "cases/deep/001.json", false),
            ("cases/*.json", "001.json", false),
            ("*", "model.onnx", true),
            ("w*.b*n", "weights.01.bin", true),
            ("w*.bin*", "weights.bim", false),
            ("a*a", "a", false),
            ("weights.bin", "weights.bin", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn paths_are_plain_and_relative() {
        for (path, expected) in [
            ("model.onnx", Ok(())),
            ("cases/größe 1.json", Ok(())),
            ("..data", Ok(())),
            ("", Err(PathProblem::Empty)),
            ("/etc/passwd", Err(PathProblem::Absolute)),
            ("../x", Err(PathProblem::Parent)),
            ("a/../../x", Err(PathProblem::Parent)),
            ("a//b", Err(PathProblem::Component)),
            ("./a", Err(PathProblem::Component)),
            ("a/", Err(PathProblem::Component)),
            ("a\\..\\b", Err(PathProblem::Backslash)),
            ("a\0b", Err(PathProblem::Control)),
            ("a*", Err(PathProblem::Star)),
        ] {
            assert_eq!(check_path(path), expected, "{path:?}");
        }
        assert_eq!(check_path(&"x".repeat(256)), Err(PathProblem::TooLong));
        assert_eq!(check_path(&"x/".repeat(600)), Err(PathProblem::TooLong));
        assert_eq!(check_path(&["x"; DEPTH_LIMIT + 1].join("/")), Err(PathProblem::TooDeep));
        assert_eq!(check_pattern("*/x"), Err(PathProblem::Star));
        assert_eq!(check_pattern("../*.json"), Err(PathProblem::Parent));
        assert_eq!(check_pattern("cases/*.json"), Ok(()));
    }
}
