//! A model whose replicas fall ill when they are told to, while everything around them is real.

use std::{fs, path::PathBuf};

use anyhow::Result;
use tempfile::TempDir;

const SERVER: &str = include_str!("../faulty/server.py");

/// What ails all its replicas, wherever they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ailment {
    None,
    /// An answer takes 0.4 s.
    Slow,
    /// An answer takes 0.3 s.
    Busy,
    /// Every request is answered with 500.
    Fails,
    /// Every answer is another than the right one.
    Wrong,
    /// Whoever starts ends at once. Those that run already are well.
    Dead,
}

/// A bundle of a server of one's own. Its only golden case expects `right`.
#[derive(Debug)]
pub struct Faulty {
    directory: TempDir,
}

impl Faulty {
    pub const MODEL: &str = "faulty";
    /// Of any gateway; a POST of anything is answered there.
    pub const PATH: &str = "/models/faulty/answer";
    pub const RIGHT: &str = "right";

    pub fn new() -> Result<Self> {
        let faulty = Self { directory: TempDir::new()? };
        let bundle = faulty.bundle();
        fs::create_dir_all(bundle.join("cases"))?;
        faulty.falls(Ailment::None)?;
        fs::write(bundle.join("server.py"), SERVER)?;
        let manifest = format!(
            r#"name = "{}"
runtime = "command"

[command]
run = ["python3", "{{bundle}}/server.py", "--host", "{{host}}", "--port", "{{port}}", "--ailment", "{}"]
ready = "/health"
startup = "30s"
"#,
            Self::MODEL,
            faulty.ailment().display()
        );
        fs::write(bundle.join("tradewind.toml"), manifest)?;
        let case = format!(r#"{{"http": {{"path": "/answer"}}, "expect": {{"matches": "^{}$"}}}}"#, Self::RIGHT);
        fs::write(bundle.join("cases/001.json"), case)?;
        Ok(faulty)
    }

    /// What is deployed.
    pub fn bundle(&self) -> PathBuf {
        self.directory.path().join(Self::MODEL)
    }

    /// From the next request on.
    pub fn falls(&self, ailment: Ailment) -> Result<()> {
        let word = match ailment {
            Ailment::None => "",
            Ailment::Slow => "slow",
            Ailment::Busy => "busy",
            Ailment::Fails => "fail",
            Ailment::Wrong => "wrong",
            Ailment::Dead => "dead",
        };
        // Whoever reads it never sees a half of it.
        let new = self.directory.path().join("new");
        fs::write(&new, word)?;
        Ok(fs::rename(new, self.ailment())?)
    }

    fn ailment(&self) -> PathBuf {
        self.directory.path().join("ailment")
    }

    /// A deployment of it, with more lines of its own; written anew each time.
    pub fn deployment(&self, lines: &str) -> Result<PathBuf> {
        let file = self.directory.path().join("deployment.toml");
        fs::write(&file, format!("model = \"{}\"\n{lines}", self.bundle().display()))?;
        Ok(file)
    }
}
