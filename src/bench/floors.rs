//! Runs the floors: `spinor-floor`, the program beside this one.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::process::Command;

use super::{figures::Sample, system};

/// What a floor prints.
#[derive(Debug, Deserialize)]
pub struct Line {
    /// Wall clock.
    #[serde(default)]
    pub seconds: f64,
    /// Its own CPU.
    #[serde(default)]
    pub cpu_seconds: f64,
    /// Its largest resident size.
    #[serde(default)]
    pub peak_bytes: u64,
    /// At rest, where it looked.
    #[serde(default)]
    pub rest_bytes: Option<u64>,
    /// Of a latency floor.
    #[serde(default)]
    pub median_ms: Option<f64>,
    /// Of a latency floor.
    #[serde(default)]
    pub p99_ms: Option<f64>,
}

/// The program; `None` when it was not installed with this one.
pub fn program() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.with_file_name("spinor-floor");
    path.exists().then_some(path)
}

/// Runs one floor to its end.
pub async fn line(arguments: &[&str]) -> Result<Line> {
    let program = program().context("`spinor-floor` is not beside this program")?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output()
        .await?;
    if !output.status.success() {
        bail!("the floor `{}` failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("the floor's line")
}

/// The same as a sample of `jobs` jobs; `broker` is the process whose CPU is counted beside it.
pub async fn sample(arguments: &[&str], jobs: usize, broker: Option<u32>) -> Result<Sample> {
    let before = broker.and_then(system::cpu_seconds);
    let line = line(arguments).await?;
    let after = broker.and_then(system::cpu_seconds);
    Ok(Sample {
        jobs: jobs as u64,
        seconds: line.seconds,
        cpu_seconds: Some(line.cpu_seconds),
        broker_cpu_seconds: before.zip(after).map(|(before, after)| after - before),
        peak_bytes: Some(line.peak_bytes),
        rest_bytes: line.rest_bytes,
        median_ms: line.median_ms,
        p99_ms: line.p99_ms,
        ..Sample::default()
    })
}
