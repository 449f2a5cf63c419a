//! One job at a time over raw AMQP: from the publish to the reply.
//!
//! The client half can be pointed at a work queue that the product consumes (`--against`), so that
//! floor and product are timed by the same code. The worker half answers at once: report and reply
//! leave together, the ack follows the report's confirm.

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Consumer,
    options::{BasicAckOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use serde_json::{Value, json};
use spinor_executors::Job;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    amqp::{self, Parcel},
    bytes::{self, Template},
    measure::Stopwatch,
};

#[derive(clap::Args)]
pub struct Args {
    /// The broker.
    #[arg(long)]
    url: String,
    /// How many jobs, one after the other.
    #[arg(long, default_value_t = 2000)]
    jobs: usize,
    /// Bytes of each job.
    #[arg(long, default_value_t = 100)]
    payload: usize,
    /// The full name of a queue that somebody else serves; without it the raw worker runs here.
    #[arg(long)]
    against: Option<String>,
}

/// Runs the floor.
pub fn run(args: &Args) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measured(args))
}

async fn measured(args: &Args) -> Result<Value> {
    let publisher = amqp::connect(&args.url).await?;
    let listener = amqp::connect(&args.url).await?;
    let jobs = amqp::confirming(&publisher).await?;
    let replies = listener.create_channel().await?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let reply_to = replies.queue_declare(ShortString::default(), options, FieldTable::default()).await?;
    let mut answers = amqp::consume(&replies, reply_to.name().as_str(), 100).await?;
    let mut job = Job::new("noop", "bench", bytes::payload(args.payload)?);
    job.reply_to = Some(reply_to.name().to_string());

    let Some(queue) = &args.against else {
        let name = format!("spinor-floor-{}", Uuid::now_v7());
        let (work, results) = (format!("{name}.jobs.bench"), format!("{name}.results"));
        amqp::declare(&jobs, &work).await?;
        amqp::declare(&jobs, &results).await?;
        let worker_publisher = amqp::connect(&args.url).await?;
        let worker_consumer = amqp::connect(&args.url).await?;
        let reports = amqp::confirming(&worker_publisher).await?;
        let intake = worker_consumer.create_channel().await?;
        let deliveries = amqp::consume(&intake, &work, 1000).await?;
        let line = tokio::select! {
            line = ask(args, &job, &jobs, &work, &mut answers) => line?,
            ended = serve(deliveries, &reports, &results, &job) => { ended?; bail!("the worker ended") }
        };
        amqp::delete(&jobs, &work).await?;
        amqp::delete(&jobs, &results).await?;
        return Ok(line);
    };
    ask(args, &job, &jobs, queue, &mut answers).await
}

/// Publishes one job after the other and times each until its reply is here.
async fn ask(args: &Args, job: &Job, jobs: &Channel, queue: &str, answers: &mut Consumer) -> Result<Value> {
    let queue: ShortString = queue.into();
    let properties = bytes::properties(job, false);
    let mut times = Vec::with_capacity(args.jobs);
    let watch = Stopwatch::start()?;
    for _ in 0..args.jobs {
        let id = Uuid::now_v7().to_string();
        let properties = properties.clone().with_message_id(id.as_str().into()).with_correlation_id(id.as_str().into());
        let started = Instant::now();
        let parcel = Parcel { properties, body: job.args.bytes().to_vec() };
        let confirms = amqp::publish(jobs, &queue, vec![parcel]).await?;
        let answer = answers.next().await.context("the replies ended")??;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        amqp::settled(confirms).await?;
        answer.ack(BasicAckOptions::default()).await?;
        if answer.properties.correlation_id().as_ref().map(ShortString::as_str) != Some(id.as_str()) {
            bail!("a reply to another job");
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied();
    let figures = json!({ "median_ms": at(0.5), "p99_ms": at(0.99), "least_ms": times.first() });
    watch.stop("amqp-latency", args.jobs as u64, &figures)
}

/// The raw worker.
async fn serve(mut from: Consumer, reports: &Channel, results: &str, job: &Job) -> Result<()> {
    let template = Template::report(job, true);
    let results: ShortString = results.into();
    while let Some(delivery) = from.next().await {
        let delivery = delivery?;
        let id = delivery.properties.message_id().as_ref().context("no id")?;
        let reply_to = delivery.properties.reply_to().as_ref().context("no reply address")?;
        let mut body = Vec::with_capacity(template.len());
        template.write(&mut body, id.as_str().as_bytes());
        let properties = BasicProperties::default().with_delivery_mode(2).with_message_id(id.clone());
        let reply = Parcel { properties: properties.clone().with_correlation_id(id.clone()), body: body.clone() };
        let report = Parcel { properties, body };
        let (reply, report) = tokio::try_join!(
            amqp::publish(reports, reply_to, vec![reply]),
            amqp::publish(reports, &results, vec![report])
        )?;
        amqp::settled(reply).await?;
        amqp::settled(report).await?;
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}
