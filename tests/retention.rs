//! Retention on both databases: what is past its time goes with all that is its, nothing else does, and the
//! recorder is not kept waiting.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use spinor_consumers::{
    blobs::Blobs,
    entry::{Entry, RunReport},
    message,
    results::{Cuts, DeadLetter, FailureFilter, JobFilter, Place, Pruned, ReplayRow, ReplayState, Results},
    retention::{self, Keep, Retention},
    state::{State as Agreed, StateTarget},
};
use spinor_executors::{Job, State, StepReport, StepState};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    recorder::{Record, entries},
    support::{eventually, scratch::Scratch},
};

macro_rules! both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::Record::sqlite().await).await; })+
        }
        mod server {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::Record::server().await).await; })+
        }
    };
}

both!(
    a_dry_run_counts_what_then_goes_and_the_rest_stays,
    ten_thousand_old_jobs_go_while_new_ones_are_recorded,
    what_has_not_ended_stays_however_old_it_is,
    a_letter_keeps_the_large_args_of_its_job,
    one_process_at_a_time_removes_by_itself,
);

/// A job of so many days ago.
fn old(days: i64) -> Job {
    let mut job = entries::job();
    job.created -= SignedDuration::from_hours(24 * days);
    job
}

/// Everything that is recorded of a job that ended so.
fn life(job: &Job, state: State) -> Vec<Entry> {
    vec![Entry::Queued(Box::new(job.clone())), Entry::Report(Box::new(entries::report(job, state)))]
}

fn step(job: &Job, step: u32) -> Entry {
    Entry::Step(Box::new(StepReport {
        job: job.id,
        run: job.run,
        node: "n".into(),
        step,
        part: 0,
        item: step,
        name: "true".into(),
        verb: "RUN".into(),
        state: StepState::Succeeded,
        failure: None,
        exit: None,
        stdout: Default::default(),
        stderr: Default::default(),
        started: job.created,
        micros: 1,
    }))
}

fn run(id: Uuid, days: i64) -> Entry {
    let started = Timestamp::now() - SignedDuration::from_hours(24 * days);
    let (ended, succeeded) = (Some(started), Some(true));
    let problems = Vec::new();
    Entry::Run(Box::new(RunReport {
        run: id,
        name: "r".into(),
        members: 1,
        steps: 2,
        replay: 0,
        started,
        ended,
        succeeded,
        problems,
    }))
}

fn letter(job: &Job, days: i64) -> (message::Message, DeadLetter) {
    let letter = DeadLetter {
        job: job.id,
        replay: 0,
        attempt: 1,
        kind: job.kind.clone(),
        queue: job.queue.clone(),
        reason: "odd".into(),
        at: Timestamp::now() - SignedDuration::from_hours(24 * days),
        ..DeadLetter::default()
    };
    (message::encode(job, true), letter)
}

/// Ordered so many days ago, and ended so many days ago, if it has.
fn replay(ordered: i64, ended: Option<i64>) -> ReplayRow {
    let ago = |days: i64| Timestamp::now() - SignedDuration::from_hours(24 * days);
    ReplayRow {
        id: Uuid::now_v7(),
        filter: FailureFilter::default(),
        rate: None,
        by: "ann".into(),
        at: ago(ordered),
        ended: ended.map(ago),
        state: if ended.is_some() { ReplayState::Done } else { ReplayState::Running },
        total: None,
        done: 0,
        failed: 0,
        error: None,
    }
}

fn keep(days: u64) -> Keep {
    let time = Some(Duration::from_secs(days * 86_400));
    State::ALL.into_iter().filter(|state| state.is_final()).map(|state| (state, time)).collect()
}

fn blobs(record: &Record) -> Blobs {
    Blobs::in_results(Arc::new(OnceLock::from(record.results.clone())))
}

/// A whole pass.
async fn pass(results: &Results, blobs: &Blobs, cuts: &Cuts, dry: bool) -> Pruned {
    let (mut sum, mut place) = (Pruned::default(), Some(Place::default()));
    while let Some(from) = place {
        let (pruned, next) = retention::step(results, blobs, cuts, from, dry).await.unwrap();
        sum += pruned;
        place = next;
    }
    sum
}

