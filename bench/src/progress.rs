//! How it goes: told on stderr, as findings go to stdout, and given up when somebody interrupts it.

use std::io::Write;

use anyhow::{Result, bail};

pub(crate) fn say(line: &str) {
    // Nobody to hear it is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Interrupted, it is dropped, with all processes that it has started.
pub(crate) async fn until_interrupted<T>(measured: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        measured = measured => measured,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}
