//! Memory of processes, as the kernel counts it.

use std::fs;

use anyhow::{Context, Result, ensure};

/// Of each process all its pages, also those that it shares with others.
pub(crate) fn resident_kib(pids: &[u32]) -> Result<u64> {
    sum(pids, "status", "VmRSS:")
}

/// As [`resident_kib`], of one process, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    Ok(resident_kib(&[pid])? * 1024)
}

/// The most that one process had at any time, of its resident pages.
pub(crate) fn peak_kib(pid: u32) -> Result<u64> {
    sum(&[pid], "status", "VmHWM:")
}

/// Of a page that several processes share each has its part, so that together they have it once.
pub(crate) fn proportional_kib(pids: &[u32]) -> Result<u64> {
    sum(pids, "smaps_rollup", "Pss:")
}

fn sum(pids: &[u32], file: &str, label: &str) -> Result<u64> {
    ensure!(!pids.is_empty(), "it does not run");
    pids.iter()
        .map(|pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/{file}")).context("reading a process's memory")?;
            kib(&text, label).with_context(|| format!("{file} of a process has no {label}"))
        })
        .sum()
}

fn kib(text: &str, label: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(label))?.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_by_their_labels() {
        let text = "7f00-7fff ---p 00000000 00:00 0  [rollup]\nRss:     1824 kB\nPss:      700 kB\nPss_Dirty: 3 kB\n";
        assert_eq!(kib(text, "Pss:"), Some(700));
        assert_eq!(kib(text, "VmRSS:"), None);
        assert_eq!(resident_kib(&[]).unwrap_err().to_string(), "it does not run");
    }
}
