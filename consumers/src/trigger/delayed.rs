//! Delayed jobs: published when they are due, by the process that fires triggers.
//!
//! Owns the order: taken in the database, published with the mark that it may be a copy, then removed. Whoever
//! leads next publishes what was taken and is still there. Sleeps until the next one is due, and looks once a
//! second whether it leads. Refuses to lead: [`super::Ticker`] does.

use std::time::Duration;

use futures_util::future::join_all;
use spinor_executors::{Cause, Job, Origin, Report, State as JobState};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Said,
    fire::work,
    looking::{Look, PAUSE, look},
};
use crate::{
    broker::{Broker, Link, Outgoing, PublishError},
    consumer::verdict,
    entry::Entry,
    marks::StateCell,
    message,
    planted::{Fault, planted},
    results::{Delayed, Results, ResultsError},
    state::Wish,
};

/// So many ends are told of at a time, and again after this when they could not be.
const AT_ONCE: usize = 32;
const AGAIN: Duration = Duration::from_secs(5);
/// What was taken longer ago than this may be another leader's by now.
const FRESH: Duration = Duration::from_secs(4);

/// Publishes delayed jobs until told to stop; any number of processes may run one.
pub struct Delays<B> {
    broker: B,
    results: Results,
    state: StateCell,
    /// As [`crate::results::Lead`] names this process.
    owner: Uuid,
    origin: Origin,
    unsent: Said,
    /// Published, and still in the table.
    done: Vec<Uuid>,
    /// The ends of those that were cancelled could not be told; not again before this.
    untold: Option<Instant>,
}

impl<B: Broker> Delays<B> {
    /// Publishes over `broker` what is due in `results`, while `owner` leads; `who` is that, for people.
    pub fn new(broker: B, results: Results, state: StateCell, owner: Uuid, who: &str) -> Self {
        let unsent = Said::default();
        Self { broker, results, state, owner, origin: origin(who), unsent, done: Vec::new(), untold: None }
    }

    /// Publishes until `stop`. Waits for a database that does not answer.
    pub async fn run(mut self, stop: CancellationToken) {
        look(&mut self, &stop).await;
        // Else the next one publishes these again, in vain.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.forget()).await;
    }

    /// Removes what is published.
    async fn forget(&mut self) -> Result<(), ResultsError> {
        self.results.forget_delayed(&self.done).await?;
        self.done.clear();
        Ok(())
    }

    /// Publishes what is due; tells what is left.
    async fn finish(&mut self, due: Vec<Delayed>, asked: Instant) -> Vec<Uuid> {
        let (mut done, mut late) = (Vec::new(), Vec::new());
        if asked.elapsed() > FRESH {
            tracing::warn!("Delayed jobs were taken a while ago; whoever leads now publishes them.");
            return due.iter().map(|one| one.row.id).collect();
        }
        self.publish(due, &mut done, &mut late).await;
        match late.first() {
            Some((_, why)) if self.unsent.begins() => {
                tracing::warn!(count = late.len(), why, "Delayed jobs cannot be published now; they are tried again.");
            }
            None if self.unsent.is_over() => tracing::info!("Delayed jobs are published again."),
            _ => {}
        }
        self.done.append(&mut done);
        late.into_iter().map(|(id, _)| id).collect()
    }

    /// Tells of those that were cancelled, and removes them. What cannot be told waits, and nothing waits for it.
    async fn tell(&mut self, gone: &[Delayed]) -> Result<(), ResultsError> {
        if self.untold.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        self.untold = None;
        for some in gone.chunks(AT_ONCE) {
            let mut done = Vec::new();
            for told in join_all(some.iter().map(|one| self.told(one))).await {
                match told {
                    Ok(id) => done.push(id),
                    Err(why) => {
                        tracing::debug!(why, "The end of a delayed job that was cancelled cannot be told now.");
                        self.untold = Some(Instant::now() + AGAIN);
                    }
                }
            }
            self.results.forget_delayed(&done).await?;
        }
        Ok(())
    }

    async fn told(&self, one: &Delayed) -> Result<Uuid, String> {
        let wish = one.cancelled.as_ref().ok_or("it was not cancelled")?;
        end_cancelled(&self.broker, &self.state, &self.origin, &one.job, wish).await?;
        Ok(one.row.id)
    }

