//! One round on the embedded broker, in a child of its own, so that its figures are its own.
//!
//! The child is this program with the request as a hidden argument: it builds the product by the
//! ordinary path, publishes, waits, checks, and prints its sample.

use std::{process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use spinor_consumers::{broker::Broker, consumer::Shutdown};
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Place, Request, Workload, carry, check,
    figures::Sample,
    fsync::Counting,
    latency, noop,
    site::{QUEUE, Site, own_program},
    system,
};
use crate::{
    app::{App, Parts, Role},
    config::Config,
};

/// Starts the child, and reads its sample.
pub async fn round(request: &Request, place: &Place, jobs: usize) -> Result<Sample> {
    let site = Site::new(place, request)?;
    let asked = Request { jobs: Some(jobs), ..request.clone() };
    let output = own_program()?
        .args(["bench", "inside", "--request", &serde_json::to_string(&asked)?, "--config"])
        .arg(&site.file)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .await?;
    if !output.status.success() {
        bail!("the embedded round failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    std::fs::remove_dir_all(&site.dir)?;
    let sample: Sample = serde_json::from_slice(&output.stdout).context("the child's sample")?;
    noop::durable(&sample)?;
    Ok(sample)
}

/// The child's whole life.
pub async fn run(request: &Request, config: Arc<Config>) -> Result<Sample> {
    let recorder = request.workload == Workload::Record;
    let parts = Parts { api: false, consumer: true, recorder, trigger: false };
    let role = Role { parts, nodes: Vec::new(), jobs: true, record: None, supervises: None, own: None };
    let app = App::build(config, role, &CancellationToken::new()).await?;
    let (broker, results) = (app.broker(), app.results()?);
    broker.declare(&[spinor_consumers::broker::QueueSpec { name: QUEUE.to_owned(), foreign: false }]).await?;
    let jobs = request.jobs.context("the request names no number of jobs")?;
    let early = if request.preloaded { Some(carry::publish(&broker, request, jobs).await?) } else { None };
    let own = std::process::id();
    let counting = Counting::start(&[own]).await;
    let mut cpu = system::cpu_seconds(own);
    let shutdown = Shutdown::default();
    let tasks = TaskTracker::new();
    let running = tasks.spawn(app.run(shutdown.clone()));
    tasks.close();
    let mut rest = None;
    if early.is_none() {
        sleep(Duration::from_secs(1)).await;
        rest = system::resident(own);
        cpu = system::cpu_seconds(own);
    }
    let mut sample = if request.workload == Workload::Latency {
        latency::embedded(&broker, request, jobs).await?
    } else {
        let begun = Timestamp::now();
        let ids = match early {
            Some(ids) => ids,
            None => carry::publish(&broker, request, jobs).await?,
        };
        let found = match recorder {
            true => check::recorded(&results, &ids).await?,
            false => check::reported(&broker, &ids).await?,
        };
        let seconds = noop::seconds(request, begun, &found)?;
        Sample { seconds, commits: found.commits, packs: found.packs, repeated: found.repeated, ..Sample::default() }
    };
    sample.jobs = jobs as u64;
    sample.cpu_seconds = cpu.zip(system::cpu_seconds(own)).map(|(before, after)| after - before);
    sample.rest_bytes = rest;
    sample.peak_bytes = system::peak(own);
    sample.fsyncs = counting.stop().await;
    shutdown.drain.cancel();
    running.await??;
    Ok(sample)
}
