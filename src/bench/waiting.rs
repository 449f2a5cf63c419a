//! What a crowd that waits costs who works: the same work beside ten thousand unique keys, or
//! delayed jobs, and beside a hundred times as many.
//!
//! Owns filling the store and the same work at both sizes, by the API of a real process. The smaller
//! crowd stands as the floor; the two cannot take turns, because a crowd only grows.

use anyhow::{Context as _, Result, bail};
use spinor_consumers::state::{OnTaken, State};
use spinor_executors::State as JobState;
use tokio::{
    task::JoinSet,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Place, Request, Workload,
    figures::{Measure, Sample, Side, Summary},
    site::{QUEUE, Running, Site},
    system,
};
use crate::{api::new_job::NewJob, app, client::Client};

/// The smaller crowd.
const FEW: usize = 10_000;
/// The larger one, unless told otherwise.
const MANY: usize = 1_000_000;
/// How much is done beside it in each round.
const WORK: usize = 5_000;
/// Calls at once.
const AT_ONCE: usize = 64;
/// No crowd outwaits the benchmark.
const LONG: Duration = Duration::from_secs(6 * 3600);

/// Measures beside both crowds.
pub async fn run(request: &Request, place: &Place) -> Result<Summary> {
    let many = request.jobs.unwrap_or(MANY);
    if many <= FEW {
        bail!("--jobs {many}: the crowd must be larger than {FEW}, which it is compared with");
    }
    let site = Site::new(place, request)?;
    let measured = match request.workload {
        Workload::Keys => keys(&site, request.rounds, many).await,
        _ => delayed(&site, request.rounds, many).await,
    };
    site.sweep(place).await?;
    let (what, few, crowd) = measured?;
    let sides = vec![
        Side { name: format!("beside {many}"), samples: crowd },
        Side { name: format!("beside {FEW}"), samples: few },
    ];
    let notes = vec!["rest: resident before the rounds; peak: after them".to_owned()];
    Ok(Summary::new(format!("{what}, {WORK} a round, {AT_ONCE} at once"), Measure::Rate, sides, notes))
}

type Measured = (&'static str, Vec<Sample>, Vec<Sample>);

/// Unique keys taken and given back.
async fn keys(site: &Site, rounds: usize, many: usize) -> Result<Measured> {
    let state = app::state_of(&site.config, &CancellationToken::new()).await?;
    take(&state, 0..FEW).await?;
    let few = key_rounds(&state, rounds).await?;
    take(&state, FEW..many).await?;
    let crowd = key_rounds(&state, rounds).await?;
    // A server's own database is left as it was.
    free(&state, many).await?;
    state.close().await;
    Ok(("unique keys taken and given back", few, crowd))
}

async fn take(state: &State, numbers: std::ops::Range<usize>) -> Result<()> {
    each(numbers, |number| {
        let state = state.clone();
        async move {
            let (key, job) = waiting(number);
            state.take_key(&key, job, LONG, OnTaken::Keep).await?;
            Ok(())
        }
    })
    .await
}

async fn free(state: &State, count: usize) -> Result<()> {
    each(0..count, |number| {
        let state = state.clone();
        async move {
            let (key, job) = waiting(number);
            state.free_key(&key, job).await?;
            Ok(())
        }
    })
    .await
}

/// A key of the crowd, and the job that has it.
fn waiting(number: usize) -> (String, Uuid) {
    (format!("bench-{number}"), Uuid::from_u128(number as u128 + 1))
}

async fn key_rounds(state: &State, rounds: usize) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let pid = std::process::id();
        let (begun, rest) = (Instant::now(), system::resident(pid));
        each(0..WORK, |_| {
            let state = state.clone();
            async move {
                let job = Uuid::now_v7();
                let key = format!("work-{job}");
                state.take_key(&key, job, LONG, OnTaken::Keep).await?;
                state.free_key(&key, job).await?;
                Ok(())
            }
        })
        .await?;
        samples.push(sample(begun, rest, pid));
    }
    Ok(samples)
}

/// Jobs that run while others wait for their time.
async fn delayed(site: &Site, rounds: usize, many: usize) -> Result<Measured> {
    // The embedded broker belongs to the child; RabbitMQ tells here when it consumes.
    let running = site.start_whole().await?;
    let client = Client::unix(site.config.socket())?;
    let measured = async {
        delay(&client, FEW).await?;
        let few = job_rounds(&client, &running, rounds).await?;
        delay(&client, many - FEW).await?;
        let crowd = job_rounds(&client, &running, rounds).await?;
        Ok(("jobs that do nothing, recorded and waited for, beside delayed ones", few, crowd))
    };
    let measured = measured.await;
    running.stop().await?;
    measured
}

async fn delay(client: &Client, count: usize) -> Result<()> {
    // As long as the broker keeps it: a longer one waits in the database.
    let job = NewJob { queue: Some(QUEUE.to_owned()), delay: Some("15m".to_owned()), ..NewJob::new("noop") };
    let mut left = count;
    while left > 0 {
        let batch = vec![job.clone(); left.min(1000)];
        let answer = client.publish_batch(&batch).await?;
        if let Some(refused) = answer.jobs.iter().find_map(|job| job.problem.as_ref()) {
            bail!("a delayed job was refused: {}", refused.detail);
        }
        left -= batch.len();
    }
    Ok(())
}

async fn job_rounds(client: &Client, running: &Running, rounds: usize) -> Result<Vec<Sample>> {
    let job = NewJob { queue: Some(QUEUE.to_owned()), ..NewJob::new("noop") };
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let (begun, rest) = (Instant::now(), system::resident(running.pid));
        for _ in 0..WORK / 1000 {
            let answer = client.publish_batch(&vec![job.clone(); 1000]).await?;
            let ids: Vec<Uuid> = answer.jobs.iter().map(|job| job.id).collect();
            let waited = client.wait_many(&ids, Duration::from_secs(60)).await?;
            let ended = waited.ended.iter().filter(|end| end.state == JobState::Succeeded).count();
            if ended != ids.len() {
                bail!("{ended} of {} jobs ended well within a minute: {}", ids.len(), running.said());
            }
        }
        samples.push(sample(begun, rest, running.pid));
    }
    Ok(samples)
}

fn sample(begun: Instant, rest_bytes: Option<u64>, pid: u32) -> Sample {
    let seconds = begun.elapsed().as_secs_f64();
    Sample { jobs: WORK as u64, seconds, rest_bytes, peak_bytes: system::resident(pid), ..Sample::default() }
}

/// Does it for each number, so many at once; the first error ends it.
async fn each<F>(numbers: std::ops::Range<usize>, call: impl Fn(usize) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut calls = JoinSet::new();
    for number in numbers {
        if calls.len() >= AT_ONCE {
            calls.join_next().await.context("a call")???;
        }
        calls.spawn(call(number));
    }
    while let Some(ended) = calls.join_next().await {
        ended??;
    }
    Ok(())
}
