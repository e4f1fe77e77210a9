//! The `command` runtime: a model server of the author's own, as its manifest describes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::BundleIndex;
use crate::{duration::Span, probe::Probe};

/// The most words of a command line.
pub const RUN_WORDS_LIMIT: usize = 256;
/// The most variables.
pub const ENV_LIMIT: usize = 256;
/// The longest word or value, in bytes.
pub const TEXT_BYTES_LIMIT: usize = 16 << 10;
/// The longest time that a server may take until it is ready.
pub const STARTUP_LIMIT: Span = Span::from_secs(3600);
/// The longest time that its open connections may last once it is out of use. The next revision that needs its slot
/// waits for it, and a rollout has 10 minutes to make progress.
pub const DRAIN_LIMIT: Span = Span::from_secs(300);
/// The variable by which the processes of a replica are found.
pub const REPLICA_ID_VARIABLE: &str = "TRADEWIND_REPLICA_ID";
/// The variable that says which port to listen on.
pub const PORT_VARIABLE: &str = "PORT";

/// `[command]` of a manifest: how to start a server that speaks HTTP or gRPC. In `run` and in the values of `env`,
/// `{port}`, `{host}`, `{bundle}` and `{model}` stand for what is known only where it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandOptions {
    /// The program and its arguments. A program with a `/` in it lies in the bundle, relative to `directory`, unless it
    /// is absolute; one without is looked for on `PATH`.
    pub run: Vec<String>,
    /// `GET` of this path answers 2xx when the server is ready; `tcp`: it accepts connections. Default: `/`.
    #[serde(default = "default_ready")]
    #[schema(value_type = String)]
    pub ready: Probe,
    /// Beside the few variables that every server has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Where it runs, relative to the bundle. Default: the bundle itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// A server that is not ready after this time is ended, and counts as one that failed. Default: `60s`.
    #[serde(default = "default_startup")]
    pub startup: Span,
    /// A server that is out of use is left alone until its last connection has ended, but no longer than this. Default:
    /// `60s`.
    #[serde(default = "default_drain")]
    pub drain: Span,
}

fn default_ready() -> Probe {
    Probe::Http("/".to_owned())
}

fn default_drain() -> Span {
    Span::from_secs(60)
}

fn default_startup() -> Span {
    Span::from_secs(60)
}

/// A key of a manifest whose value cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {message}")]
pub struct KeyProblem {
    pub key: String,
    pub message: String,
}

impl KeyProblem {
    pub(super) fn new(key: &str, message: impl Into<String>) -> Self {
        Self { key: key.to_owned(), message: message.into() }
    }
}

/// What the placeholders stand for.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    pub port: u16,
    /// The address to listen on.
    pub host: &'a str,
    /// The installed bundle, absolute.
    pub bundle: &'a str,
    /// The name under which it is deployed.
    pub model: &'a str,
}

impl CommandOptions {
    /// Checks everything that needs no look at the files.
    pub fn check(&self) -> Result<(), KeyProblem> {
        self.check_run()?;
        if !self.ready.is_well_formed() {
            return Err(KeyProblem::new("command.ready", "it is a path such as `/health`, or `tcp`"));
        }
        self.check_env()?;
        if let Some(directory) = &self.directory {
            resolve("", directory).map_err(|message| KeyProblem::new("command.directory", message))?;
        }
        if self.startup.as_millis() == 0 || self.startup > STARTUP_LIMIT {
            return Err(KeyProblem::new("command.startup", format!("it is more than 0s and at most {STARTUP_LIMIT}")));
        }
        if self.drain > DRAIN_LIMIT {
            return Err(KeyProblem::new("command.drain", format!("it is at most {DRAIN_LIMIT}")));
        }
        Ok(())
    }

    fn check_run(&self) -> Result<(), KeyProblem> {
        let refused = |message: String| Err(KeyProblem::new("command.run", message));
        match self.run.first() {
            None => return refused("it is empty: write the program and its arguments".to_owned()),
            Some(program) if program.trim().is_empty() => return refused("the program's name is empty".to_owned()),
            Some(_) if self.run.len() > RUN_WORDS_LIMIT => {
                return refused(format!("it has more than {RUN_WORDS_LIMIT} words"));
            }
            Some(_) => {}
        }
        self.run.iter().try_for_each(|word| check_text(word)).or_else(refused)?;
        self.program_in_bundle().map(drop).or_else(refused)
    }

    fn check_env(&self) -> Result<(), KeyProblem> {
        if self.env.len() > ENV_LIMIT {
            return Err(KeyProblem::new("command.env", format!("it has more than {ENV_LIMIT} variables")));
        }
        for (name, value) in &self.env {
            let key = format!("command.env.{name}");
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if name.is_empty() || !name.bytes().all(plain) || name.as_bytes()[0].is_ascii_digit() {
                return Err(KeyProblem::new(&key, "a variable's name has letters, digits and `_`"));
            }
            if name == PORT_VARIABLE || name.starts_with("TRADEWIND_") || name.starts_with("LISTEN_") {
                return Err(KeyProblem::new(&key, "this variable is set where the server starts"));
            }
            check_text(value).map_err(|message| KeyProblem::new(&key, message))?;
        }
        Ok(())
    }

