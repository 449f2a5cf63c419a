//! What waits for its time: what a crowd of delayed jobs and triggers costs while none is due, how late jobs
//! start when a thousand are due each second, and how long nobody fires after the death of who did.
//!
//! Owns filling the store, and the watch: CPU and memory are the kernel's, a job's lateness goes from its time to
//! its start on record. Every job is checked: it started once, and not early.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, bail};
use jiff::{SignedDuration, Timestamp};
use spinor_consumers::{
    results::{Given, JobFilter, Results},
    schedule::{Spec, Timing},
};
use spinor_executors::{Job, Json, State};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    Place, Request,
    figures::{Measure, Sample, Side, Spread, Summary},
    site::{QUEUE, Running, Site},
    system,
};
use crate::{api::new_job::NewJob, app, client::Client};

/// Delayed jobs in the crowd, unless told otherwise; there are a tenth as many triggers.
const MANY: usize = 1_000_000;
/// How long nothing is due while CPU is measured.
const STILL: Duration = Duration::from_secs(20);
/// What a process does at its start is not measured.
const SETTLED: Duration = Duration::from_secs(8);
/// Jobs due each second, and for how long.
const RATE: usize = 1000;
const BUSY: usize = 10;
/// No round takes longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures beside nothing, then beside the crowd.
pub async fn run(request: &Request, place: &Place) -> Result<Summary> {
    let many = request.jobs.unwrap_or(MANY);
    if many < 10 {
        bail!("--jobs {many}: the crowd must have ten jobs at least");
    }
    let site = Site::new(place, request)?;
    let measured = whole(&site, place, request.rounds, many).await;
    site.sweep(place).await?;
    let (samples, notes) = measured?;
    let sides = vec![Side { name: format!("beside {many}"), samples }];
    let what = format!(
        "from its time to the start of a delayed job, {RATE} due each second for {BUSY} s, beside {many} that wait and {} triggers, {}",
        many / 10,
        if place.embedded() { "embedded" } else { "RabbitMQ" }
    );
    Ok(Summary::new(what, Measure::Latency, sides, notes))
}

async fn whole(site: &Site, place: &Place, rounds: usize, many: usize) -> Result<(Vec<Sample>, Vec<String>)> {
    let client = Client::unix(site.config.socket())?;
    let running = site.start_whole().await?;
    let (none_cpu, none_bytes) = still(&running).await?;
    running.stop().await?;

    let begun = Instant::now();
    let results = app::results_of(&site.config).await?;
    fill(&results, many).await?;
    let filled = begun.elapsed().as_secs_f64();
    results.close().await;

    let running = site.start_whole().await?;
    let (cpu, bytes) = still(&running).await?;
    let mut notes = vec![
        format!("filled in {filled:.0} s"),
        format!(
            "while none is due, of a core: {:.2} % beside nothing, {:.2} % beside the crowd",
            none_cpu * 100.0,
            cpu * 100.0
        ),
        format!(
            "resident: {:.1} MiB beside nothing, {:.1} MiB beside the crowd",
            none_bytes as f64 / f64::from(1 << 20),
            bytes as f64 / f64::from(1 << 20)
        ),
    ];
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let before = system::cpu_seconds(running.pid);
        let due = publish(&client, BUSY * RATE, 1_000_000 / i64::try_from(RATE)?, 6).await?;
        let starts = starts(&client, &due).await?;
        let mut late: Vec<f64> = starts.iter().map(|(_, late)| late.as_secs_f64() * 1e3).collect();
        late.sort_by(f64::total_cmp);
        samples.push(Sample {
            jobs: late.len() as u64,
            seconds: BUSY as f64,
            cpu_seconds: before.zip(system::cpu_seconds(running.pid)).map(|(before, after)| after - before),
            rest_bytes: Some(bytes),
            peak_bytes: system::peak(running.pid),
            median_ms: late.get(late.len() / 2).copied(),
            p99_ms: late.get(late.len() * 99 / 100).copied(),
            ..Sample::default()
        });
    }
    let p99 = Spread::of(samples.iter().filter_map(|sample| sample.p99_ms)).context("a round")?;
    notes.push(format!("p99 {:.1} ms ({:.1} to {:.1})", p99.median, p99.least, p99.most));
    notes.push(format!(
        "nobody fired for {:.2} s after kill -9 of who did",
        death(site, place, &client, running).await?
    ));
    notes.push("each job started once and not early, by the clock of this machine".to_owned());
    Ok((samples, notes))
}

/// CPU, in cores, and resident bytes of a process in which nothing is due.
async fn still(running: &Running) -> Result<(f64, u64)> {
    sleep(SETTLED).await;
    let (begun, before) = (Instant::now(), system::cpu_seconds(running.pid).context("its CPU is not known")?);
    sleep(STILL).await;
    let after = system::cpu_seconds(running.pid).context("its CPU is not known")?;
    let bytes = system::resident(running.pid).context("its memory is not known")?;
    Ok(((after - before) / begun.elapsed().as_secs_f64(), bytes))
}