async fn ids(results: &Results) -> Vec<Uuid> {
    let filter = JobFilter { limit: 1000, ..JobFilter::default() };
    let rows = crate::recorder::all_pages(filter, async |filter| results.jobs(filter).await.unwrap()).await;
    rows.into_iter().map(|row| row.id).collect()
}

async fn a_dry_run_counts_what_then_goes_and_the_rest_stays(record: Record) {
    let (results, blobs) = (&record.results, blobs(&record));
    let mut entries = Vec::new();
    let mut stays = Vec::new();
    let (gone_run, mixed_run) = (Uuid::now_v7(), Uuid::now_v7());
    entries.extend([run(gone_run, 50), run(mixed_run, 50)]);
    for number in 0..1200 {
        let (days, state) = [(50, State::Succeeded), (50, State::Failed), (2, State::Succeeded)][number % 3];
        let mut job = old(days);
        job.run = (number < 6).then_some(if days == 50 && number < 3 { gone_run } else { mixed_run });
        entries.extend(life(&job, state));
        if number < 6 {
            entries.extend([step(&job, 0), step(&job, 1)]);
            blobs.put(job.id, &super::blobs::bytes(1, 300 << 10)).await.unwrap();
        }
        if days == 2 || state == State::Failed {
            stays.push(job.id);
        }
    }
    results.store(&entries).await.unwrap();
    // The letter of a job that stays, and of one that nobody recorded.
    let (known, unknown) = (old(50), old(50));
    results.store(&life(&known, State::Failed)).await.unwrap();
    stays.push(known.id);
    results.bury(&[letter(&known, 50), letter(&known, 1)]).await.unwrap();
    results.bury(&[letter(&unknown, 50)]).await.unwrap();
    // Of a replay that runs, one that ended lately, and one that ended long ago, the last one goes.
    let replays = [(50, None), (50, Some(2)), (50, Some(40))].map(|(days, ended)| replay(days, ended));
    for row in &replays {
        results.order_replay(row).await.unwrap();
    }
    let mut keep = keep(30);
    keep.retain(|(state, _)| matches!(state, State::Succeeded | State::Dead));
    let cuts = retention::cuts(&keep, Timestamp::now());
    let counted = pass(results, &blobs, &cuts, true).await;
    assert_eq!(ids(results).await.len(), 1202, "a dry run changes nothing");
    let pruned = pass(results, &blobs, &cuts, false).await;
    assert_eq!(pruned, counted);
    // The job of the unknown letter was made dead by it, and goes as such.
    assert_eq!((pruned.jobs, pruned.attempts, pruned.steps, pruned.letters), (401, 400, 4, 2), "{pruned:?}");
    assert_eq!((pruned.runs, pruned.blobs, pruned.blob_bytes), (0, 2, 2 * (300 << 10)), "a failed job keeps its run");
    assert_eq!(pruned.replays, 1);
    assert_eq!(results.replays(10, None).await.unwrap().rows.len(), 2);
    assert_eq!(results.replay(replays[2].id).await.unwrap(), None);
    let mut left = ids(results).await;
    left.sort_unstable();
    stays.sort_unstable();
    assert_eq!(left, stays);
    assert_eq!(pass(results, &blobs, &cuts, false).await, Pruned::default(), "nothing is left to remove");
    let all = retention::cuts(&self::keep(30), Timestamp::now());
    let rest = pass(results, &blobs, &all, true).await;
    assert_eq!((rest.jobs, rest.runs), (401, 1));
    assert_eq!(pass(results, &blobs, &all, false).await, rest);
    assert!(results.run(gone_run).await.unwrap().is_none() && results.run(mixed_run).await.unwrap().is_some());
    record.end().await;
}