    async fn publish(&self, due: Vec<Delayed>, done: &mut Vec<Uuid>, late: &mut Vec<(Uuid, String)>) {
        let struck = |one: &Delayed| one.row.id.as_u128().is_multiple_of(3);
        let (lost, due): (Vec<_>, Vec<_>) = due.into_iter().partition(|one| planted(Fault::LostTick) && struck(one));
        done.extend(lost.iter().map(|one| one.row.id));
        if planted(Fault::DoubleTick) {
            let copies = due.iter().filter(|one| struck(one));
            let copies = copies.map(|one| work(&Job { id: Uuid::now_v7(), ..one.job.clone() }));
            drop(self.broker.publish(copies.collect()).await);
        }
        let batch = due.iter().map(|one| work(&one.job)).collect();
        let mut lines = Vec::new();
        let mut letters = Vec::new();
        for (one, sent) in due.into_iter().zip(self.broker.publish(batch).await) {
            match sent {
                Ok(()) => {
                    done.push(one.row.id);
                    let entry = if one.row.revision > 0 { Entry::Edited } else { Entry::Queued };
                    lines.push(entry(Box::new(one.job)).line());
                }
                Err(error @ (PublishError::Unroutable { .. } | PublishError::TooLarge { .. })) => {
                    letters.push((one.row.id, letter(&one.job, &error.to_string())));
                }
                Err(error) => late.push((one.row.id, error.to_string())),
            }
        }
        if !lines.is_empty() {
            // The record shows what it was at first until this comes, or nothing if its publisher died.
            drop(self.broker.report(lines));
        }
        let (ids, letters): (Vec<_>, Vec<_>) = letters.into_iter().unzip();
        if letters.is_empty() {
            return;
        }
        for (id, sent) in ids.into_iter().zip(self.broker.publish(letters).await) {
            match sent {
                Ok(()) => done.push(id),
                Err(error) => late.push((id, error.to_string())),
            }
        }
    }
}

impl<B: Broker> Look for Delays<B> {
    const WHAT: &str = "Delayed jobs";

    async fn turn(&mut self, epoch: &mut Option<i64>) -> Result<Duration, ResultsError> {
        let look = self.results.look_at_delayed(self.owner).await?;
        let fresh = look.epoch.is_some() && look.epoch != *epoch;
        *epoch = look.epoch;
        let busy = look.wait == Some(Duration::ZERO) && !fresh && !look.overdue;
        if look.epoch.is_none() || !busy {
            self.forget().await?;
        }
        if look.epoch.is_none() {
            return Ok(PAUSE);
        }
        if fresh || look.overdue {
            // What the last leader took and may not have published.
            let left = self.results.left_delayed(fresh).await?;
            let (gone, due): (Vec<_>, Vec<_>) = left.into_iter().partition(|one| one.cancelled.is_some());
            let late = self.finish(due, Instant::now()).await;
            self.forget().await?;
            self.tell(&gone).await?;
            if !late.is_empty() {
                // One queue that takes nothing is no reason for others to wait.
                self.results.put_off_delayed(&late).await?;
                if !matches!(*self.broker.link().borrow(), Link::Up) {
                    return Ok(PAUSE);
                }
            }
        }
        match look.wait {
            Some(Duration::ZERO) => {
                let asked = Instant::now();
                // What was published goes with what is taken: one commit for both.
                let due = self.results.take_delayed(self.owner, &self.done).await?;
                self.done.clear();
                Ok(if self.finish(due, asked).await.is_empty() { Duration::ZERO } else { PAUSE })
            }
            // A millisecond on: the clock of the database decides, and a look must not come too early.
            Some(wait) => Ok((wait + Duration::from_millis(1)).min(PAUSE)),
            None => Ok(PAUSE),
        }
    }

    async fn woken(&self) {
        self.results.delayed_changed().await;
    }
}

/// A job that the broker never takes: a dead letter, which may be replayed once there is a queue for it.
fn letter(job: &Job, why: &str) -> Outgoing {
    tracing::error!(job = %job.id, why, "A delayed job cannot be published and became a dead letter.");
    verdict::dead_letter(message::encode(job, true), &job.queue, why, "trigger")
}

/// Who says that a job ended which no consumer met.
fn origin(who: &str) -> Origin {
    let host = who.split(':').next().unwrap_or_default();
    Origin { consumer: "trigger".to_owned(), group: "trigger".to_owned(), host: host.to_owned() }
}

/// Tells everybody of a delayed job that was cancelled: the record, who waits for its answer, who wants its key.
async fn end_cancelled<B: Broker>(
    broker: &B,
    state: &StateCell,
    origin: &Origin,
    job: &Job,
    wish: &Wish,
) -> Result<(), String> {
    let report = Report::of(job, origin, Uuid::nil(), jiff::Timestamp::now());
    let mut report = verdict::unrun(report, JobState::Cancelled, Cause::Cancelled, format!("cancelled: {wish}"));
    let settlement = verdict::settlement(&mut report, job, None, true);
    broker.report(settlement.lines).await.map_err(|error| error.to_string())?;
    // A reply's queue may be gone; all else must be heard.
    let musts: Vec<bool> = settlement.publish.iter().map(|out| out.must).collect();
    for (must, sent) in musts.into_iter().zip(broker.publish(settlement.publish).await) {
        sent.or_else(|error| if must { Err(error.to_string()) } else { Ok(()) })?;
    }
    if let Some(unique) = job.unique.as_ref().filter(|unique| unique.until_end) {
        let freed = match state.get() {
            Some(state) => state.free_key(&unique.key, job.id).await.map(drop).map_err(|error| error.to_string()),
            None => Err("the store of state has not answered since the start".to_owned()),
        };
        freed?;
    }
    Ok(())
}

/// The same, said by the process that was asked for it.
pub async fn tell_cancelled<B: Broker>(
    broker: &B,
    state: &StateCell,
    host: &str,
    gone: &Delayed,
    wish: &Wish,
) -> Result<(), String> {
    end_cancelled(broker, state, &origin(host), &gone.job, wish).await
}
