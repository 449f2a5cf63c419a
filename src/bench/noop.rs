//! Jobs that do nothing, recorded or not: product and floors in turns.

use std::time::Duration;

use anyhow::{Result, bail};
use jiff::Timestamp;
use spinor_consumers::broker::Broker;
use tokio::time::sleep;

use super::{
    Place, Request, Workload, carry,
    check::{self, Found},
    figures::{Measure, Sample, Side, Summary, remarks},
    floors,
    fsync::Counting,
    inside,
    site::Site,
    system,
};
use crate::config::{BrokerChoice, ResultsChoice};

/// A round's jobs.
const JOBS: usize = 50_000;
/// How long the product rests before its size at rest is read.
const REST: Duration = Duration::from_secs(1);

/// All rounds.
pub async fn run(request: &Request, place: &Place) -> Result<Summary> {
    let jobs = request.jobs.unwrap_or(JOBS);
    let mut product = Side { name: "product".to_owned(), samples: Vec::new() };
    let mut floors: Vec<Side> = Vec::new();
    for _ in 0..request.rounds {
        if floors::program().is_some() {
            for (name, sample) in floor_round(request, place, jobs).await? {
                match floors.iter_mut().find(|side| side.name == name) {
                    Some(side) => side.samples.push(sample),
                    None => floors.push(Side { name: name.to_owned(), samples: vec![sample] }),
                }
            }
        }
        let sample = if place.embedded() {
            inside::round(request, place, jobs).await?
        } else {
            remote_round(request, place, jobs).await?
        };
        product.samples.push(sample);
    }
    let mut notes = vec!["checked in every round: each job took effect exactly once".to_owned()];
    notes.extend(remarks(&product.samples));
    notes.extend(idle(place).await?);
    if floors.is_empty() {
        notes.push("no floors: `spinor-floor` is not beside this program".to_owned());
    }
    if recorded(request) && matches!(place.config.results, ResultsChoice::MySql(_)) {
        notes.push("the rows of queue `bench` stay in the results database".to_owned());
    }
    let mut sides = vec![product];
    sides.append(&mut floors);
    Ok(Summary::new(what(request, place, jobs), Measure::Rate, sides, notes))
}

fn recorded(request: &Request) -> bool {
    request.workload == Workload::Record
}

fn what(request: &Request, place: &Place, jobs: usize) -> String {
    let broker = if place.embedded() { "embedded" } else { "RabbitMQ" };
    let record = match (&place.config.results, recorded(request)) {
        (_, false) => "not recorded",
        (ResultsChoice::Sqlite, true) => "recorded in SQLite",
        (ResultsChoice::MySql(_), true) => "recorded in MySQL",
    };
    let mode = if request.preloaded { "preloaded" } else { "live" };
    let journal = if request.journal { "journal full" } else { "journal ends" };
    let (payload, slots) = (request.payload, request.slots);
    format!("{jobs} no-op jobs of {payload} bytes, {broker}, {record}, {mode}, {journal}, {slots} slots")
}

/// The floors that this workload has here, each run once.
async fn floor_round(request: &Request, place: &Place, jobs: usize) -> Result<Vec<(&'static str, Sample)>> {
    let (count, payload) = (jobs.to_string(), request.payload.to_string());
    let packed = broker_loop(request, place, jobs, &[]).await?;
    if place.embedded() {
        return Ok(vec![("the same statements raw", packed)]);
    }
    let mut round = Vec::new();
    if recorded(request) {
        let dir = place.scratch.join("insert");
        std::fs::create_dir_all(&dir)?;
        let rows = place.rows(&dir);
        let mut insert = vec!["insert", "--into", &rows, "--jobs", &count, "--payload", &payload];
        insert.extend(request.journal.then_some("--journal"));
        let insert = floors::sample(&insert, jobs, None).await?;
        std::fs::remove_dir_all(dir)?;
        let both = Sample {
            seconds: packed.seconds + insert.seconds,
            cpu_seconds: packed.cpu_seconds.zip(insert.cpu_seconds).map(|(loop_, insert)| loop_ + insert),
            ..packed.clone()
        };
        round.push(("packed loop + insert", both));
    } else if !request.journal {
        round.push(("plain loop", broker_loop(request, place, jobs, &["--reports", "each"]).await?));
    }
    round.push((if request.journal { "packed, three messages" } else { "packed loop" }, packed));
    Ok(round)
}

/// The first floor of all: the broker's work with packed reports, by hand, and what `more` asks of it.
pub async fn broker_loop(request: &Request, place: &Place, jobs: usize, more: &[&str]) -> Result<Sample> {
    let (count, payload) = (jobs.to_string(), request.payload.to_string());
    let dir = place.scratch.join("statements");
    let dir_text = dir.to_string_lossy().into_owned();
    let mut arguments = match place.amqp() {
        Some(url) => vec!["amqp-noop", "--url", url],
        None => vec!["statements", "--dir", &dir_text],
    };
    arguments.extend(["--jobs", &count, "--payload", &payload]);
    if place.embedded() {
        arguments.extend((!recorded(request)).then_some("--unrecorded"));
    } else {
        arguments.extend(request.preloaded.then_some("--preloaded"));
    }
    arguments.extend(request.journal.then_some("--journal"));
    arguments.extend(more);
    let sample = floors::sample(&arguments, jobs, listener(place)).await?;
    if place.embedded() {
        std::fs::remove_dir_all(dir)?;
    }
    Ok(sample)
}

