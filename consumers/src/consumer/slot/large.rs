//! Args and values that lie in the blob store: loaded before a job runs, put away before it is settled.
//!
//! Owns what happens when the store does not answer, or answers something else than was stored. A job
//! that carries its args, and a value that is small, pay for none of this.

use jiff::Timestamp;
use spinor_executors::{BlobRef, Cause, Job, Json, Outcome, State};
use tokio::time::{Duration, Instant, sleep};
use uuid::Uuid;

use super::{Reason, Slots, verdict};
use crate::{
    blobs::{BlobError, LARGE},
    broker::{Address, Delivery, Outgoing, Settlement},
    entry,
    message::{self, Past},
    next,
};

/// A job whose args cannot be read now looks again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A value waits no longer for a store that does not take it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);

impl Slots {
    /// The job with its args. Without them it goes back, or is dead when they are not what they were.
    pub(super) async fn load(
        &self,
        job: Job,
        journaled: bool,
        delivery: Delivery,
        now: Timestamp,
    ) -> Option<(Job, Delivery)> {
        if job.args_ref.is_none() {
            return Some((job, delivery));
        }
        match self.blobs.fetch_whole(job.clone()).await {
            Ok(job) => return Some((job, delivery)),
            Err(BlobError::Wrong(why)) => {
                let report = self.blank(&job, journaled, Uuid::nil(), now);
                let report = verdict::unrun(report, State::Dead, Cause::Args, why.clone());
                self.free_key(&job);
                self.bury(delivery, &why, vec![entry::report_line(&report)]);
            }
            Err(later) => {
                let why = later.to_string();
                tracing::warn!(job = %job.id, queue = job.queue, attempt = job.attempt, why, "Args cannot be read now; the job goes back.");
                self.away.note(job.id, Reason::Blobs, format!("its args cannot be read: {why}"), LOOK_AGAIN);
                let mut copy = message::encode(&job, journaled);
                Past::of(&delivery.message.properties).write(&mut copy.properties.headers);
                let to = Address::Delayed { queue: job.queue, after: LOOK_AGAIN };
                let publish = vec![Outgoing { to, message: copy, must: true }];
                self.settle(delivery, Settlement { publish, ..Settlement::default() });
            }
        }
        None
    }

    /// Puts a large value away: where it is, and the value. One that no store takes stays, for the report to carry
    /// if it can.
    pub(super) async fn put_away(&self, job: &Job, outcome: Outcome) -> (Outcome, Option<(BlobRef, Json)>) {
        let Outcome::Succeeded(value) = &outcome else { return (outcome, None) };
        let size = value.bytes().len();
        let carried = if job.next { next::CARRIED } else { LARGE };
        if size <= carried || size > self.blobs.largest() {
            return (outcome, None);
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let why = match tokio::time::timeout_at(end, self.blobs.put(job.id, value.bytes())).await {
                Ok(Ok(blob)) => {
                    let value = value.clone();
                    return (Outcome::Succeeded(Json::null()), Some((blob, value)));
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            if Instant::now() + PAUSE >= end {
                tracing::warn!(job = %job.id, queue = job.queue, attempt = job.attempt, size, why, "A large value was not put away; its report carries it, if it can.");
                return (outcome, None);
            }
            sleep(PAUSE).await;
        }
    }
}
