//! `spinor bench streams`: what two hundred open event streams cost those who work.
//!
//! Owns the rounds: the same jobs, published, run, recorded and waited for, without a stream and beside all of them, in
//! turns. Half of the streams hear the pulse, as each open page does, half hear every event. All are read as fast as
//! they come; who reads is this process, so that its own CPU is on the same machine.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail};
use spinor_executors::State as JobState;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use uuid::Uuid;

use super::{
    Place, Request,
    figures::{Measure, Sample, Side, Summary},
    site::{QUEUE, Running, Site},
    system,
};
use crate::{api::new_job::NewJob, client::Client};

/// Open streams.
const STREAMS: usize = 200;
/// Jobs of a round, unless told otherwise.
const WORK: usize = 20_000;
/// In one request.
const BATCH: usize = 1000;
/// Streams are silent no longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests at once.
const AT_ONCE: usize = 4;

/// Measures both, in turns.
pub async fn run(request: &Request, place: &Place) -> Result<Summary> {
    let site = Site::new(place, request)?;
    let running = site.start_whole().await?;
    let measured = turns(&site, &running, request).await;
    running.stop().await?;
    site.sweep(place).await?;
    measured
}

async fn turns(site: &Site, running: &Running, request: &Request) -> Result<Summary> {
    let (client, jobs) = (Client::unix(site.config.socket())?, request.jobs.unwrap_or(WORK));
    // What is done for the first time is not measured.
    round(&client, running, jobs.min(BATCH)).await?;
    let (mut without, mut beside, mut lines) = (Vec::new(), Vec::new(), 0);
    for _ in 0..request.rounds {
        without.push(round(&client, running, jobs).await?);
        let streams = Streams::open(&client).await?;
        beside.push(round(&client, running, jobs).await?);
        lines += streams.heard.load(Ordering::Relaxed);
    }
    let sides = vec![
        Side { name: format!("beside {STREAMS} streams"), samples: beside },
        Side { name: "without".to_owned(), samples: without },
    ];
    let notes = vec![
        format!("heard by all streams together: {lines} pieces"),
        "cpu/10k: of the process that serves, without who reads the streams".to_owned(),
    ];
    let what = format!("jobs that do nothing, published, recorded and waited for, {jobs} a round");
    Ok(Summary::new(what, Measure::Rate, sides, notes))
}

/// Streams that are open and read; closed when it is dropped.
struct Streams {
    heard: Arc<AtomicU64>,
    _reading: JoinSet<()>,
}

impl Streams {
    async fn open(client: &Client) -> Result<Self> {
        let (heard, mut reading) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
        for number in 0..STREAMS {
            let mut stream = client.stream_raw(if number % 2 == 0 { "/pulse" } else { "/events" }).await?;
            let heard = Arc::clone(&heard);
            reading.spawn(async move {
                while let Ok(Some(_)) = stream.chunk().await {
                    heard.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Each that hears the pulse has heard it once.
        let begun = Instant::now();
        while heard.load(Ordering::Relaxed) < STREAMS as u64 / 2 {
            if begun.elapsed() > PATIENCE {
                bail!("nothing was heard on {STREAMS} streams within {} s", PATIENCE.as_secs());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { heard, _reading: reading })
    }
}

async fn round(client: &Client, running: &Running, jobs: usize) -> Result<Sample> {
    let (begun, before) = (Instant::now(), system::cpu_seconds(running.pid));
    let (mut calls, mut left) = (JoinSet::new(), jobs);
    while left > 0 {
        if calls.len() >= AT_ONCE
            && let Some(called) = calls.join_next().await
        {
            called??;
        }
        let count = left.min(BATCH);
        left -= count;
        let client = client.clone();
        calls.spawn(async move { batch(&client, count).await });
    }
    while let Some(called) = calls.join_next().await {
        called??;
    }
    let cpu_seconds = before.zip(system::cpu_seconds(running.pid)).map(|(before, after)| after - before);
    Ok(Sample { jobs: jobs as u64, seconds: begun.elapsed().as_secs_f64(), cpu_seconds, ..Sample::default() })
}

async fn batch(client: &Client, count: usize) -> Result<()> {
    let job = NewJob { queue: Some(QUEUE.to_owned()), ..NewJob::new("noop") };
    let answer = client.publish_batch(&vec![job; count]).await?;
    let ids: Vec<Uuid> = answer.jobs.iter().map(|job| job.id).collect();
    let waited = client.wait_many(&ids, Duration::from_secs(120)).await?;
    let ended = waited.ended.iter().filter(|end| end.state == JobState::Succeeded).count();
    if ended != count {
        bail!("{ended} of {count} jobs ended well within two minutes");
    }
    Ok(())
}
