//! Jobs that do nothing over raw AMQP: publish, consume, report, ack after the confirm.
//!
//! Reports travel one a message (what a worker written by hand would do) or packed, as the
//! product's; with the journal a `queued` line for each job goes out once the job is confirmed. With a
//! program each job is run by one of its processes before it is reported.
//! Live: publisher and consumer run side by side. Preloaded: only the consuming half is timed.

use std::{collections::VecDeque, path::PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};
use lapin::{
    BasicProperties, Channel, Consumer, PublisherConfirm, message::Delivery, options::BasicAckOptions,
    types::ShortString,
};
use serde_json::{Value, json};
use spinor_executors::Job;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    amqp::{self, PACK, Parcel, WINDOW},
    bytes::{self, Template},
    measure::Stopwatch,
    players::Players,
};

/// Deliveries in hand.
const PREFETCH: u16 = 1000;

#[derive(clap::Args)]
pub struct Args {
    /// The broker.
    #[arg(long)]
    url: String,
    /// How many jobs.
    #[arg(long, default_value_t = 50_000)]
    jobs: usize,
    /// Bytes of each job.
    #[arg(long, default_value_t = 100)]
    payload: usize,
    /// How reports travel.
    #[arg(long, value_enum, default_value_t = Reports::Packed)]
    reports: Reports,
    /// A `queued` line for each job.
    #[arg(long)]
    journal: bool,
    /// Publish all jobs first and time the rest.
    #[arg(long)]
    preloaded: bool,
    /// Jobs handed to the client at once.
    #[arg(long, default_value_t = 125)]
    batch: usize,
    /// Packs of reports on their way.
    #[arg(long, default_value_t = 2)]
    flights: usize,
    /// Threads of the runtime; the client adds one for each connection.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// A program in Python that runs each job.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Its processes.
    #[arg(long, default_value_t = 4)]
    processes: usize,
}

/// How reports travel.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Reports {
    /// One message each.
    Each,
    /// Up to 500 lines a message.
    Packed,
}

/// What every part needs.
struct Plan {
    jobs: usize,
    batch: usize,
    flights: usize,
    reports: Reports,
    properties: BasicProperties,
    body: Vec<u8>,
    report: Template,
    queued: Option<Template>,
    work: ShortString,
    results: ShortString,
}

/// Runs the floor.
pub fn run(args: &Args) -> Result<Value> {
    let mut builder = match args.threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(args.threads.max(1)).enable_all().build()?.block_on(measured(args))
}

async fn measured(args: &Args) -> Result<Value> {
    let name = format!("spinor-floor-{}", Uuid::now_v7());
    let job = Job::new("noop", "bench", bytes::payload(args.payload)?);
    let plan = Plan {
        jobs: args.jobs,
        batch: args.batch,
        flights: args.flights,
        reports: args.reports,
        properties: bytes::properties(&job, args.journal),
        body: job.args.bytes().to_vec(),
        report: Template::report(&job, !args.journal),
        queued: args.journal.then(|| Template::queued(&job)),
        work: format!("{name}.jobs.bench").as_str().into(),
        results: format!("{name}.results").as_str().into(),
    };
    let publisher = amqp::connect(&args.url).await?;
    let consumer = amqp::connect(&args.url).await?;
    let jobs = amqp::confirming(&publisher).await?;
    let reports = amqp::confirming(&publisher).await?;
    let intake = consumer.create_channel().await?;
    amqp::declare(&jobs, plan.work.as_str()).await?;
    amqp::declare(&jobs, plan.results.as_str()).await?;

    let players = args.program.as_ref().map(|program| Players::start(program, args.processes, job.args.text()));
    let players = players.transpose()?;

    let (line, messages) = if args.preloaded {
        publish(&plan, &jobs, &reports).await?;
        let watch = Stopwatch::start()?;
        let deliveries = amqp::consume(&intake, plan.work.as_str(), PREFETCH).await?;
        let messages = work(&plan, through(deliveries, players), &reports).await?;
        (watch, messages)
    } else {
        let deliveries = amqp::consume(&intake, plan.work.as_str(), PREFETCH).await?;
        let watch = Stopwatch::start()?;
        let (_, messages) =
            tokio::try_join!(publish(&plan, &jobs, &reports), work(&plan, through(deliveries, players), &reports))?;
        (watch, messages)
    };
    let mut line = line.stop("amqp-noop", args.jobs as u64, &json!({ "report_messages": messages }))?;
    let left = amqp::ready(&jobs, plan.work.as_str()).await?;
    line["left"] = left.into();
    line["report_bytes"] = plan.report.len().into();
    amqp::delete(&jobs, plan.work.as_str()).await?;
    amqp::delete(&jobs, plan.results.as_str()).await?;
    Ok(line)
}

