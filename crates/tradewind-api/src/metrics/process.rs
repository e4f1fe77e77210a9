//! What every process says of itself, by the names that Prometheus' own libraries use.

use std::{fs, os::unix::fs::MetadataExt, time::Duration};

use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};
use tradewind_core::RegionName;

use super::{Page, definition::metrics};

metrics! {
    ""
    Gauge BUILD_INFO = "tradewind_build_info"(version, role, region):
        "Always 1: the version of Tradewind, the role, and the region that the process belongs to.";
    Gauge START_TIME = "process_start_time_seconds"(): "When the process started, in seconds since 1970.";
    Counter CPU = "process_cpu_seconds_total"(): "Time that the process has run on processors.";
    Gauge RESIDENT = "process_resident_memory_bytes"(): "Memory that the process has in RAM.";
    Gauge VIRTUAL = "process_virtual_memory_bytes"(): "Memory that the process has mapped.";
    Gauge OPEN_FILES = "process_open_fds"(): "Files and sockets that are open.";
    Gauge FILES_LIMIT = "process_max_fds"(): "The most files and sockets that may be open.";
    Counter SPANS_DROPPED = "tradewind_trace_spans_dropped_total"():
        "Spans of traces that nobody took: the queue was full, or the collector away.";
}

/// Puts this process on the page. What cannot be read, as where `/proc` is not mounted, is left out.
pub fn write(page: &mut Page, role: &str, region: Option<&RegionName>) {
    let region = region.map(RegionName::as_str).unwrap_or_default();
    page.begin(&BUILD_INFO).add([&env!("CARGO_PKG_VERSION"), &role, &region], 1_u32);
    if let Some(started) = start_time() {
        page.one(&START_TIME, started);
    }
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    page.one(&CPU, cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
    if let Some([virtual_pages, resident_pages]) = memory() {
        page.one(&RESIDENT, resident_pages * page_size() as u64);
        page.one(&VIRTUAL, virtual_pages * page_size() as u64);
    }
    if let Some(open) = open_files() {
        page.one(&OPEN_FILES, open);
    }
    if let Some(limit) = getrlimit(Resource::Nofile).current {
        page.one(&FILES_LIMIT, limit);
    }
}

/// See proc_pid_stat(5): field 22 counts from boot, and `btime` says when that was.
fn start_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks: u64 = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().nth(19)?.parse().ok()?;
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    let since_boot = Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64);
    Some(boot as f64 + since_boot.as_secs_f64())
}

/// Mapped and resident, in pages: proc_pid_statm(5).
fn memory() -> Option<[u64; 2]> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let mut fields = statm.split_ascii_whitespace().map(|field| field.parse().ok());
    Some([fields.next()??, fields.next()??])
}

fn open_files() -> Option<u64> {
    // Linux counts them since 6.2; before, they have to be listed, which takes a while where there are many.
    match fs::metadata("/proc/self/fd").ok()?.size() {
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64),
        counted => Some(counted),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::metrics::Format;

    #[test]
    fn a_process_knows_itself() {
        let mut page = Page::new(Format::Text);
        write(&mut page, "agent", Some(&"us-east1".parse().unwrap()));
        let (_, text) = page.finish();
        let value = |name: &str| -> f64 {
            let line =
                text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}"));
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - 3600.0..now + 2.0).contains(&value("process_start_time_seconds")), "{text}");
        assert!(value("process_resident_memory_bytes") > 1e6 && value("process_virtual_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0 && value("process_cpu_seconds_total") > 0.0);
        assert!(text.contains("role=\"agent\",region=\"us-east1\"} 1\n"), "{text}");
    }
}
