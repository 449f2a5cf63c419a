//! Any order and any repetition of the same entries: the record is what a plain model says, in
//! both dialects, however the entries are cut into batches.

use std::collections::{BTreeMap, BTreeSet};

use spinor_consumers::{entry::Entry, results::JobRecord};
use spinor_executors::{Job, Report, State};
use uuid::Uuid;

use super::{
    Record,
    entries::{Draw, job, life, report},
};

/// The rule, said once more in the plainest way: one entry after the other.
#[derive(Clone, Debug, Default)]
struct Model {
    jobs: BTreeMap<Uuid, ModelJob>,
    executions: BTreeMap<(Uuid, u32, u32, Uuid), State>,
}

#[derive(Clone, Debug)]
struct ModelJob {
    order: (u32, u32, u8),
    state: State,
    error: Option<String>,
    whole: Option<Job>,
}

impl Model {
    fn say(&mut self, entry: &Entry) {
        match entry {
            Entry::Queued(job) => self.tell(job.id, (job.replay, job.attempt), State::Queued, None, Some(job)),
            Entry::Report(report) => {
                let error = report.failure.as_ref().map(|failure| failure.message.lines().next().unwrap().to_owned());
                self.tell(report.job, (report.replay, report.attempt), report.state, error, report.whole.as_deref());
                let key = (report.job, report.replay, report.attempt, report.execution);
                self.executions.entry(key).or_insert(report.state);
            }
            Entry::Edited(_) | Entry::Step(_) | Entry::Run(_) => {}
        }
    }

    fn tell(&mut self, id: Uuid, at: (u32, u32), state: State, error: Option<String>, whole: Option<&Job>) {
        let order = (at.0, at.1, state.rank());
        let fresh = ModelJob { order, state, error: error.clone(), whole: None };
        let known = self.jobs.entry(id).or_insert(fresh);
        if order > known.order && (!known.state.is_final() || at.0 > known.order.0) {
            (known.order, known.state, known.error) = (order, state, error);
        }
        if let Some(job) = whole
            && known.whole.as_ref().is_none_or(|known| known.replay < job.replay)
        {
            known.whole = Some(Job { attempt: 1, ..job.clone() });
        }
    }

    #[track_caller]
    fn holds(&self, id: Uuid, record: &JobRecord) {
        let model = &self.jobs[&id];
        let row = &record.row;
        assert_eq!((row.replay, row.attempt, row.state), (model.order.0, model.order.1, model.state), "job {id}");
        assert_eq!(row.error, model.error, "job {id}");
        assert_eq!(record.job, model.whole, "job {id}");
        let seen: BTreeSet<_> = record
            .attempts
            .iter()
            .map(|attempt| &attempt.report)
            .map(|report| ((report.job, report.replay, report.attempt, report.execution), report.state))
            .collect();
        let expected: BTreeSet<_> =
            self.executions.iter().filter(|(key, _)| key.0 == id).map(|(key, state)| (*key, *state)).collect();
        assert_eq!(seen, expected, "job {id}");
        assert_eq!(record.attempts.len(), seen.len(), "one row an execution of {id}");
    }
}

/// Lives of many jobs, shuffled together with repetitions, stored in batches of random size.
async fn shuffled(record: &Record, seed: u64) {
    let mut draw = Draw::new(seed);
    let mut entries: Vec<Entry> = (0..60).flat_map(|_| life(&mut draw)).collect();
    for at in 0..entries.len() / 3 {
        entries.push(entries[at].clone());
    }
    draw.shuffle(&mut entries);
    let mut model = Model::default();
    let mut rest = &entries[..];
    while !rest.is_empty() {
        let (batch, after) = rest.split_at((1 + draw.below(90)).min(rest.len()));
        record.results.store(batch).await.unwrap();
        batch.iter().for_each(|entry| model.say(entry));
        rest = after;
    }
    for id in model.jobs.keys() {
        model.holds(*id, &record.results.job(*id).await.unwrap().expect("the job is recorded"));
    }
}

