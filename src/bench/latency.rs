//! One job at a time, from publish to reply.
//!
//! On RabbitMQ the floor's own client asks, once a worker written by hand and once the product, so
//! that the same code holds the watch. Embedded there is no client but the product's own: the watch
//! stops when the report, durable by then, is handed to whoever consumes the reports.

use anyhow::{Context, Result, bail};
use spinor_consumers::{
    broker::{Address, AnyBroker, Broker, Outgoing, Settlement},
    entry::Entry,
    message,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Place, Request, carry,
    figures::{Measure, Sample, Side, Summary},
    floors, inside, noop,
    site::{QUEUE, Site},
    system,
};

/// A round's jobs.
const JOBS: usize = 2000;

/// All rounds.
pub async fn run(request: &Request, place: &Place) -> Result<Summary> {
    let jobs = request.jobs.unwrap_or(JOBS);
    let what = |broker: &str| format!("{jobs} no-op jobs of {} bytes, one at a time, {broker}", request.payload);
    let Some(url) = place.amqp() else {
        let mut product = Side { name: "product".to_owned(), samples: Vec::new() };
        for _ in 0..request.rounds {
            product.samples.push(inside::round(request, place, jobs).await?);
        }
        let notes = vec!["from publish to the durable report in a reader's hand; no floor".to_owned()];
        return Ok(Summary::new(what("embedded"), Measure::Latency, vec![product], notes));
    };
    if floors::program().is_none() {
        bail!("`spinor-floor` is not beside this program: over RabbitMQ it is the client that asks");
    }
    let site = Site::new(place, request)?;
    let sides = on_site(&site, request, place, url, jobs).await;
    // Rounds that failed leave nothing behind either.
    site.sweep(place).await?;
    let notes = vec!["every reply was the asked job's own; the same client asked both".to_owned()];
    Ok(Summary::new(what("RabbitMQ"), Measure::Latency, sides?, notes))
}

/// All rounds over RabbitMQ, with one product that stays up: product and floor.
async fn on_site(site: &Site, request: &Request, place: &Place, url: &str, jobs: usize) -> Result<Vec<Side>> {
    let mut product = Side { name: "product".to_owned(), samples: Vec::new() };
    let mut floor = Side { name: "raw worker".to_owned(), samples: Vec::new() };
    let app = site.open().await?;
    let broker = app.broker();
    site.declare(&broker).await?;
    let running = site.start("consumer", &broker).await?;
    let rest = system::resident(running.pid);
    let server = noop::listener(place);
    let queue = format!("{}.jobs.{QUEUE}", site.config.broker_prefix);
    let (count, payload) = (jobs.to_string(), request.payload.to_string());
    let arguments = ["amqp-latency", "--url", url, "--jobs", &count, "--payload", &payload];
    for _ in 0..request.rounds {
        floor.samples.push(floors::sample(&arguments, jobs, server).await?);
        let before = system::cpu_seconds(running.pid);
        let mut sample = floors::sample(&[&arguments[..], &["--against", &queue]].concat(), jobs, server).await?;
        sample.publisher_cpu_seconds = sample.cpu_seconds;
        let after = system::cpu_seconds(running.pid);
        sample.cpu_seconds = before.zip(after).map(|(before, after)| after - before);
        (sample.rest_bytes, sample.peak_bytes) = (rest, system::peak(running.pid));
        product.samples.push(sample);
    }
    running.stop().await?;
    broker.close().await;
    Ok(vec![product, floor])
}

/// In the child of an embedded round.
pub async fn embedded(broker: &AnyBroker, request: &Request, jobs: usize) -> Result<Sample> {
    let template = carry::job(request)?;
    let mut reports = broker.consume(&Address::Results, 10).await?;
    let mut times = Vec::with_capacity(jobs);
    let begun = Instant::now();
    for _ in 0..jobs {
        let job = spinor_executors::Job { id: Uuid::now_v7(), ..template.clone() };
        let message = message::encode(&job, false);
        let started = Instant::now();
        let batch = vec![Outgoing { to: Address::Work(QUEUE.to_owned()), message, must: true }];
        let accepted = broker.publish(batch);
        let (accepted, report) = tokio::join!(accepted, reports.next());
        times.push(started.elapsed().as_secs_f64() * 1e3);
        accepted.into_iter().collect::<Result<Vec<()>, _>>()?;
        let report = report.context("the reports ended")?;
        match serde_json::from_slice(report.message.body.split(|byte| *byte == b'\n').next().unwrap_or_default())? {
            Entry::Report(report) if report.job == job.id => {}
            other => bail!("job {} was answered by {other:?}", job.id),
        }
        broker.settle(report, Settlement::default()).await?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied();
    Ok(Sample { seconds, median_ms: at(0.5), p99_ms: at(0.99), ..Sample::default() })
}
