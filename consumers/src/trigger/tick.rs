//! The clock: fires the instants of triggers while this process leads.
//!
//! Owns the order: an instant is decided in the database, its job is published with an id that follows from
//! it and the mark that it may be a copy, then it is marked as published. Whoever leads next publishes what
//! is not marked. Refuses to decide: `results/schedules` does.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use spinor_executors::{HeaderValue, Job, State};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::args;
use crate::{
    blobs::{BlobError, Blobs},
    broker::{Address, Broker, Outgoing, PublishError},
    entry::Entry,
    message::{self, header},
    next::{End, Next},
    planted::{Fault, planted},
    results::{Given, Lead, Results, ResultsError, Tick},
};

/// No longer between two looks: another process may have changed something.
const PAUSE: Duration = Duration::from_secs(1);
/// What was decided longer ago than this may be another leader's by now.
const FRESH: Duration = Duration::from_secs(4);
/// A file that cannot be registered is tried again after this.
const AGAIN: Duration = Duration::from_secs(2);

/// Fires triggers until told to stop; any number of processes may.
pub struct Ticker<B> {
    broker: B,
    results: Results,
    blobs: Blobs,
    lead: Lead,
    given: Vec<Given>,
    stamp: i64,
}

/// Why an instant has no job now. Named by what the caller does next.
enum Unready {
    /// Leave it: it is overdue later.
    Later(String),
    /// It has ended: it never can be.
    Never(String),
}

impl<B: Broker> Ticker<B> {
    /// Fires over `broker` what `results` holds, and what was `given` by a file written at `stamp`.
    pub fn new(broker: B, results: Results, blobs: Blobs, lead: Lead, (given, stamp): (Vec<Given>, i64)) -> Self {
        Self { broker, results, blobs, lead, given, stamp }
    }