#[tokio::test]
async fn any_order_and_repetition_of_entries_gives_the_models_record_on_sqlite() {
    let record = Record::sqlite().await;
    for seed in 1..=8 {
        shuffled(&record, seed).await;
    }
}

#[tokio::test]
async fn any_order_and_repetition_of_entries_gives_the_models_record_on_a_server() {
    let record = Record::server().await;
    for seed in 1..=8 {
        shuffled(&record, seed).await;
    }
    record.end().await;
}

both!(
    the_end_of_a_life_does_not_hang_on_the_order,
    a_queued_report_that_comes_last_fills_in_the_job,
    a_final_state_is_left_only_by_a_replay,
    two_executions_of_one_attempt_are_two_rows,
    a_repeated_pack_changes_nothing,
);

async fn the_end_of_a_life_does_not_hang_on_the_order(record: &Record) {
    let mut draw = Draw::new(77);
    for _ in 0..20 {
        let mut entries = life(&mut draw);
        let Some(Entry::Report(end)) = entries.last().cloned() else { panic!("a life ends with a report") };
        draw.shuffle(&mut entries);
        for entry in entries {
            record.results.store(&[entry]).await.unwrap();
        }
        let row = record.results.job(end.job).await.unwrap().unwrap().row;
        assert_eq!((row.replay, row.attempt, row.state), (end.replay, end.attempt, end.state));
        let mut bare = *end;
        bare.whole = None;
        assert_eq!(record.results.ending(bare.job).await.unwrap(), Some(bare));
    }
}

async fn a_queued_report_that_comes_last_fills_in_the_job(record: &Record) {
    let job = job();
    let mut nameless: Report = report(&job, State::Succeeded);
    nameless.kind = String::new();
    nameless.queue = String::new();
    record.results.store(&[Entry::Report(Box::new(nameless))]).await.unwrap();
    assert_eq!(record.results.job(job.id).await.unwrap().unwrap().job, None);
    record.results.store(&[Entry::Queued(Box::new(job.clone()))]).await.unwrap();
    let found = record.results.job(job.id).await.unwrap().unwrap();
    assert_eq!((found.row.kind.as_str(), found.row.queue.as_str()), ("image.resize", "images"));
    assert_eq!((found.row.state, found.job), (State::Succeeded, Some(job)));
}

async fn a_final_state_is_left_only_by_a_replay(record: &Record) {
    let mut job = job();
    let store = async |job: &Job, state| {
        record.results.store(&[Entry::Report(Box::new(report(job, state)))]).await.unwrap();
        record.results.job(job.id).await.unwrap().unwrap().row.state
    };
    assert_eq!(store(&job, State::Cancelled).await, State::Cancelled);
    job.attempt = 2;
    assert_eq!(store(&job, State::Retrying).await, State::Cancelled);
    assert_eq!(store(&job, State::Failed).await, State::Cancelled);
    (job.attempt, job.replay) = (1, 1);
    assert_eq!(store(&job, State::Retrying).await, State::Retrying);
    assert_eq!(record.results.ending(job.id).await.unwrap(), None);
}

async fn two_executions_of_one_attempt_are_two_rows(record: &Record) {
    let job = job();
    let (first, second) = (report(&job, State::Succeeded), report(&job, State::Failed));
    for report in [&first, &second, &first] {
        record.results.store(&[Entry::Report(Box::new(report.clone()))]).await.unwrap();
    }
    let found = record.results.job(job.id).await.unwrap().unwrap();
    assert_eq!((found.row.state, found.attempts.len()), (State::Succeeded, 2));
}

async fn a_repeated_pack_changes_nothing(record: &Record) {
    let mut draw = Draw::new(5);
    let pack: Vec<Entry> = (0..40).flat_map(|_| life(&mut draw)).collect();
    record.results.store(&pack).await.unwrap();
    let before = record.results.changed((0, Uuid::nil()), 1000).await.unwrap();
    record.results.store(&pack).await.unwrap();
    assert_eq!(record.results.changed((0, Uuid::nil()), 1000).await.unwrap(), before);
    assert_eq!(before.len(), 40);
}