    /// Checks that the files are there which the command line and the directory speak of.
    pub fn check_files(&self, index: &BundleIndex) -> Result<(), KeyProblem> {
        let root = self.root();
        let within = format!("{root}/");
        if !root.is_empty() && !index.files.keys().any(|path| path.starts_with(&within)) {
            return Err(KeyProblem::new("command.directory", format!("the bundle has no directory `{root}`")));
        }
        let refused = |message: String| KeyProblem::new("command.run", message);
        let Some(program) = self.program_in_bundle().map_err(refused)? else { return Ok(()) };
        match index.files.get(&program) {
            Some(file) if file.executable => Ok(()),
            Some(_) => Err(refused(format!("`{program}` is not executable: chmod +x it, or name its interpreter"))),
            None => Err(refused(format!("the bundle has no file `{program}`"))),
        }
    }

    /// The directory that it runs in, relative to the bundle; empty for the bundle itself.
    pub fn root(&self) -> String {
        self.directory.as_deref().and_then(|directory| resolve("", directory).ok()).unwrap_or_default()
    }

    /// The program's path relative to the bundle; `None` for one of the machine.
    pub fn program_in_bundle(&self) -> Result<Option<String>, String> {
        let program = self.run.first().map(String::as_str).unwrap_or_default();
        if let Some(path) = program.strip_prefix("{bundle}/") {
            return resolve("", path).map(Some);
        }
        if program.contains('{') {
            return Err("the program's name takes no placeholder but a leading `{bundle}/`".to_owned());
        }
        match program.contains('/') && !program.starts_with('/') {
            true => resolve(&self.root(), program).map(Some),
            false => Ok(None),
        }
    }
}

/// Follows `path` from `base`, both relative to the bundle, without leaving it.
fn resolve(base: &str, path: &str) -> Result<String, String> {
    if path.starts_with('/') {
        return Err(format!("`{path}` is absolute; it is relative to the bundle"));
    }
    let mut components: Vec<&str> = base.split('/').filter(|component| !component.is_empty()).collect();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(components.pop().ok_or_else(|| format!("`{path}` leads out of the bundle"))?),
            plain => components.push(plain),
        }
    }
    Ok(components.join("/"))
}

fn check_text(text: &str) -> Result<(), String> {
    if text.len() > TEXT_BYTES_LIMIT {
        return Err(format!("a text is longer than {TEXT_BYTES_LIMIT} bytes"));
    }
    if text.contains('\0') {
        return Err("a text contains a NUL character".to_owned());
    }
    let unknown = pieces(text).find_map(|piece| match piece {
        Piece::Placeholder(name) if !matches!(name, "port" | "host" | "bundle" | "model") => Some(name),
        _ => None,
    });
    match unknown {
        Some(name) => Err(format!(
            "the placeholder `{{{name}}}` is unknown: there are {{port}}, {{host}}, {{bundle}} and {{model}}"
        )),
        None => Ok(()),
    }
}

/// Puts values where the placeholders stand. Braces around anything but a plain word, as in JSON, stay as they are.
pub fn fill(text: &str, values: &Values<'_>) -> String {
    let mut filled = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Literal(literal) => filled.push_str(literal),
            Piece::Placeholder("port") => filled.push_str(&values.port.to_string()),
            Piece::Placeholder("host") => filled.push_str(values.host),
            Piece::Placeholder("bundle") => filled.push_str(values.bundle),
            Piece::Placeholder("model") => filled.push_str(values.model),
            Piece::Placeholder(other) => filled.extend(["{", other, "}"]),
        }
    }
    filled
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Literal(&'a str),
    Placeholder(&'a str),
}

fn pieces(mut text: &str) -> impl Iterator<Item = Piece<'_>> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        if let Some(name) = placeholder(text) {
            text = &text[name.len() + 2..];
            return Some(Piece::Placeholder(name));
        }
        let next = text.char_indices().skip(1).find(|(at, _)| placeholder(&text[*at..]).is_some());
        let (literal, rest) = text.split_at(next.map_or(text.len(), |(at, _)| at));
        text = rest;
        Some(Piece::Literal(literal))
    })
}

