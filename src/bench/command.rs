//! An orchestration of shells on nodes of this machine, beside the raw spawn of the same shells.

use std::{collections::HashSet, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use spinor_consumers::results::{Results, ResultsTarget, StepFilter};
use spinor_executors::StepState;
use tokio::time::Instant;

use super::{
    Place, Request,
    figures::{Measure, Sample, Side, Summary, remarks},
    floors,
    fsync::Fsyncs,
    site::{Site, own_program},
};

const NODES: usize = 6;
const STEPS: usize = 1000;
const SHELL: &str = "echo hello world";

/// All rounds. `--jobs` is the number of steps on each node.
pub async fn run(request: &Request, place: &Place) -> Result<Summary> {
    let steps = request.jobs.unwrap_or(STEPS);
    let shells = steps * NODES;
    let mut product = Side { name: "product".to_owned(), samples: Vec::new() };
    let mut floor = Side { name: "raw spawn".to_owned(), samples: Vec::new() };
    let count = shells.to_string();
    for _ in 0..request.rounds {
        if floors::program().is_some() {
            floor.samples.push(floors::sample(&["spawn", "--jobs", &count, "--command", SHELL], shells, None).await?);
        }
        product.samples.push(round(request, place, steps).await?);
    }
    let mut notes = vec![format!("checked in every round: {shells} processes, each recorded once, as succeeded")];
    notes.extend(remarks(&product.samples));
    let sides = if floor.samples.is_empty() { vec![product] } else { vec![product, floor] };
    let what = format!("{steps} times `{SHELL}` on each of {NODES} nodes, embedded, recorded in SQLite");
    Ok(Summary::new(what, Measure::Seconds, sides, notes))
}

async fn round(request: &Request, place: &Place, steps: usize) -> Result<Sample> {
    let site = Site::new(place, request)?;
    let file = site.dir.join("bench.yaml");
    std::fs::write(&file, format!("- jobs:\n{}", format!("  - RUN: {SHELL}\n").repeat(steps)))?;
    // A file of the embedded kind whatever is configured: nodes of this machine exist only so.
    let config = site.dir.join("local.toml");
    let data = site.config.data.to_string_lossy();
    std::fs::write(&config, format!("data = {}\n[log]\nlevel = \"warn\"\n", serde_json::to_string(&data)?))?;
    let mut command = own_program()?;
    command.arg("run").arg(&file).args(["--local", &NODES.to_string(), "--config"]).arg(&config);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let flushes = super::fsync::Counting::disks();
    let before = super::system::cpu_seconds(std::process::id());
    let started = Instant::now();
    let output = command.output().await?;
    let seconds = started.elapsed().as_secs_f64();
    // The child was waited for, so its CPU and that of all its shells is ours now.
    let after = super::system::cpu_seconds(std::process::id());
    let fsyncs: Option<Fsyncs> = flushes.stop().await;
    if !output.status.success() {
        bail!("the run failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    check(&site, steps).await?;
    std::fs::remove_dir_all(&site.dir)?;
    let sample = Sample {
        jobs: (steps * NODES) as u64,
        seconds,
        cpu_seconds: before.zip(after).map(|(before, after)| after - before),
        fsyncs,
        ..Sample::default()
    };
    super::noop::durable(&sample)?;
    Ok(sample)
}

/// As many distinct processes, by id and start, as there are steps; each succeeded.
async fn check(site: &Site, steps: usize) -> Result<()> {
    let results = Results::open(&ResultsTarget::Sqlite(site.config.data.join("results.db"))).await?;
    let runs = results.runs(10, None).await?.rows;
    let [run] = runs.as_slice() else { bail!("{} runs are recorded, not one", runs.len()) };
    let filter = StepFilter { run: run.id, outputs: true, ..StepFilter::default() };
    let rows = tokio::time::timeout(Duration::from_secs(30), results.steps(&filter)).await??;
    let mut seen = HashSet::new();
    for row in &rows {
        let exit = row.exit.with_context(|| format!("step {} of {} has no process", row.step, row.node))?;
        if row.state != StepState::Succeeded || !row.stdout.head.starts_with("hello world") {
            bail!("step {} of {} did not say what it should: {:?}", row.step, row.node, row.state);
        }
        seen.insert((exit.pid, row.started));
    }
    if (rows.len(), seen.len()) != (steps * NODES, steps * NODES) {
        bail!("{} steps recorded with {} distinct processes, not {}", rows.len(), seen.len(), steps * NODES);
    }
    results.close().await;
    Ok(())
}
