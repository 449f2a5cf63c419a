//! Replays: ended jobs started anew, one by one or all that match.
//!
//! Owns what a replay is: the same id, the next replay number, the first attempt, no charges, and a
//! claim, so that of two copies with the same number one runs. `again` makes the job, `work` is the
//! loop that works on what was ordered. Refuses to start a job anew that has not ended.

mod again;
mod work;

use std::time::Duration;

use bytes::Bytes;
use spinor_executors::{Job, State, Unique};
use uuid::Uuid;

use crate::{
    access::{Grant, any_fits},
    broker::{Address, AnyBroker, Broker, Event, Outgoing, PublishError},
    entry::Entry,
    marks::{LOOK, StateCell},
    results::{Found, Results, ResultsError},
    state::{KeyTaken, OnTaken, StateError, Subject},
};

pub use again::{Edit, NoJob};

/// A job that was cancelled is not delivered before this: consumers have then heard that the cancel
/// does not hold any more.
pub const CANCEL_FORGOTTEN: Duration = LOOK.saturating_mul(2);
/// A unique key that is taken again is kept for so long, if the job does not end before.
const KEY_KEPT: Duration = Duration::from_secs(24 * 3600);

/// A job that was started anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// The job.
    pub id: Uuid,
    /// Its queue.
    pub queue: String,
    /// Its replay number now.
    pub replay: u32,
}