async fn ten_thousand_old_jobs_go_while_new_ones_are_recorded(record: Record) {
    let (results, blobs) = (record.results.clone(), blobs(&record));
    for _ in 0..10 {
        let entries: Vec<Entry> = (0..1000).flat_map(|_| life(&old(50), State::Succeeded)).collect();
        results.store(&entries).await.unwrap();
    }
    let fresh: Vec<Job> = (0..2000).map(|_| entries::job()).collect();
    let cuts = retention::cuts(&keep(30), Timestamp::now());
    let writing = async {
        for some in fresh.chunks(50) {
            let entries: Vec<Entry> = some.iter().flat_map(|job| life(job, State::Succeeded)).collect();
            results.store(&entries).await.unwrap();
        }
    };
    let again = record.again().await;
    let (pruned, ()) = tokio::join!(pass(&again, &blobs, &cuts, false), writing);
    assert_eq!((pruned.jobs, pruned.attempts), (10_000, 10_000));
    let mut left = ids(&results).await;
    left.sort_unstable();
    let mut expected: Vec<Uuid> = fresh.iter().map(|job| job.id).collect();
    expected.sort_unstable();
    assert_eq!(left, expected);
    again.close().await;
    record.end().await;
}

async fn what_has_not_ended_stays_however_old_it_is(record: Record) {
    let (results, blobs) = (&record.results, blobs(&record));
    let (queued, retrying, late) = (old(400), old(400), old(400));
    let mut report = entries::report(&late, State::Succeeded);
    // It waited long and ended just now.
    report.ended = Timestamp::now();
    let mut entries = life(&retrying, State::Retrying);
    entries.extend([Entry::Queued(Box::new(queued)), Entry::Report(Box::new(report))]);
    results.store(&entries).await.unwrap();
    let cuts = retention::cuts(&keep(30), Timestamp::now());
    assert_eq!(pass(results, &blobs, &cuts, false).await, Pruned::default());
    assert_eq!(ids(results).await.len(), 3);
    record.end().await;
}

async fn a_letter_keeps_the_large_args_of_its_job(record: Record) {
    let (results, blobs) = (&record.results, blobs(&record));
    let mut job = old(50);
    job.args = spinor_executors::Json::of(&"x".repeat(300 << 10)).unwrap();
    blobs.put_args(&mut job).await.unwrap();
    results.store(&life(&job, State::Dead)).await.unwrap();
    results.bury(&[letter(&job, 1)]).await.unwrap();
    let cuts = retention::cuts(&keep(30), Timestamp::now());
    assert_eq!(pass(results, &blobs, &cuts, false).await.jobs, 1);
    assert!(blobs.fetch(job.clone()).await.is_ok(), "the letter can still be replayed");
    let later = retention::cuts(&keep(30), Timestamp::now() + SignedDuration::from_hours(24 * 40));
    let pruned = pass(results, &blobs, &later, false).await;
    assert_eq!((pruned.letters, pruned.blobs), (1, 1));
    record.end().await;
}

async fn one_process_at_a_time_removes_by_itself(record: Record) {
    let scratch = Scratch::new("retention");
    let agreed = Agreed::open(&StateTarget::Sqlite(scratch.join("state.db"))).await.unwrap();
    let entries: Vec<Entry> = (0..1000).flat_map(|_| life(&old(50), State::Failed)).collect();
    record.results.store(&entries).await.unwrap();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    for _ in 0..2 {
        let retention = Retention {
            results: record.results.clone(),
            blobs: blobs(&record),
            state: Arc::new(agreed.clone().into()),
            search: None,
            keep: keep(30),
            keep_audit: None,
            every: Duration::from_millis(20),
        };
        tasks.spawn(retention.run(stop.clone()));
    }
    tasks.close();
    eventually("all to be removed", Duration::from_secs(60), async || ids(&record.results).await.is_empty()).await;
    let other = agreed.lease("retention", Uuid::now_v7(), Duration::from_secs(1)).await.unwrap();
    assert_eq!(other, None, "who removes has the lease");
    stop.cancel();
    tasks.wait().await;
    let next = agreed.lease("retention", Uuid::now_v7(), Duration::from_secs(1)).await.unwrap();
    assert!(next.is_some(), "and gives it back");
    agreed.close().await;
    record.end().await;
}
