//! The clock: fires the instants of triggers while this process leads.
//!
//! Owns the order: an instant is decided in the database, its job is published with an id that follows from
//! it and the mark that it may be a copy, then it is marked as published. Whoever leads next publishes what
//! is not marked. Refuses to decide: `results/schedules` does.

use std::time::Duration;

use spinor_executors::Job;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Said, args, each, fan_out,
    fire::{Unready, dead, expire, work},
    looking::{Look, PAUSE, look},
};
use crate::{
    blobs::Blobs,
    broker::{Broker, Link, PublishError},
    entry::Entry,
    next::Next,
    planted::{Fault, planted},
    results::{Given, Lead, Results, ResultsError, Tick},
};

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
    /// What is due could not be published.
    unsent: Said,
}

impl<B: Broker> Ticker<B> {
    /// Fires over `broker` what `results` holds, and what was `given` by a file written at `stamp`.
    pub fn new(broker: B, results: Results, blobs: Blobs, lead: Lead, (given, stamp): (Vec<Given>, i64)) -> Self {
        Self { broker, results, blobs, lead, given, stamp, unsent: Said::default() }
    }

    /// Fires until `stop`. Waits for a database that does not answer.
    pub async fn run(mut self, stop: CancellationToken) {
        if !self.register(&stop).await {
            return;
        }
        if look(&mut self, &stop).await.is_some() {
            // Else the next one waits for the end of the lease.
            let _ = tokio::time::timeout(Duration::from_secs(2), self.results.give_up_lead(self.lead.owner)).await;
        }
    }

    /// Says what the file says; `false` when it was told to stop before.
    async fn register(&self, stop: &CancellationToken) -> bool {
        let unstored = Said::default();
        loop {
            match self.results.register_triggers(&self.given, self.stamp, &self.lead.who).await {
                Ok(()) => return true,
                Err(error) => {
                    if unstored.begins() {
                        tracing::warn!(%error, "The triggers of the configuration cannot be stored now.");
                    }
                }
            }
            if stop.run_until_cancelled(sleep(AGAIN)).await.is_none() {
                return false;
            }
        }
    }

    /// Publishes the jobs of these instants, and marks them.
    async fn publish(&self, ticks: Vec<Tick>, decided: Instant) -> Result<(), ResultsError> {
        if ticks.is_empty() {
            return Ok(());
        }
        let (mut batch, mut jobs, mut ends, mut done) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut late = Vec::new();
        for tick in ticks {
            if planted(Fault::LostTick) && tick.instant.as_second() % 3 == 0 {
                done.push((tick.schedule, tick.instant.as_microsecond(), tick.time));
                continue;
            }
            let message = if tick.spec.each.is_empty() {
                self.job(&tick).await.map(|job| (work(&job), Some(job)))
            } else {
                let run = each::run(&tick, &tick.spec.each, None).map(|run| Next::Run(Box::new(run)));
                run.map(|run| (run.outgoing(), None)).map_err(Unready::Never)
            };
            match message {
                Ok((message, job)) => {
                    batch.push(message);
                    jobs.push((tick, job));
                }
                Err(Unready::Later(why)) => late.push((tick, why)),
                Err(Unready::Never(why)) => ends.push(never(&tick, why)),
            }
        }
        if decided.elapsed() > FRESH {
            tracing::warn!("What was to be fired was decided a while ago; whoever leads now fires it.");
            return Ok(());
        }
        if planted(Fault::DoubleTick) {
            let copies = jobs.iter().filter(|(tick, _)| tick.instant.as_second() % 3 == 0);
            let copies =
                copies.filter_map(|(_, job)| job.as_ref()).map(|job| work(&Job { id: Uuid::now_v7(), ..job.clone() }));
            drop(self.broker.publish(copies.collect()).await);
        }
        let mut lines = Vec::new();
        for ((tick, job), sent) in jobs.into_iter().zip(self.broker.publish(batch).await) {
            match sent {
                Ok(()) => {
                    done.push((tick.schedule, tick.instant.as_microsecond(), tick.time));
                    // A run tells of its jobs itself.
                    lines.extend(job.map(|job| Entry::Queued(Box::new(job)).line()));
                }
                Err(error @ (PublishError::Unroutable { .. } | PublishError::TooLarge { .. })) => {
                    ends.push(never(&tick, error.to_string()));
                }
                Err(error) => late.push((tick, error.to_string())),
            }
        }
        match late.first() {
            Some((tick, why)) if self.unsent.begins() => tracing::warn!(
                count = late.len(), trigger = tick.name, instant = %tick.instant, why,
                "Jobs of instants cannot be published now; they are tried again."
            ),
            None if self.unsent.is_over() => tracing::info!("Jobs of instants are published again."),
            _ => {}
        }
        // One queue that takes nothing is no reason for others to wait.
        let late: Vec<_> = late.iter().map(|(tick, _)| (tick.schedule, tick.instant.as_microsecond())).collect();
        if matches!(*self.broker.link().borrow(), Link::Up) {
            self.results.put_off_ticks(&late).await?;
        }
        if !lines.is_empty() {
            // Beside the work: their own reports would show these jobs, too.
            drop(self.broker.report(lines));
        }
        let late = self.results.ticks_published(&done).await?;
        if !late.is_zero() {
            tracing::warn!(count = done.len(), latest = ?late, "Instants of triggers were fired late.");
        }
        if !ends.is_empty() {
            self.results.follow(&ends, &|_| None).await?;
        }
        Ok(())
    }

    async fn job(&self, tick: &Tick) -> Result<Job, Unready> {
        let job = match &tick.spec.asks {
            Some(asks) => fan_out::job(tick, asks),
            None => args::fill(&tick.spec.job.args, tick, None).map(|args| Job { args, ..tick.spec.job.clone() }),
        };
        let mut job = job.map_err(Unready::Never)?;
        (job.id, job.created, job.next) = (tick.job, tick.instant, true);
        expire(&mut job, tick.spec.expires_ms);
        self.blobs.put_args(&mut job).await?;
        Ok(job)
    }
}

impl<B: Broker> Look for Ticker<B> {
    const WHAT: &str = "Triggers";

    async fn turn(&mut self, epoch: &mut Option<i64>) -> Result<Duration, ResultsError> {
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
}

/// An instant whose job cannot be published has ended.
fn never(tick: &Tick, why: String) -> Next {
    tracing::error!(trigger = tick.name, instant = %tick.instant, why, "The job of an instant cannot be published.");
    Next::End(Box::new(dead(None, tick.job, 0, why)))
}