/// Why a job was not started anew. Named by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Look for the right id: neither the record nor the dead letters have it.
    #[error("no job and no dead letter {0} is recorded here")]
    Unknown(Uuid),
    /// Wait for its end, or cancel it first.
    #[error("the job has not ended, it is {}; only an ended job is started anew", .0.word())]
    NotEnded(State),
    /// Give what is missing, or publish a new job.
    #[error("{0}")]
    NoJob(#[from] NoJob),
    /// Ask somebody who may: the job is of another queue or kind than its line in the record says.
    #[error("this needs the role operator for the queue `{queue}` and the kind `{kind}`")]
    NotYours {
        /// The queue.
        queue: String,
        /// The kind.
        kind: String,
    },
    /// As for any publish.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// As for any question.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// Wait for the end of the other job, or cancel it: both have the same unique key.
    #[error("its unique key `{key}` belongs to job {job}, which has not ended")]
    KeyTaken {
        /// The key.
        key: String,
        /// Whose it is.
        job: Uuid,
    },
    /// Try again later: a cancel that still holds, or a unique key, must be settled first.
    #[error("{0}; a cancel must be taken back first, or a unique key taken")]
    State(#[from] StateError),
}

/// Starts jobs anew; cheap to clone.
#[derive(Clone)]
pub struct Replays {
    broker: AnyBroker,
    results: Results,
    state: StateCell,
}

/// A job that is ready to be published.
struct Ready {
    job: Job,
    was: State,
}

impl Ready {
    fn outgoing(&self) -> Outgoing {
        let queue = self.job.queue.clone();
        let to = match self.was {
            State::Cancelled => Address::Delayed { queue, after: CANCEL_FORGOTTEN },
            _ => Address::Work(queue),
        };
        Outgoing { to, message: again::message(&self.job), must: true }
    }
}

impl Replays {
    /// Publishes through `broker` what `results` has.
    pub const fn new(broker: AnyBroker, results: Results, state: StateCell) -> Self {
        Self { broker, results, state }
    }

    /// Starts one ended job anew, as it was or edited. Two at once make one job: both take the number
    /// of the replay from the record, and consumers run one of two copies. Refuses a job that none of `within` fits.
    pub async fn one(&self, id: Uuid, edit: &Edit, by: &str, within: &[Grant]) -> Result<Replayed, ReplayError> {
        let ready = self.ready(id, None, edit, within).await?;
        self.agree(&ready, by).await?;
        let replayed = Replayed { id, queue: ready.job.queue.clone(), replay: ready.job.replay };
        self.send(vec![ready])
            .await
            .pop()
            .unwrap_or_else(|| Err(PublishError::Unconfirmed("the broker gave no answer".to_owned())))?;
        Ok(replayed)
    }

    /// The job as it is published anew; with `replay` as its number, or the one after the record's.
    async fn ready(&self, id: Uuid, replay: Option<u32>, edit: &Edit, within: &[Grant]) -> Result<Ready, ReplayError> {
        let source = self.results.source(id).await?;
        if let Some(source) = source.as_ref().filter(|source| !source.state.is_final()) {
            return Err(ReplayError::NotEnded(source.state));
        }
        let was = source.as_ref().map_or(State::Dead, |source| source.state);
        let recorded = source.as_ref().map_or(0, |source| source.replay);
        let (job, buried) = match source.and_then(|source| source.job) {
            Some(job) => (job, 0),
            None => {
                let letter = self.results.letter(id).await?;
                let (message, letter) = letter.ok_or(ReplayError::Unknown(id))?;
                (again::job_of(message, &letter, edit)?, letter.replay)
            }
        };
        let replay = replay.unwrap_or_else(|| recorded.max(buried).saturating_add(1));
        may(within, &job)?;
        let job = again::anew(job, replay, edit)?;
        may(within, &job)?;
        Ok(Ready { job, was })
    }

    /// What State must know before the job may start anew; one that needs nothing asks nothing. A
    /// cancel is a mark that holds until it is taken back: it would end the replay, too. A key that
    /// was given back at the job's end is taken again.
    async fn agree(&self, ready: &Ready, by: &str) -> Result<(), ReplayError> {
        let job = &ready.job;
        let unique = job.unique.as_ref().filter(|unique| unique.until_end);
        if ready.was != State::Cancelled && unique.is_none() {
            return Ok(());
        }
        let state = self.state.get().ok_or_else(|| StateError::Unavailable("it has not answered yet".to_owned()))?;
        if let Some(Unique { key, .. }) = unique
            && let KeyTaken::By { job: other, .. } = state.take_key(key, job.id, KEY_KEPT, OnTaken::Keep).await?
        {
            if self.results.ended(&[other]).await?.is_empty() {
                return Err(ReplayError::KeyTaken { key: key.clone(), job: other });
            }
            state.take_key(key, job.id, KEY_KEPT, OnTaken::Replace).await?;
        }
        if ready.was == State::Cancelled
            && let Some(version) = state.clear_mark(&Subject::Cancel(job.id), by, Some("replayed")).await?
        {
            self.broker.cast(Event::Marked { version });
        }
        Ok(())
    }

    /// Publishes, then reports what was confirmed, then removes the dead letters of these jobs.
    async fn send(&self, jobs: Vec<Ready>) -> Vec<Result<(), PublishError>> {
        let sent = self.broker.publish(jobs.iter().map(Ready::outgoing).collect()).await;
        let confirmed = || jobs.iter().zip(&sent).filter(|(_, sent)| sent.is_ok()).map(|(ready, _)| ready);
        let line = |ready: &Ready| Entry::Queued(Box::new(ready.job.clone())).line();
        let lines: Vec<Bytes> = confirmed().map(line).collect();
        let gone: Vec<Found> = confirmed().map(|ready| (ready.job.id, ready.job.replay)).collect();
        if !lines.is_empty()
            && let Err(error) = self.broker.report(lines).await
        {
            tracing::warn!(%error, "Replayed jobs were not reported as queued; their own reports will show them.");
        }
        if !gone.is_empty()
            && let Err(error) = self.results.unbury(&gone).await
        {
            tracing::warn!(%error, "Dead letters of jobs that were replayed are still listed; remove them by hand.");
        }
        sent
    }
}

/// What is published counts, not what a line of the record says of it.
fn may(within: &[Grant], job: &Job) -> Result<(), ReplayError> {
    if any_fits(within, &job.queue, &job.kind) {
        return Ok(());
    }
    Err(ReplayError::NotYours { queue: job.queue.clone(), kind: job.kind.clone() })
}