    /// Fires until `stop`. Waits for a database that does not answer.
    pub async fn run(self, stop: CancellationToken) {
        if !self.register(&stop).await {
            return;
        }
        let (mut epoch, mut away) = (None, false);
        loop {
            let pause = match self.turn(&mut epoch).await {
                Ok(pause) => {
                    away = false;
                    pause
                }
                Err(error) => {
                    epoch = None;
                    if !std::mem::replace(&mut away, true) {
                        tracing::warn!(%error, "Triggers wait: the database with their instants does not answer.");
                    }
                    PAUSE
                }
            };
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                break;
            }
        }
        if epoch.is_some() {
            // Else the next one waits for the end of the lease.
            let _ = tokio::time::timeout(Duration::from_secs(2), self.results.give_up_lead(self.lead.owner)).await;
        }
    }

    /// Says what the file says; `false` when it was told to stop before.
    async fn register(&self, stop: &CancellationToken) -> bool {
        let mut told = false;
        loop {
            match self.results.register_triggers(&self.given, self.stamp, &self.lead.who).await {
                Ok(()) => return true,
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(%error, "The triggers of the configuration cannot be stored now.");
                    }
                }
            }
            if stop.run_until_cancelled(sleep(AGAIN)).await.is_none() {
                return false;
            }
        }
    }

    /// One look, and what is to be done after it; tells how long to wait.
    async fn turn(&self, epoch: &mut Option<i64>) -> Result<Duration, ResultsError> {
        let looked = self.results.look_to_fire(&self.lead).await?;
        if looked.led {
            *epoch = None;
            return Ok(PAUSE);
        }
        let mut wait = looked.wait;
        let mut overdue = looked.overdue;
        if looked.act {
            let turn = self.results.take_turn(&self.lead).await?;
            let decided = Instant::now();
            let fresh = turn.epoch.is_some() && turn.epoch != *epoch;
            *epoch = turn.epoch;
            if fresh {
                tracing::info!(epoch, "This process fires the triggers now.");
                // What the last leader decided and may not have published.
                let all = self.results.unpublished(true).await?;
                self.publish(all, decided).await?;
                overdue = false;
            } else {
                self.publish(turn.due, decided).await?;
            }
            if epoch.is_none() {
                return Ok(PAUSE);
            }
            wait = Duration::ZERO;
        }
        if overdue {
            let left = self.results.unpublished(false).await?;
            self.publish(left, Instant::now()).await?;
        }
        // A millisecond on: the clock of the database decides, and its look must not come too early.
        Ok((wait + Duration::from_millis(1)).min(PAUSE))
    }

    /// Publishes the jobs of these instants, and marks them.
    async fn publish(&self, ticks: Vec<Tick>, decided: Instant) -> Result<(), ResultsError> {
        if ticks.is_empty() {
            return Ok(());
        }
        let (mut batch, mut jobs, mut ends, mut done) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for tick in ticks {
            if planted(Fault::LostTick) && tick.instant.as_second() % 3 == 0 {
                done.push((tick.schedule, tick.instant.as_microsecond()));
                continue;
            }
            match self.job(&tick).await {
                Ok(job) => {
                    batch.push(outgoing(&job));
                    jobs.push((tick, job));
                }
                Err(Unready::Later(why)) => not_now(&tick, &why),
                Err(Unready::Never(why)) => ends.push(never(&tick, why)),
            }
        }
        if decided.elapsed() > FRESH {
            tracing::warn!("What was to be fired was decided a while ago; whoever leads now fires it.");
            return Ok(());
        }
        if planted(Fault::DoubleTick) {
            let copies = jobs.iter().filter(|(tick, _)| tick.instant.as_second() % 3 == 0);
            let copies = copies.map(|(_, job)| outgoing(&Job { id: Uuid::now_v7(), ..job.clone() }));
            drop(self.broker.publish(copies.collect()).await);
        }
        let mut lines = Vec::new();
        for ((tick, job), sent) in jobs.into_iter().zip(self.broker.publish(batch).await) {
            match sent {
                Ok(()) => {
                    done.push((tick.schedule, tick.instant.as_microsecond()));
                    lines.push(Entry::Queued(Box::new(job)).line());
                }
                Err(error @ (PublishError::Unroutable { .. } | PublishError::TooLarge { .. })) => {
                    ends.push(never(&tick, error.to_string()));
                }
                Err(error) => not_now(&tick, &error.to_string()),
            }
        }
        if !lines.is_empty() {
            // Beside the work: their own reports would show these jobs, too.
            drop(self.broker.report(lines));
        }
        self.results.ticks_published(&done).await?;
        if !ends.is_empty() {
            self.results.follow(&ends, &|_| None).await?;
        }
        Ok(())
    }

    async fn job(&self, tick: &Tick) -> Result<Job, Unready> {
        let mut job = tick.spec.job.clone();
        (job.id, job.created, job.next) = (tick.job, tick.instant, true);
        if let Some(millis) = tick.spec.expires_ms {
            let lasting = SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
            job.expires_at = job.created.checked_add(lasting).ok();
        }
        job.args = args::fill(&job.args, tick).map_err(Unready::Never)?;
        match self.blobs.put_args(&mut job).await {
            Ok(()) => Ok(job),
            Err(error @ BlobError::TooLarge { .. }) => Err(Unready::Never(format!("its args have {error}"))),
            Err(error) => Err(Unready::Later(error.to_string())),
        }
    }
}

fn not_now(tick: &Tick, why: &str) {
    tracing::warn!(trigger = tick.name, instant = %tick.instant, why, "The job of an instant is not published now; it is tried again.");
}

/// An instant whose job cannot be published has ended.
fn never(tick: &Tick, why: String) -> Next {
    tracing::error!(trigger = tick.name, instant = %tick.instant, why, "The job of an instant cannot be published.");
    Next::End(Box::new(End {
        run: None,
        job: tick.job,
        replay: 0,
        state: State::Dead,
        value: None,
        value_ref: None,
        error: Some(why),
        ended: Timestamp::now(),
    }))
}

/// Its message: it may be a copy of what another leader published, so it is claimed.
fn outgoing(job: &Job) -> Outgoing {
    let mut message = message::encode(job, true);
    message.properties.headers.insert(header::CLAIM.to_owned(), HeaderValue::Bool(true));
    Outgoing { to: Address::Work(job.queue.clone()), message, must: true }
}
