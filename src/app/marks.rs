//! Marks end with what they are about: a cancel with its job, a drain with its consumer.
//!
//! Owns what is over; the process with the part `recorder` looks, beside the pruning of state.
//! A wish of a person for what goes on (a pause, a scale, a limit) never ends by itself.

use std::{collections::HashSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use spinor_consumers::{
    broker::{AnyBroker, Broker, Event},
    marks::StateCell,
    results::{JobFilter, Results},
    state::{Kind, Mark, State, Subject},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(20);
/// A mark is kept so long at least: what it is about may only be about to be recorded.
pub const YOUNG: Duration = Duration::from_secs(60);
/// A job that was never recorded cannot wait longer anywhere.
const UNRECORDED: SignedDuration = SignedDuration::from_hours(31 * 24);
/// A kind that nobody has served for so long is no longer in the catalogue.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Nor a schema of it that nobody has told for so long, once another one is told.
const REPLACED: SignedDuration = SignedDuration::from_hours(24);
/// So many jobs are looked up in one question, and so many marks are cleared in one look, about.
const CHUNK: usize = 500;
const MOST: usize = 5000;

/// Looks now and then, until told to stop.
pub async fn clear_now_and_then(state: StateCell, results: Results, broker: AnyBroker, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
        let Some(state) = state.get() else { continue };
        match clear_what_is_over(state, &results, YOUNG).await {
            Ok(Some(version)) => broker.cast(Event::Marked { version }),
            Ok(None) => {}
            // Who needs state or record says so; the next look may find both.
            Err(error) => tracing::debug!(%error, "Marks that are over were not cleared now."),
        }
    }
}

/// Clears the marks older than this whose job, run or consumer has ended; tells the last version.
pub async fn clear_what_is_over(state: &State, results: &Results, young: Duration) -> anyhow::Result<Option<u64>> {
    let now = Timestamp::now();
    let old = |mark: &Mark| now.duration_since(mark.at).unsigned_abs() >= young;
    let mut over = jobs(results, state.marks(Kind::Cancel).await?.into_iter().filter(old), now).await?;
    for mark in state.marks(Kind::CancelRun).await?.into_iter().filter(old).take(CHUNK) {
        if let Subject::CancelRun(run) = mark.subject
            && has_ended(results, run).await?
        {
            over.push(mark.subject);
        }
    }
    over.extend(consumers(state, old).await?);
    over.extend(forgotten(state.marks(Kind::Served).await?, now));
    let mut version = None;
    for subject in over.iter().take(MOST) {
        version = state.clear_mark(subject, "spinor", Some("it is over")).await?.or(version);
    }
    Ok(version)
}

/// What was told of kinds and is no longer said: it is said again every hour.
fn forgotten(mut marks: Vec<Mark>, now: Timestamp) -> impl Iterator<Item = Subject> {
    marks.sort_by_key(|mark| std::cmp::Reverse(mark.version));
    let mut kinds = HashSet::new();
    marks.into_iter().filter_map(move |mark| {
        let Subject::Served { kind, .. } = &mark.subject else { return None };
        let keep = if kinds.insert(kind.clone()) { FORGOTTEN } else { REPLACED };
        (now.duration_since(mark.at) > keep).then_some(mark.subject)
    })
}

async fn jobs(results: &Results, marks: impl Iterator<Item = Mark>, now: Timestamp) -> anyhow::Result<Vec<Subject>> {
    let marks: Vec<Mark> = marks.collect();
    let mut over = Vec::new();
    for some in marks.chunks(CHUNK) {
        if over.len() >= MOST {
            break;
        }
        let ids: Vec<Uuid> = some.iter().filter_map(job_of).collect();
        let ended = results.ended(&ids).await?;
        let is_over = |mark: &&Mark| {
            ended.iter().any(|(id, _)| job_of(mark) == Some(*id)) || now.duration_since(mark.at) > UNRECORDED
        };
        over.extend(some.iter().filter(is_over).map(|mark| mark.subject.clone()));
    }
    Ok(over)
}

fn job_of(mark: &Mark) -> Option<Uuid> {
    match mark.subject {
        Subject::Cancel(id) => Some(id),
        _ => None,
    }
}

/// The run has, and each of its jobs.
async fn has_ended(results: &Results, run: Uuid) -> anyhow::Result<bool> {
    if results.run(run).await?.is_some_and(|record| record.row.ended.is_none()) {
        return Ok(false);
    }
    let mut filter = JobFilter { run: Some(run), limit: 1000, ..JobFilter::default() };
    loop {
        let page = results.jobs(&filter).await?;
        if page.rows.iter().any(|row| !row.state.is_final()) {
            return Ok(false);
        }
        match page.next {
            Some(next) => filter.cursor = Some(next),
            None => return Ok(true),
        }
    }
}

/// What was wanted of consumers that are gone: their names never come again.
async fn consumers(state: &State, old: impl Fn(&Mark) -> bool) -> anyhow::Result<Vec<Subject>> {
    let mut wanted = state.marks(Kind::Drain).await?;
    wanted.extend(state.marks(Kind::Slots).await?);
    let mut subjects: Vec<(Subject, String)> = Vec::new();
    for mark in wanted.into_iter().filter(old) {
        if let Subject::Drain(name) | Subject::Slots(name) = &mark.subject
            && name.contains('@')
        {
            subjects.push((mark.subject.clone(), name.clone()));
        }
    }
    if subjects.is_empty() {
        return Ok(Vec::new());
    }
    let alive = state.consumers().await?;
    let is_gone = |name: &String| alive.iter().all(|present| present.beat.consumer != *name);
    Ok(subjects.into_iter().filter(|(_, name)| is_gone(name)).map(|(subject, _)| subject).collect())
}
