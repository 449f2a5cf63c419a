//! Whose a job is: what a caller whose role is bounded may name.
//!
//! Owns that a job on record is judged by what its line says and by the job itself: reports overwrite the one, and
//! never the other. Refuses to know how roles fit.

use spinor_consumers::{access::Role, results::JobRecord};
use spinor_executors::Job;
use uuid::Uuid;

use super::{ApiState, Caller, Problem};

/// Kinds of the house begin so.
const HOUSE: &str = "spinor.";

/// Refuses a job on record unless the caller has this role for its queue and kind, as reported and as published.
pub(in crate::api) fn may(caller: &Caller, role: Role, record: &JobRecord) -> Result<(), Problem> {
    of(record).into_iter().try_for_each(|(queue, kind)| caller.may(role, queue, kind))
}

/// The queue and the kind of a job on record, as reported and as published.
pub(in crate::api) fn of(record: &JobRecord) -> Vec<(&str, &str)> {
    let reported = (record.row.queue.as_str(), record.row.kind.as_str());
    let published = record.job.iter().map(|job| (job.queue.as_str(), job.kind.as_str()));
    std::iter::once(reported).chain(published).collect()
}

/// Refuses a kind of the house to who has not this role everywhere: what runs it does more than its queue tells.
pub(in crate::api) fn may_kind(caller: &Caller, role: Role, kind: &str) -> Result<(), Problem> {
    if kind.starts_with(HOUSE) { caller.everywhere(role) } else { Ok(()) }
}

/// Refuses the id of another job, and a run that is there, to who may publish for some queues or kinds alone.
pub(super) async fn may_name(state: &ApiState, caller: &Caller, job: &Job, named: bool) -> Result<(), Problem> {
    if caller.has_everywhere(Role::Publisher) {
        return Ok(());
    }
    if named {
        // One that follows from something, as those of triggers do, may be somebody's tomorrow.
        if !matches!(job.id.get_version_num(), 4 | 7) {
            let why = "a random UUID (version 4 or 7) is expected; others need the role publisher without a pattern";
            return Err(Problem { field: Some("id".to_owned()), ..Problem::new(403, "Not allowed", why) });
        }
        may_have(state, job).await?;
    }
    match job.run {
        Some(run) if state.results.run(run).await?.is_some() => {
            let why = format!(
                "run {run} is there, and its jobs are its own; this needs the role publisher without a pattern"
            );
            Err(Problem { field: Some("run".to_owned()), ..Problem::new(403, "Not allowed", why) })
        }
        _ => Ok(()),
    }
}

async fn may_have(state: &ApiState, job: &Job) -> Result<(), Problem> {
    let recorded = state.results.job(job.id).await?;
    let waiting = state.results.delayed_job(job.id).await?.map(|found| found.job);
    let same = |(queue, kind): (&str, &str)| queue == job.queue && kind == job.kind;
    let recorded = recorded.as_ref().is_none_or(|record| of(record).into_iter().all(same));
    if recorded && waiting.is_none_or(|waiting| same((&waiting.queue, &waiting.kind))) {
        return Ok(());
    }
    Err(taken(job.id))
}

fn taken(id: Uuid) -> Problem {
    let why = format!("{id} is the id of a job of another queue or kind; leave it out for a fresh one");
    Problem { field: Some("id".to_owned()), ..Problem::new(403, "Not allowed", why) }
}

/// Refuses to end a job for whose queue and kind the caller may not publish; of one that nobody knows, everywhere.
pub(in crate::api) async fn may_replace(state: &ApiState, caller: &Caller, id: Uuid) -> Result<(), Problem> {
    if caller.has_everywhere(Role::Publisher) {
        return Ok(());
    }
    let refused = |problem: Problem| Problem { field: Some("unique.on_conflict".to_owned()), ..problem };
    match super::known(state, id).await? {
        Some(record) => may(caller, Role::Publisher, &record).map_err(refused),
        None => caller.everywhere(Role::Publisher).map_err(refused),
    }
}