/// Publishes all jobs, at most a window of them unconfirmed, and announces what is confirmed.
async fn publish(plan: &Plan, jobs: &Channel, reports: &Channel) -> Result<()> {
    let mut window: VecDeque<(Vec<String>, Vec<PublisherConfirm>)> = VecDeque::new();
    let mut announced: VecDeque<Vec<PublisherConfirm>> = VecDeque::new();
    let batch = plan.batch.clamp(1, WINDOW);
    let mut left = plan.jobs;
    while left > 0 || !window.is_empty() {
        if left > 0 && (window.len() + 1) * batch <= WINDOW {
            let ids: Vec<String> = (0..batch.min(left)).map(|_| Uuid::now_v7().to_string()).collect();
            left -= ids.len();
            let parcels = ids.iter().map(|id| plan.job(id)).collect();
            window.push_back((ids, amqp::publish(jobs, &plan.work, parcels).await?));
            continue;
        }
        let Some((ids, confirms)) = window.pop_front() else { break };
        amqp::settled(confirms).await?;
        if let Some(template) = &plan.queued {
            let parcels = vec![pack(template, ids.iter().map(String::as_str))];
            announced.push_back(amqp::publish(reports, &plan.results, parcels).await?);
        }
        if announced.len() > plan.flights {
            amqp::settled(announced.pop_front().unwrap_or_default()).await?;
        }
    }
    for confirms in announced {
        amqp::settled(confirms).await?;
    }
    Ok(())
}

impl Plan {
    fn job(&self, id: &str) -> Parcel {
        Parcel { properties: self.properties.clone().with_message_id(id.into()), body: self.body.clone() }
    }
}

/// One message with a line for each id.
fn pack<'a>(template: &Template, ids: impl ExactSizeIterator<Item = &'a str>) -> Parcel {
    let mut body = Vec::with_capacity(ids.len() * (template.len() + 1));
    for id in ids {
        template.write(&mut body, id.as_bytes());
        body.push(b'\n');
    }
    body.pop();
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/x-ndjson".into())
        .with_message_id("pack-12345".into());
    Parcel { properties, body }
}

/// What comes from the queue, or from the program that ran it.
fn through(deliveries: Consumer, players: Option<Players>) -> Done {
    match players {
        Some(players) => Box::new(players.through(deliveries, PREFETCH)),
        None => Box::new(deliveries.map_err(anyhow::Error::from)),
    }
}

type Done = Box<dyn Stream<Item = Result<Delivery>> + Unpin>;

/// A flight of reports and the last delivery they answer.
type Flight = (Vec<PublisherConfirm>, Delivery);

/// Takes what is at hand, reports it, and acks it once that is confirmed. Returns how many
/// messages carried the reports.
async fn work(plan: &Plan, deliveries: Done, reports: &Channel) -> Result<u64> {
    let (sender, receiver) = mpsc::channel(plan.flights.max(1));
    let (messages, ()) = tokio::try_join!(report(plan, deliveries, reports, sender), ack(receiver))?;
    Ok(messages)
}

async fn report(plan: &Plan, mut from: Done, reports: &Channel, flights: mpsc::Sender<Flight>) -> Result<u64> {
    let (mut done, mut messages) = (0, 0);
    while done < plan.jobs {
        // Room first: what arrives while the flights are under way joins the next one.
        let room = flights.reserve().await?;
        let mut hand = vec![from.next().await.context("the subscription ended")??];
        while hand.len() < PACK
            && let Some(Some(delivery)) = from.next().now_or_never()
        {
            hand.push(delivery?);
        }
        done += hand.len();
        let ids = hand.iter().map(|one| one.properties.message_id().as_ref().map_or("", ShortString::as_str));
        let parcels = match plan.reports {
            Reports::Packed => vec![pack(&plan.report, ids)],
            Reports::Each => ids.map(|id| pack(&plan.report, std::iter::once(id))).collect(),
        };
        messages += parcels.len() as u64;
        let confirms = amqp::publish(reports, &plan.results, parcels).await?;
        room.send((confirms, hand.pop().context("an empty hand")?));
    }
    Ok(messages)
}

async fn ack(mut flights: mpsc::Receiver<Flight>) -> Result<()> {
    while let Some((confirms, last)) = flights.recv().await {
        amqp::settled(confirms).await?;
        last.ack(BasicAckOptions { multiple: true }).await?;
    }
    Ok(())
}
