//! Did every job take effect exactly once, and when was the last one done?
//!
//! With a recorder the record is asked; without one the reports themselves are read off their
//! queue, after the work queue is empty, so that reading does not slow the work down. Anything
//! missing or double fails the run.

use std::{collections::HashMap, time::Duration};

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
    /// Reports that came more than once, of one execution.
    pub repeated: u64,
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
        repeated: 0,
    })
}

/// Waits until the work queue is empty, reads all reports, and compares.
pub async fn reported(broker: &AnyBroker, ids: &[Uuid]) -> Result<Found> {
    empty(broker).await?;
    let mut reports = Reports::of(ids);
    let mut subscription = broker.consume(&Address::Results, CREDIT).await?;
    let mut hand = Vec::new();
    while reports.seen < ids.len() {
        let taken = timeout(PATIENCE, subscription.next_many(&mut hand, 100)).await;
        if taken.is_err() || hand.is_empty() {
            bail!("{} of {} jobs never reported", ids.len() - reports.seen, ids.len());
        }
        for delivery in hand.drain(..) {
            reports.take(&delivery.message.body)?;
            drop(broker.settle(delivery, Settlement::default()));
        }
    }
    // A double would be behind the last one.
    sleep(Duration::from_millis(200)).await;
    while let Some(delivery) = subscription.try_next() {
        reports.take(&delivery.message.body)?;
        drop(broker.settle(delivery, Settlement::default()));
    }
    let Reports { first, last, packs, repeated, .. } = reports;
    Ok(Found { first, last, packs: Some(packs), commits: None, repeated })
}

/// The reports read so far.
struct Reports {
    /// The execution of each job, once it is known.
    executions: HashMap<Uuid, Option<Uuid>>,
    seen: usize,
    repeated: u64,
    packs: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Reports {
    fn of(ids: &[Uuid]) -> Self {
        let executions = ids.iter().map(|id| (*id, None)).collect();
        Self { executions, seen: 0, repeated: 0, packs: 0, first: Timestamp::MAX, last: Timestamp::MIN }
    }

    /// One pack.
    fn take(&mut self, body: &[u8]) -> Result<()> {
        let mut carried = false;
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let Entry::Report(report) = serde_json::from_slice(line)? else { continue };
            carried = true;
            if report.state != State::Succeeded {
                bail!("job {} ended as {}", report.job, report.state.word());
            }
            match self.executions.get_mut(&report.job) {
                None => bail!("job {} was not published by this round", report.job),
                // A report may come twice, and is recorded once: the effect is the execution.
                Some(Some(execution)) if *execution == report.execution => self.repeated += 1,
                Some(Some(_)) => bail!("job {} ran twice", report.job),
                Some(unknown) => {
                    *unknown = Some(report.execution);
                    self.seen += 1;
                }
            }
            self.first = self.first.min(report.started);
            self.last = self.last.max(report.ended);
        }
        self.packs += u64::from(carried);
        Ok(())
    }
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
