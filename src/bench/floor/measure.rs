//! What a floor measures of itself: wall clock, CPU seconds and memory, as the kernel counts them.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Ticks a second in `/proc/PID/stat`: fixed for user space on Linux.
const TICKS: f64 = 100.0;

/// A running measurement.
pub struct Stopwatch {
    started: Instant,
    cpu: f64,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Result<Self> {
        Ok(Self { cpu: cpu_seconds()?, started: Instant::now() })
    }

    /// The result line of a floor that did `jobs` jobs since the start.
    pub fn stop(&self, floor: &str, jobs: u64, more: &Value) -> Result<Value> {
        let seconds = self.started.elapsed().as_secs_f64();
        let mut line = json!({
            "floor": floor,
            "jobs": jobs,
            "seconds": seconds,
            "per_second": jobs as f64 / seconds,
            "cpu_seconds": cpu_seconds()? - self.cpu,
            "peak_bytes": memory("VmHWM")?,
        });
        if let (Some(line), Some(more)) = (line.as_object_mut(), more.as_object()) {
            line.extend(more.clone());
        }
        Ok(line)
    }
}

/// CPU seconds of this process and of the children it has waited for.
fn cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(") ").context("/proc/self/stat")?;
    let ticks: f64 = fields.split(' ').skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS)
}

/// A field of `/proc/self/status` in bytes: `VmRSS` or `VmHWM`.
pub fn memory(field: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).context("no such field")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
