//! Jobs that are published again when they have ended: answered as they are, and not run again.
//!
//! Owns that only those are asked for whose publisher named the id, or whose request was begun before, and that a
//! record that does not answer keeps no publish waiting: such a job is published again, as one that has not ended is.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use jiff::Timestamp;
use spinor_consumers::{access::Role, results::EndedJob};
use tokio::time::timeout;
use uuid::Uuid;

use super::{ApiState, BatchItem, Problem, caller::Caller, clip, new_job::Checked};

/// A publish waits no longer for the record.
const PATIENCE: Duration = Duration::from_secs(1);
/// A record that did not answer is not asked again for so long, in seconds.
const LEFT_ALONE: i64 = 5;

/// Those of these jobs that have ended, as far as the record says so now.
pub(super) async fn look(state: &ApiState, named: &[Uuid]) -> HashMap<Uuid, EndedJob> {
    let now = Timestamp::now().as_second();
    let unanswered = &state.counters.ends_unanswered;
    if named.is_empty() || now - unanswered.load(Ordering::Relaxed) < LEFT_ALONE {
        return HashMap::new();
    }
    let why = match timeout(PATIENCE, state.results.ended_jobs(named)).await {
        Ok(Ok(ended)) => return ended.into_iter().map(|job| (job.id, job)).collect(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer within a second".to_owned(),
    };
    unanswered.store(now, Ordering::Relaxed);
    tracing::debug!(why, "It is not known whether jobs that are published had ended before; they are published.");
    HashMap::new()
}

/// What is answered to a job that has ended.
pub(super) fn answer(caller: &Caller, Checked { job, .. }: &Checked, ended: &EndedJob) -> BatchItem {
    let problem = caller.may(Role::Publisher, &ended.queue, &ended.kind).err().or_else(|| {
        let why = format!("is that of a job of the kind `{}`, which has ended", clip(&ended.kind));
        let problem = Problem::new(409, "The id is taken", why);
        (ended.kind != job.kind).then(|| Problem { field: Some("id".to_owned()), job: Some(job.id), ..problem })
    });
    let queue = if problem.is_some() { job.queue.clone() } else { ended.queue.clone() };
    BatchItem { id: job.id, queue, existing: problem.is_none(), problem }
}
