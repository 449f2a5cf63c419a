//! Publishing a round's jobs the way programs do: through the broker, in batches, confirmed.

use anyhow::{Result, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use spinor_consumers::{
    broker::{Address, AnyBroker, Broker, Outgoing, Receipt},
    entry::Entry,
    message,
};
use spinor_executors::{Job, Json};
use uuid::Uuid;

use super::{
    Request,
    site::{self, QUEUE},
};

/// Jobs handed over at once, and batches on their way: together the window of the floors.
const BATCH: usize = 125;
const FLIGHTS: usize = 4;

/// One job that does nothing.
pub fn job(request: &Request) -> Result<Job> {
    let text = format!("\"{}\"", "x".repeat(request.payload.max(2) - 2));
    Ok(Job::new(site::kind(request), QUEUE, Json::new(text)?))
}

/// Publishes `jobs` jobs; their ids, once every one is safe and announced.
pub async fn publish(broker: &AnyBroker, request: &Request, jobs: usize) -> Result<Vec<Uuid>> {
    let template = job(request)?;
    let starts = (0..jobs).step_by(BATCH);
    let batches: Vec<(Vec<Uuid>, Option<Receipt>)> = stream::iter(starts)
        .map(|start| one_batch(broker, &template, BATCH.min(jobs - start), request.journal))
        .buffer_unordered(FLIGHTS)
        .try_collect()
        .await?;
    let mut ids = Vec::with_capacity(jobs);
    for (batch, announced) in batches {
        ids.extend(batch);
        if let Some(announced) = announced {
            announced.await?;
        }
    }
    Ok(ids)
}

async fn one_batch(
    broker: &AnyBroker,
    template: &Job,
    count: usize,
    journal: bool,
) -> Result<(Vec<Uuid>, Option<Receipt>)> {
    let jobs: Vec<Job> = (0..count).map(|_| Job { id: Uuid::now_v7(), ..template.clone() }).collect();
    let batch = jobs
        .iter()
        .map(|job| Outgoing { to: Address::Work(QUEUE.to_owned()), message: message::encode(job, journal), must: true })
        .collect();
    for result in broker.publish(batch).await {
        if let Err(error) = result {
            bail!("a job was not accepted: {error}");
        }
    }
    let ids = jobs.iter().map(|job| job.id).collect();
    let lines = || jobs.into_iter().map(|job| Entry::Queued(Box::new(job)).line()).collect();
    Ok((ids, journal.then(|| broker.report(lines()))))
}