/// The name of the placeholder that the text begins with.
fn placeholder(text: &str) -> Option<&str> {
    let name = text.strip_prefix('{')?;
    let name = &name[..name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?];
    (!name.is_empty() && text[name.len() + 1..].starts_with('}')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, bundle::BundleFile};

    fn options(run: &[&str]) -> CommandOptions {
        CommandOptions {
            run: run.iter().map(ToString::to_string).collect(),
            ready: default_ready(),
            env: BTreeMap::new(),
            directory: None,
            startup: default_startup(),
            drain: default_drain(),
        }
    }

    fn check(options: CommandOptions, expected: &str) {
        assert_eq!(options.check().unwrap_err().to_string(), expected);
    }

    #[test]
    fn placeholders_are_filled_and_other_braces_stay() {
        let values = Values { port: 8000, host: "127.0.0.1", bundle: "/b", model: "m" };
        for (text, expected) in [
            ("--port={port}", "--port=8000"),
            ("{host}:{port}", "127.0.0.1:8000"),
            ("{bundle}/weights", "/b/weights"),
            ("--name={model}", "--name=m"),
            (r#"{"a": {"b": 1}}"#, r#"{"a": {"b": 1}}"#),
            ("{}", "{}"),
            ("{{port}}", "{8000}"),
            ("größe{", "größe{"),
            ("", ""),
        ] {
            assert_eq!(fill(text, &values), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_start_is_refused() {
        let good = || options(&["python3", "server.py", "--port", "{port}", r#"{"json": 1}"#]);
        assert_eq!(good().check(), Ok(()));
        check(options(&[]), "`command.run`: it is empty: write the program and its arguments");
        check(options(&[" "]), "`command.run`: the program's name is empty");
        check(
            options(&["python3", "--port={prt}"]),
            "`command.run`: the placeholder `{prt}` is unknown: there are {port}, {host}, {bundle} and {model}",
        );
        check(options(&["../bin/server"]), "`command.run`: `../bin/server` leads out of the bundle");
        check(options(&["a\0b"]), "`command.run`: a text contains a NUL character");
        check(options(&["x"; RUN_WORDS_LIMIT + 1]), "`command.run`: it has more than 256 words");
        let ready = |text: &str| CommandOptions { ready: text.to_owned().into(), ..good() };
        assert_eq!(ready("tcp").check(), Ok(()));
        check(ready("health"), "`command.ready`: it is a path such as `/health`, or `tcp`");
        let env = |name: &str, value: &str| CommandOptions {
            env: BTreeMap::from([(name.to_owned(), value.to_owned())]),
            ..good()
        };
        assert_eq!(env("MODEL_DIR", "{bundle}/weights").check(), Ok(()));
        check(env("A B", "x"), "`command.env.A B`: a variable's name has letters, digits and `_`");
        check(env("PORT", "80"), "`command.env.PORT`: this variable is set where the server starts");
        check(
            env("X", "{home}"),
            "`command.env.X`: the placeholder `{home}` is unknown: there are {port}, {host}, {bundle} and {model}",
        );
        let directory = |path: &str| CommandOptions { directory: Some(path.to_owned()), ..good() };
        check(directory("/srv"), "`command.directory`: `/srv` is absolute; it is relative to the bundle");
        check(directory("a/../../b"), "`command.directory`: `a/../../b` leads out of the bundle");
        let startup = |startup| CommandOptions { startup, ..good() };
        check(startup(Span::from_secs(0)), "`command.startup`: it is more than 0s and at most 1h");
        check(startup(Span::from_secs(3601)), "`command.startup`: it is more than 0s and at most 1h");
        let drain = CommandOptions { drain: Span::from_secs(301), ..good() };
        check(drain, "`command.drain`: it is at most 5m");
    }

    #[test]
    fn the_program_and_the_directory_are_in_the_bundle() {
        let file = |executable| BundleFile { size: 1, digest: Digest::from_bytes([1; 32]), executable };
        let index = BundleIndex {
            files: BTreeMap::from([("bin/server".to_owned(), file(true)), ("app/run.py".to_owned(), file(false))]),
        };
        let check = |directory: Option<&str>, program: &str, expected: Result<(), &str>| {
            let options = CommandOptions { directory: directory.map(str::to_owned), ..options(&[program]) };
            let found = options.check().and_then(|()| options.check_files(&index));
            assert_eq!(found.map_err(|problem| problem.to_string()), expected.map_err(str::to_owned), "{program}");
        };
        check(None, "python3", Ok(()));
        check(None, "/usr/bin/python3", Ok(()));
        check(None, "./bin/server", Ok(()));
        check(Some("app"), "../bin/server", Ok(()));
        check(Some("app"), "{bundle}/bin/server", Ok(()));
        check(
            Some("app"),
            "./run.py",
            Err("`command.run`: `app/run.py` is not executable: chmod +x it, or name its interpreter"),
        );
        check(None, "./serve", Err("`command.run`: the bundle has no file `serve`"));
        check(Some("src"), "python3", Err("`command.directory`: the bundle has no directory `src`"));
        check(
            None,
            "{host}/x",
            Err("`command.run`: the program's name takes no placeholder but a leading `{bundle}/`"),
        );
    }
}