/// The crowd, a year away. Its triggers come from files newer than any, or the product's own would retire them.
async fn fill(results: &Results, many: usize) -> Result<()> {
    let now = Timestamp::now();
    let mut left = many;
    while left > 0 {
        let some = left.min(5000);
        let mut jobs = Vec::with_capacity(some);
        for number in 0..some {
            let mut job = Job::new("noop", QUEUE, Json::null());
            let wait = SignedDuration::from_hours(24 * 365) + SignedDuration::from_secs(i64::try_from(number)?);
            job.due = Some(now.checked_add(wait)?);
            jobs.push(job);
        }
        results.keep_delayed(&jobs.iter().collect::<Vec<_>>(), "bench").await?;
        left -= some;
    }
    let spec = Spec::new(Timing::Every { ms: 365 * 86_400_000 }, Job::new("noop", QUEUE, Json::null()));
    let given = (0..many / 10).map(|number| Given { name: format!("bench-{number}"), spec: spec.clone() });
    // Each file is older than the one before, or it would retire what that names.
    for (older, some) in given.collect::<Vec<_>>().chunks(1000).enumerate() {
        results.register_triggers(some, i64::MAX / 2 - i64::try_from(older)?, "bench").await?;
    }
    Ok(())
}

/// Jobs that are due one after the other, so many microseconds apart; the first after some seconds.
async fn publish(client: &Client, count: usize, apart: i64, after: i64) -> Result<BTreeMap<Uuid, Timestamp>> {
    let first = Timestamp::now() + SignedDuration::from_secs(after);
    let mut due = BTreeMap::new();
    let mut jobs = Vec::with_capacity(count);
    for number in 0..count {
        let at = first + SignedDuration::from_micros(i64::try_from(number)? * apart);
        let id = Uuid::now_v7();
        due.insert(id, at);
        let (id, queue, at) = (Some(id), Some(QUEUE.to_owned()), Some(at.to_string()));
        jobs.push(NewJob { id, queue, at, ..NewJob::new("noop") });
    }
    for some in jobs.chunks(1000) {
        let answer = client.publish_batch(some).await?;
        if let Some(refused) = answer.jobs.iter().find_map(|job| job.problem.as_ref()) {
            bail!("a delayed job was refused: {}", refused.detail);
        }
    }
    if Timestamp::now() > first {
        bail!("to publish them took longer than {after} s, and some were late from the start");
    }
    Ok(due)
}

/// When each of these started, and how late, once all have ended.
async fn starts(client: &Client, due: &BTreeMap<Uuid, Timestamp>) -> Result<Vec<(Timestamp, SignedDuration)>> {
    let begun = Instant::now();
    let ids: Vec<Uuid> = due.keys().copied().collect();
    for some in ids.chunks(1000) {
        while client.wait_many(some, Duration::from_secs(30)).await?.ended.len() < some.len() {
            if begun.elapsed() > PATIENCE {
                bail!("not all delayed jobs ended within {} s", PATIENCE.as_secs());
            }
        }
    }
    let mut starts = Vec::with_capacity(due.len());
    let mut cursor = None;
    while starts.len() < due.len() {
        let filter = JobFilter { queue: Some(QUEUE.to_owned()), limit: 1000, cursor, ..JobFilter::default() };
        let page = client.jobs(&filter).await?;
        for row in &page.rows {
            let Some(at) = due.get(&row.id) else { continue };
            let start = row.started.context("a job that ended has a start")?;
            if row.state != State::Succeeded || row.attempt != 1 || start < *at {
                bail!("job {} is {:?} at attempt {}, due {at}, started {start}", row.id, row.state, row.attempt);
            }
            starts.push((start, start.duration_since(*at)));
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if starts.len() < due.len() {
        bail!("{} of {} delayed jobs are on record", starts.len(), due.len());
    }
    starts.sort_unstable();
    Ok(starts)
}

/// For how long no delayed job starts after the process is killed that publishes them: embedded it is started
/// again at once, on servers another one with the part `trigger` is there.
async fn death(site: &Site, place: &Place, client: &Client, running: Running) -> Result<f64> {
    let due = publish(client, 250, 100_000, 3).await?;
    let other = if place.embedded() { None } else { Some(site.start_trigger().await?) };
    sleep(Duration::from_secs(8)).await;
    running.kill().await?;
    // From here on nobody starts anything but who comes after it.
    let killed = Timestamp::now();
    let again = site.start_whole().await?;
    let starts = starts(client, &due).await?;
    let first =
        starts.iter().map(|(start, _)| *start).find(|start| *start > killed).context("a job after the death")?;
    again.stop().await?;
    if let Some(other) = other {
        other.stop().await?;
    }
    Ok(first.duration_since(killed).as_secs_f64())
}
