//! What is due, published: a run's start and end as reports, its members as jobs.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use spinor_executors::{Job, Json, State};
use uuid::Uuid;

use super::Trigger;
use crate::{
    blobs::BlobError,
    broker::{Address, Broker, Outgoing, PublishError},
    entry::Entry,
    message,
    next::{
        End,
        inputs::{self, Asked, Envelope},
    },
    results::{Due, Followed, ResultsError, Role},
};

/// So many jobs are published in one batch.
const BATCH: usize = 500;

/// Why a job is not published. Named by what the caller does next.
pub(super) enum Unready {
    /// Leave it: it is overdue later.
    Later(String),
    /// It has ended: it never can be.
    Never(String),
}

impl From<BlobError> for Unready {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::TooLarge { .. } => Self::Never(format!("its args have {error}")),
            other => Self::Later(other.to_string()),
        }
    }
}

impl<B: Broker> Trigger<B> {
    /// Reports and publishes; what cannot be done now stays due.
    pub(super) async fn fire(&self, followed: Followed) {
        self.tell(followed.tell).await;
        for some in followed.due.chunks(BATCH) {
            // What could not be marked may be published again, and runs once.
            if let Err(error) = self.publish(some).await {
                self.is_away(&error);
            }
        }
    }

    /// What is due and not with the broker is overdue in some seconds, and tried again.
    fn unsent(&self, count: usize, why: &str) {
        if self.unsent.begins() {
            tracing::warn!(count, why, "What is due in runs cannot be published now; it is tried again.");
        }
    }

    fn sent(&self) {
        if self.unsent.is_over() {
            tracing::info!("What is due in runs is published again.");
        }
    }

    async fn tell(&self, runs: Vec<(crate::entry::RunReport, i64)>) {
        if runs.is_empty() {
            return;
        }
        let of: Vec<(Uuid, i64)> = runs.iter().map(|(report, stamp)| (report.run, *stamp)).collect();
        let lines = runs.into_iter().map(|(report, _)| Entry::Run(Box::new(report)).line()).collect();
        if let Err(error) = self.broker.report(lines).await {
            return self.unsent(of.len(), &error.to_string());
        }
        self.sent();
        for (run, stamp) in of {
            if let Err(error) = self.results.told(run, stamp).await {
                tracing::debug!(%error, %run, "It is reported again, which is harmless.");
            }
        }
    }

    async fn publish(&self, some: &[Due]) -> Result<(), ResultsError> {
        let (mut batch, mut jobs, mut ends, mut late) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for due in some {
            match self.ready(due).await {
                Ok(job) => {
                    batch.push(outgoing(due, &job));
                    jobs.push((due, job));
                }
                Err(Unready::Later(why)) => late.push(why),
                Err(Unready::Never(why)) => ends.push(end(due, why)),
            }
        }
        let (mut lines, mut done) = (Vec::new(), Vec::new());
        for ((due, job), sent) in jobs.into_iter().zip(self.broker.publish(batch).await) {
            match sent {
                Ok(()) => {
                    done.push((due.run, due.job, due.replay));
                    lines.push(Entry::Queued(Box::new(job)).line());
                }
                Err(error @ (PublishError::Unroutable { .. } | PublishError::TooLarge { .. })) => {
                    ends.push(end(due, error.to_string()));
                }
                Err(error) => late.push(error.to_string()),
            }
        }
        match late.first() {
            Some(why) => self.unsent(late.len(), why),
            None => self.sent(),
        }
        if !lines.is_empty() {
            // Beside the work: their own reports would show these jobs, too.
            drop(self.broker.report(lines));
        }
        if !ends.is_empty() {
            // One that is not confirmed is tried again, since its member stays due.
            let _ = self.broker.publish(ends.into_iter().map(End::outgoing).collect()).await;
        }
        self.results.published(&done).await?;
        let again: Vec<_> =
            done.iter().filter(|(.., replay)| *replay > 0).map(|(_, job, replay)| (*job, *replay)).collect();
        if !again.is_empty() {
            self.results.unbury(&again).await?;
        }
        Ok(())
    }

    /// The job of a member as it is now, with what it gets from others.
    async fn ready(&self, due: &Due) -> Result<Job, Unready> {
        let mut job = due.member.job.clone();
        job.id = due.job;
        job.run = Some(due.run);
        job.member = Some(due.name.clone());
        job.next = true;
        job.replay = due.replay;
        job.created = Timestamp::now();
        expire(&mut job, due.member.expires_ms);
        let Envelope { args, inputs } = self.inputs(due, &job.args).await?;
        if inputs.is_empty() {
            job.args = args;
            self.blobs.put_args(&mut job).await?;
        } else {
            let envelope = Json::of(&Envelope { args, inputs }).map_err(|error| Unready::Never(error.to_string()))?;
            job.inputs = true;
            job.args = Json::null();
            // Always: a copy of the job, which has its values by then, must not carry them.
            job.args_ref = Some(self.blobs.put(job.id, envelope.bytes()).await?);
        }
        Ok(job)
    }

    async fn inputs(&self, due: &Due, args: &Json) -> Result<Envelope, Unready> {
        let later = |error: ResultsError| Unready::Later(error.to_string());
        let closes = matches!(due.role, Role::Then | Role::Finally) && due.member.bare;
        let asked = if closes {
            Asked { all: true, ..Asked::default() }
        } else {
            inputs::asked(args).map_err(Unready::Never)?
        };
        if asked == Asked::default() {
            return Ok(Envelope { args: args.clone(), inputs: Vec::new() });
        }
        let most = self.blobs.largest();
        let known = self.results.known(due, &asked, most).await.map_err(later)?;
        let known = known.ok_or_else(|| {
            Unready::Never(format!("what it gets from others has more than {most} bytes, `max_args`"))
        })?;
        if closes {
            let succeeded = self.results.all_succeeded(due.run).await.map_err(later)?;
            return inputs::summary(due.run, succeeded, &known).map_err(Unready::Never);
        }
        inputs::fill(args, &known).map_err(Unready::Never)
    }
}

fn outgoing(due: &Due, job: &Job) -> Outgoing {
    claimed(Address::after(job.queue.clone(), due.member.delay_ms.map(Duration::from_millis)), job)
}

fn end(due: &Due, why: String) -> End {
    dead(Some(due.run), due.job, due.replay, why)
}

/// A job's message: it may be a copy of what another process published, so it is claimed.
pub(super) fn claimed(to: Address, job: &Job) -> Outgoing {
    Outgoing { to, message: message::encode_claimed(job, true), must: true }
}

/// The same, on its way to its queue.
pub(super) fn work(job: &Job) -> Outgoing {
    claimed(Address::Work(job.queue.clone()), job)
}

/// Counts from the job's creation.
pub(super) fn expire(job: &mut Job, millis: Option<u64>) {
    if let Some(millis) = millis {
        let lasting = SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
        job.expires_at = job.created.checked_add(lasting).ok();
    }
}

/// The end of a job that cannot be published.
pub(super) fn dead(run: Option<Uuid>, job: Uuid, replay: u32, why: String) -> End {
    let (error, ended) = (Some(why), Timestamp::now());
    End { run, job, replay, state: State::Dead, value: None, value_ref: None, error, ended }
}