/// The broker's process, where it is one of this machine.
pub fn listener(place: &Place) -> Option<u32> {
    match &place.config.broker {
        BrokerChoice::RabbitMq(endpoint) => local(&endpoint.first_host()),
        BrokerChoice::Embedded => None,
    }
}

fn database(place: &Place) -> Option<u32> {
    match &place.config.results {
        ResultsChoice::MySql(endpoint) => local(&endpoint.first_host()),
        ResultsChoice::Sqlite => None,
    }
}

fn local((host, port): &(String, u16)) -> Option<u32> {
    ["localhost", "127.0.0.1", "::1"].contains(&host.as_str()).then(|| system::listener(*port)).flatten()
}

/// One round of the product as processes of its own on a broker that others use.
pub async fn remote_round(request: &Request, place: &Place, jobs: usize) -> Result<Sample> {
    let site = Site::new(place, request)?;
    let sample = on_site(&site, request, place, jobs).await;
    // A round that failed leaves nothing behind either.
    site.sweep(place).await?;
    let sample = sample?;
    durable(&sample)?;
    Ok(sample)
}

async fn on_site(site: &Site, request: &Request, place: &Place, jobs: usize) -> Result<Sample> {
    let app = site.open().await?;
    let (broker, results) = (app.broker(), app.results()?);
    site.declare(&broker).await?;
    let early = if request.preloaded { Some(carry::publish(&broker, request, jobs).await?) } else { None };
    let only = if recorded(request) { "consumer,recorder" } else { "consumer" };
    let server = listener(place);
    let before_start = server.and_then(system::cpu_seconds);
    let running = site.start(only, &broker).await?;
    let mut rest = None;
    if early.is_none() {
        sleep(REST).await;
        rest = system::resident(running.pid);
    }
    let pids: Vec<u32> = [Some(running.pid), server, database(place)].into_iter().flatten().collect();
    let counting = Counting::start(&pids).await;
    // Of preloaded jobs many have run already: all that the child used counts.
    let cpu = if early.is_some() { Some(0.0) } else { system::cpu_seconds(running.pid) };
    let own = system::cpu_seconds(std::process::id());
    let server_cpu = if early.is_some() { before_start } else { server.and_then(system::cpu_seconds) };
    let begun = Timestamp::now();
    let (ids, publishing) = match early {
        Some(ids) => (ids, None),
        None => (carry::publish(&broker, request, jobs).await?, own),
    };
    let published = system::cpu_seconds(std::process::id());
    let found =
        if recorded(request) { check::recorded(&results, &ids).await? } else { check::reported(&broker, &ids).await? };
    let used = |before: Option<f64>, after: Option<f64>| before.zip(after).map(|(before, after)| after - before);
    let sample = Sample {
        jobs: jobs as u64,
        seconds: seconds(request, begun, &found)?,
        cpu_seconds: used(cpu, system::cpu_seconds(running.pid)),
        publisher_cpu_seconds: used(publishing, published),
        broker_cpu_seconds: used(server_cpu, server.and_then(system::cpu_seconds)),
        rest_bytes: rest,
        peak_bytes: system::peak(running.pid),
        fsyncs: counting.stop().await,
        commits: found.commits,
        packs: found.packs,
        repeated: found.repeated,
        ..Sample::default()
    };
    running.stop().await?;
    broker.close().await;
    Ok(sample)
}

/// From the first publish, or of preloaded jobs from the first start, to the last end.
pub fn seconds(request: &Request, begun: Timestamp, found: &Found) -> Result<f64> {
    let from = if request.preloaded { found.first } else { begun };
    let seconds = found.last.duration_since(from).as_secs_f64();
    if seconds <= 0.0 {
        bail!("the clock went backwards during the run");
    }
    Ok(seconds)
}

/// No fsync at all means that nothing durable was measured.
pub fn durable(sample: &Sample) -> Result<()> {
    if sample.fsyncs.is_some_and(|fsyncs| fsyncs.count == 0) {
        bail!("the kernel counted no fsync during the run: nothing durable was measured");
    }
    Ok(())
}

/// What an idle raw client takes, to compare the size at rest with.
async fn idle(place: &Place) -> Result<Option<String>> {
    let Some(url) = place.amqp().filter(|_| floors::program().is_some()) else { return Ok(None) };
    let line = floors::line(&["amqp-idle", "--url", url]).await?;
    let mib = line.rest_bytes.unwrap_or(0) as f64 / f64::from(1 << 20);
    Ok(Some(format!("an idle raw client with two connections takes {mib:.1}M")))
}
