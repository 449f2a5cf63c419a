//! Did every job take effect exactly once, and when was the last one done?
//!
//! With a recorder the record is asked; without one the reports themselves are read off their
//! queue, after the work queue is empty, so that reading does not slow the work down. Anything
//! missing or double fails the run.

use std::{collections::HashSet, time::Duration};

use anyhow::{Result, bail};
use jiff::Timestamp;
use spinor_consumers::{
    broker::{Address, AnyBroker, Broker, Settlement},
    entry::Entry,
    results::Results,
};
use spinor_executors::State;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::site::QUEUE;

/// Without any progress for so long, the run has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Packs in hand while they are read.
const CREDIT: u32 = 500;

/// What was found.
pub struct Found {
    /// The first start of an execution.
    pub first: Timestamp,
    /// The last end of an execution, or the last commit of its record.
    pub last: Timestamp,
    /// Messages that carried reports.
    pub packs: Option<u64>,
    /// Transactions that recorded.
    pub commits: Option<u64>,
}

/// Waits until all is recorded, and compares.
pub async fn recorded(results: &Results, ids: &[Uuid]) -> Result<Found> {
    let (Some(first), Some(last)) = (ids.iter().min(), ids.iter().max()) else { bail!("no jobs") };
    let wanted = ids.len() as u64;
    let (mut seen, mut since) = (0, Instant::now());
    let tally = loop {
        let tally = results.tally(*first, *last).await?;
        if tally.executions >= wanted && tally.succeeded >= wanted {
            break tally;
        }
        if tally.executions > seen {
            (seen, since) = (tally.executions, Instant::now());
        }
        if since.elapsed() > PATIENCE {
            bail!("{seen} of {wanted} executions were recorded, and nothing more came for {} s", PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(100)).await;
    };
    if (tally.jobs, tally.succeeded, tally.executions) != (wanted, wanted, wanted) {
        bail!(
            "not exactly once: {wanted} jobs published, {} recorded, {} of them succeeded, {} executions",
            tally.jobs,
            tally.succeeded,
            tally.executions
        );
    }
    let moment = |micros: i64| Timestamp::from_microsecond(micros);
    Ok(Found {
        first: moment(tally.first_start)?,
        last: moment(tally.last_commit)?,
        packs: None,
        commits: Some(tally.commits),
    })
}

/// Waits until the work queue is empty, reads all reports, and compares.
pub async fn reported(broker: &AnyBroker, ids: &[Uuid]) -> Result<Found> {
    empty(broker).await?;
    let mut missing: HashSet<Uuid> = ids.iter().copied().collect();
    let (mut first, mut last) = (Timestamp::MAX, Timestamp::MIN);
    let mut packs = 0;
    let mut subscription = broker.consume(&Address::Results, CREDIT).await?;
    let mut hand = Vec::new();
    while !missing.is_empty() {
        let taken = timeout(PATIENCE, subscription.next_many(&mut hand, 100)).await;
        if taken.is_err() || hand.is_empty() {
            bail!("{} of {} jobs never reported", missing.len(), ids.len());
        }
        for delivery in hand.drain(..) {
            packs += u64::from(take(&delivery.message.body, &mut missing, &mut first, &mut last)?);
            drop(broker.settle(delivery, Settlement::default()));
        }
    }
    // A double would be behind the last one.
    sleep(Duration::from_millis(200)).await;
    while let Some(delivery) = subscription.try_next() {
        take(&delivery.message.body, &mut missing, &mut first, &mut last)?;
        drop(broker.settle(delivery, Settlement::default()));
    }
    Ok(Found { first, last, packs: Some(packs), commits: None })
}

async fn empty(broker: &AnyBroker) -> Result<()> {
    let queues = [QUEUE.to_owned()];
    let (mut least, mut since) = (u64::MAX, Instant::now());
    loop {
        let ready = broker.stats(&queues).await?.iter().map(|queue| queue.ready).sum();
        if ready == 0 {
            return Ok(());
        }
        if ready < least {
            (least, since) = (ready, Instant::now());
        }
        if since.elapsed() > PATIENCE {
            bail!("{ready} jobs wait and none was taken for {} s", PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// One pack; tells whether it carried reports.
fn take(body: &[u8], missing: &mut HashSet<Uuid>, first: &mut Timestamp, last: &mut Timestamp) -> Result<bool> {
    let mut reports = false;
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Entry::Report(report) = serde_json::from_slice(line)? else { continue };
        if report.state != State::Succeeded {
            bail!("job {} ended as {}", report.job, report.state.word());
        }
        if !missing.remove(&report.job) {
            bail!("job {} reported twice", report.job);
        }
        reports = true;
        *first = (*first).min(report.started);
        *last = (*last).max(report.ended);
    }
    Ok(reports)
}
