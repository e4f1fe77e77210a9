//! h2load, which asks the same thing again and again on kept connections.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::server::find;

/// What it asks, how, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    pub url: &'a str,
    pub version: Version,
    pub connections: u64,
    /// Requests under way at once on each connection; one on HTTP/1.1.
    pub streams: u64,
    pub time: Duration,
    pub headers: &'a [String],
    /// What is posted; without it it gets.
    pub body: Option<&'a Path>,
    /// Where it writes a line for each answer. It appends to what is there.
    pub log: Option<&'a Path>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    /// Without TLS.
    Http2,
}

impl Load<'_> {
    pub(crate) async fn run(self) -> Result<Said> {
        let mut command = Command::new(find("h2load")?);
        command
            .args(["--threads", "1", "--clients", &self.connections.to_string()])
            .args(["--max-concurrent-streams", &self.streams.to_string()])
            .args(["--duration", &format!("{}ms", self.time.as_millis())])
            .kill_on_drop(true);
        if self.version == Version::Http1 {
            command.arg("--h1");
        }
        for header in self.headers {
            command.args(["--header", header]);
        }
        if let Some(body) = self.body {
            command.arg("--data").arg(body);
        }
        if let Some(log) = self.log {
            command.arg("--log-file").arg(log);
        }
        let output = command.arg(self.url).output().await.context("starting h2load")?;
        ensure!(output.status.success(), "h2load: {}", String::from_utf8_lossy(&output.stderr));
        Said::read(&String::from_utf8_lossy(&output.stdout))
    }
}

/// What h2load says at its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Said {
    pub answered: u64,
    /// Refused, broken off, or not answered.
    pub failed: u64,
    pub per_second: f64,
    /// Of all answers, without their heads.
    pub body_bytes: u64,
}

impl Said {
    fn read(output: &str) -> Result<Self> {
        let line = |label: &str| {
            let found = output.lines().find_map(|line| line.strip_prefix(label));
            found.with_context(|| format!("h2load did not say `{label}`: {output}"))
        };
        let requests = line("requests: ")?;
        let counted = |what: &str| -> Result<u64> {
            let found = requests.split(", ").find_map(|part| part.strip_suffix(what));
            Ok(found.with_context(|| format!("h2load did not count{what}"))?.parse()?)
        };
        let per_second = line("finished in ")?.split(", ").find_map(|part| part.strip_suffix(" req/s"));
        let data = line("traffic: ")?.split(", ").find_map(|part| part.strip_suffix(") data"));
        Ok(Self {
            answered: counted(" succeeded")?,
            failed: counted(" failed")? + counted(" errored")? + counted(" timeout")?,
            per_second: per_second.context("h2load told no rate")?.parse()?,
            body_bytes: data.and_then(|data| data.rsplit('(').next()).context("h2load counted no bytes")?.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_failures_and_bytes_are_read() {
        let output = "finished in 1.00s, 998.50 req/s, 1.20MB/s\n\
             requests: 1000 total, 1064 started, 1000 done, 995 succeeded, 3 failed, 2 errored, 0 timeout\n\
             traffic: 12.34KB (12636) total, 3.08KB (3156) headers (space savings 83.54%), 7.42KB (7600) data\n";
        let expected = Said { answered: 995, failed: 5, per_second: 998.5, body_bytes: 7600 };
        assert_eq!(Said::read(output).unwrap(), expected);
        assert!(Said::read("unable to connect").is_err());
    }
}
