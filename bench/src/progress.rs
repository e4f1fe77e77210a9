//! Tells how it goes on stderr; findings go to stdout.

use std::io::Write;

pub(crate) fn say(line: &str) {
    // Nobody to hear it is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{line}");
}
