//! What is asked of the record: lists by cursor, runs and steps, dead letters, what is answered;
//! odd content survives; the schema is shared and guarded.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use spinor_consumers::{
    entry::{Entry, RunReport},
    message::{self, Message},
    results::{DeadFilter, DeadLetter, JobFilter, Results, ResultsError, SCHEMA_VERSION, StepFilter, fingerprint},
};
use spinor_executors::{Exit, Job, Json, Output, State, StepReport, StepState};
use uuid::Uuid;

use super::{
    Record, all_pages,
    entries::{job, report},
    newest_first,
};

both!(
    pages_hold_every_job_once_newest_first,
    filters_choose_and_counts_are_capped,
    what_is_answered_is_told_for_a_whole_batch,
    steps_are_listed_by_node_part_and_item,
    a_run_is_announced_and_ended_in_any_order,
    a_dead_letter_keeps_its_message_and_makes_its_job_dead,
    nul_and_wide_characters_and_long_names_survive,
    a_large_value_is_recorded,
    a_newer_schema_is_refused_with_both_versions,
    many_processes_may_migrate_at_once,
    what_changed_is_told_in_order_and_once,
);

fn queued(job: &Job) -> Entry {
    Entry::Queued(Box::new(job.clone()))
}

fn reported(job: &Job, state: State) -> Entry {
    Entry::Report(Box::new(report(job, state)))
}

async fn pages_hold_every_job_once_newest_first(record: &Record) {
    let at = Timestamp::from_microsecond(1_700_000_000_000_000).unwrap();
    let jobs: Vec<Job> = (0..25)
        // Several jobs to an instant: the id decides.
        .map(|number| Job { created: at + SignedDuration::from_millis(number / 4), ..job() })
        .collect();
    record.results.store(&jobs.iter().map(queued).collect::<Vec<_>>()).await.unwrap();
    let sevens = JobFilter { limit: 7, ..JobFilter::default() };
    let rows = all_pages(sevens, async |filter| record.results.jobs(filter).await.unwrap()).await;
    newest_first(&rows, &jobs);
    let filter = JobFilter { cursor: Some("nonsense".into()), ..JobFilter::default() };
    assert!(record.results.jobs(&filter).await.is_err_and(|error| error.to_string().contains("nonsense")));
}

async fn filters_choose_and_counts_are_capped(record: &Record) {
    let run = Uuid::now_v7();
    let mut entries = Vec::new();
    for number in 0..12 {
        let mut one = job();
        one.queue = if number < 4 { "images" } else { "mail" }.to_owned();
        one.kind = if number % 2 == 0 { "even" } else { "odd" }.to_owned();
        one.run = (number == 3).then_some(run);
        entries.push(queued(&one));
        if number < 2 {
            entries.push(reported(&one, State::Failed));
        }
    }
    record.results.store(&entries).await.unwrap();
    let count = async |filter: JobFilter| record.results.jobs(&filter).await.unwrap().rows.len();
    let all = JobFilter::default();
    assert_eq!(count(all.clone()).await, 12);
    assert_eq!(count(JobFilter { state: Some(State::Failed), ..all.clone() }).await, 2);
    assert_eq!(count(JobFilter { queue: Some("mail".into()), ..all.clone() }).await, 8);
    assert_eq!(count(JobFilter { queue: Some("MAIL".into()), ..all.clone() }).await, 0);
    assert_eq!(count(JobFilter { kind: Some("odd".into()), queue: Some("images".into()), ..all.clone() }).await, 2);
    assert_eq!(count(JobFilter { run: Some(run), ..all.clone() }).await, 1);
    let rows = record.results.jobs(&all).await.unwrap().rows;
    let (newest, oldest) = (rows[0].created, rows[11].created);
    let after = |at: Timestamp| at + SignedDuration::from_secs(1);
    assert_eq!(count(JobFilter { since: Some(oldest), until: Some(newest), ..all.clone() }).await, 12);
    assert_eq!(count(JobFilter { since: Some(after(newest)), ..all.clone() }).await, 0);
    assert_eq!(count(JobFilter { until: Some(oldest - SignedDuration::from_secs(1)), ..all }).await, 0);
    let mut counts = record.results.counts(1000).await.unwrap();
    counts.sort();
    let row = |state: &str, queue: &str, count| (state.to_owned(), queue.to_owned(), count);
    assert_eq!(counts, [row("failed", "images", 2), row("queued", "images", 2), row("queued", "mail", 8)]);
    let capped: u64 = record.results.counts(3).await.unwrap().iter().map(|(.., count)| count).sum();
    assert_eq!(capped, 5);
}

async fn what_is_answered_is_told_for_a_whole_batch(record: &Record) {
    let jobs: Vec<Job> = (0..70).map(|_| job()).collect();
    let entries: Vec<Entry> = jobs
        .iter()
        .enumerate()
        .map(|(at, job)| match at % 4 {
            0 => queued(job),
            1 => reported(job, State::Retrying),
            2 => reported(&Job { attempt: 2, ..job.clone() }, State::Retrying),
            _ => reported(job, State::Succeeded),
        })
        .collect();
    record.results.store(&entries).await.unwrap();
    let asked: Vec<_> = jobs.iter().flat_map(|job| [(job.id, 0, 1), (job.id, 0, 2)]).collect();
    // Its own final state, or a later attempt: a retry alone answers nothing.
    let expected: Vec<_> =
        jobs.iter().enumerate().filter(|(at, _)| at % 4 > 1).map(|(_, job)| (job.id, 0, 1)).collect();
    assert_eq!(record.results.answered(&asked).await.unwrap(), expected);
    assert_eq!(record.results.answered(&[]).await.unwrap(), []);
}

fn step(job: &Job, run: Uuid, node: &str, number: u32, state: StepState) -> StepReport {
    StepReport {
        job: job.id,
        run: Some(run),
        node: node.to_owned(),
        step: number,
        part: number / 2,
        item: number % 2,
        name: format!("step {number}"),
        verb: "RUN".to_owned(),
        state,
        failure: None,
        exit: Some(Exit { pid: 100 + number, code: Some(0), signal: None }),
        stdout: Output { head: "hello\n".to_owned(), bytes: 6, ..Output::default() },
        stderr: Output::default(),
        started: Timestamp::from_microsecond(1_700_000_000_000_000 + i64::from(number)).unwrap(),
        micros: 1500,
    }
}

async fn steps_are_listed_by_node_part_and_item(record: &Record) {
    let run = Uuid::now_v7();
    let (a, b) = (job(), job());
    let mut steps: Vec<StepReport> = (0..4).map(|number| step(&a, run, "a", number, StepState::Succeeded)).collect();
    steps.extend((0..4).map(|number| step(&b, run, "b", number, StepState::Succeeded)));
    steps[6].state = StepState::Failed;
    let mut shuffled: Vec<Entry> = steps.iter().rev().map(|step| Entry::Step(Box::new(step.clone()))).collect();
    shuffled.extend_from_within(..3);
    record.results.store(&shuffled).await.unwrap();
    record.results.store(&shuffled).await.unwrap();
    let filter = StepFilter { run, outputs: true, ..StepFilter::default() };
    assert_eq!(record.results.steps(&filter).await.unwrap(), steps);
    let bare = record.results.steps(&StepFilter { outputs: false, ..filter.clone() }).await.unwrap();
    assert!(bare.len() == 8 && bare.iter().all(|step| step.stdout.is_empty()));
    let problems = StepFilter { problems: true, node: Some("b".into()), ..filter.clone() };
    assert_eq!(record.results.steps(&problems).await.unwrap(), steps[6..7]);
    // A replay of the plan runs the step again: the later start stands, and the earlier one, late, does not.
    let mut again = steps[6].clone();
    again.state = StepState::Succeeded;
    again.started += SignedDuration::from_secs(60);
    for step in [&again, &steps[6]] {
        record.results.store(&[Entry::Step(Box::new(step.clone()))]).await.unwrap();
    }
    assert_eq!(record.results.steps(&problems).await.unwrap(), []);
}

async fn a_run_is_announced_and_ended_in_any_order(record: &Record) {
    let at = Timestamp::from_microsecond(1_700_000_000_000_000).unwrap();
    for order in [[0, 1], [1, 0]] {
        let run = Uuid::now_v7();
        let announced = RunReport {
            run,
            name: "site.yaml".into(),
            members: 2,
            steps: 8,
            replay: 0,
            started: at,
            ended: None,
            succeeded: None,
            problems: vec![],
        };
        let ended = RunReport {
            ended: Some(at + SignedDuration::from_secs(3)),
            succeeded: Some(false),
            problems: vec!["no node `x`".into()],
            ..announced.clone()
        };
        let said = [announced, ended];
        for at in order {
            record.results.store(&[Entry::Run(Box::new(said[at].clone()))]).await.unwrap();
        }
        let member = Job { run: Some(run), member: Some("node-1".into()), ..job() };
        record.results.store(&[queued(&member)]).await.unwrap();
        let found = record.results.run(run).await.unwrap().unwrap();
        assert_eq!((found.row.succeeded, found.row.ended), (Some(false), said[1].ended));
        assert_eq!(found.row.problems, said[1].problems);
        assert_eq!((found.jobs.len(), found.jobs[0].0.as_str()), (1, "node-1"));
        // A retry is the same run going on, whatever comes again of the time before.
        let again = RunReport { replay: 1, ..said[0].clone() };
        let better = RunReport { replay: 1, succeeded: Some(true), problems: vec![], ..said[1].clone() };
        for (report, succeeded) in [(&again, None), (&said[1], None), (&better, Some(true)), (&again, Some(true))] {
            record.results.store(&[Entry::Run(Box::new(report.clone()))]).await.unwrap();
            let row = record.results.run(run).await.unwrap().unwrap().row;
            assert_eq!((row.replay, row.succeeded, row.ended.is_some()), (1, succeeded, succeeded.is_some()));
        }
    }
    let first = record.results.runs(1, None).await.unwrap();
    let second = record.results.runs(1, first.next.as_deref()).await.unwrap();
    assert!(first.rows[0].id > second.rows[0].id && second.next.is_none());
    assert_eq!(record.results.run(Uuid::now_v7()).await.unwrap(), None);
}

fn letter(job: &Job, reason: &str) -> (Message, DeadLetter) {
    let letter = DeadLetter {
        job: job.id,
        replay: job.replay,
        attempt: job.attempt,
        kind: job.kind.clone(),
        queue: job.queue.clone(),
        reason: reason.to_owned(),
        at: job.created,
        consumer: "c-1".to_owned(),
        fingerprint: fingerprint(&job.kind, reason),
        version: "1.2.3".to_owned(),
    };
    (message::encode(job, true), letter)
}

async fn a_dead_letter_keeps_its_message_and_makes_its_job_dead(record: &Record) {
    let (announced, unknown, answered) = (job(), job(), job());
    record.results.store(&[queued(&announced), reported(&answered, State::Succeeded)]).await.unwrap();
    let letters: Vec<_> = [&announced, &unknown, &answered].map(|job| letter(job, "no consumer\nat all")).into();
    record.results.bury(&letters).await.unwrap();
    record.results.bury(&letters).await.unwrap();
    for job in [&announced, &unknown] {
        let found = record.results.job(job.id).await.unwrap().unwrap();
        assert_eq!((found.row.state, found.row.error.as_deref()), (State::Dead, Some("no consumer")));
        assert_eq!(found.job.as_ref(), Some(job));
        assert_eq!(record.results.ending(job.id).await.unwrap().map(|report| report.state), Some(State::Dead));
    }
    assert_eq!(record.results.job(answered.id).await.unwrap().unwrap().row.state, State::Succeeded);
    let page = record.results.dead(&DeadFilter { limit: 2, ..DeadFilter::default() }).await.unwrap();
    let rest = record.results.dead(&DeadFilter { limit: 2, cursor: page.next, ..DeadFilter::default() }).await.unwrap();
    assert_eq!((page.rows.len(), rest.rows.len(), rest.next), (2, 1, None));
    let rubbish = Message { body: Bytes::from_static(&[0, 255, 254, 10]), ..Message::default() };
    let nameless = DeadLetter { job: Uuid::now_v7(), kind: String::new(), ..letters[0].1.clone() };
    record.results.bury(&[(rubbish.clone(), nameless.clone())]).await.unwrap();
    assert_eq!(record.results.letter(nameless.job).await.unwrap(), Some((rubbish, nameless.clone())));
    assert_eq!(record.results.job(nameless.job).await.unwrap(), None);
    assert_eq!(record.results.letter(unknown.id).await.unwrap().as_ref(), Some(&letters[1]));
    assert_eq!(record.results.unbury(&[(unknown.id, 0)]).await.unwrap(), 1);
    assert_eq!(record.results.letter(unknown.id).await.unwrap(), None);
}

async fn nul_and_wide_characters_and_long_names_survive(record: &Record) {
    let mut odd = job();
    odd.kind = "a\0b😀é ".to_owned();
    odd.queue = "q".repeat(2000);
    odd.args = Json::new("[\"\\u0000😀\"]").unwrap();
    let mut end = report(&odd, State::Failed);
    end.failure.as_mut().unwrap().message = format!("nul \0 and 😀 {}", "x".repeat(5000));
    record.results.store(&[queued(&odd), Entry::Report(Box::new(end.clone()))]).await.unwrap();
    let found = record.results.job(odd.id).await.unwrap().unwrap();
    assert_eq!(found.row.kind, odd.kind);
    assert_eq!((found.row.queue.len(), found.job.as_ref()), (255, Some(&odd)));
    assert_eq!(found.attempts[0].report, end);
    let filter = JobFilter { queue: Some(odd.queue.clone()), kind: Some(odd.kind.clone()), ..JobFilter::default() };
    assert_eq!(record.results.jobs(&filter).await.unwrap().rows.len(), 1);
}

async fn a_large_value_is_recorded(record: &Record) {
    let large = job();
    let mut end = report(&large, State::Succeeded);
    end.value = Some(Json::of(&"😀".repeat(1_900_000)).unwrap());
    let entries: Vec<Entry> = vec![Entry::Report(Box::new(end.clone())), queued(&job()), queued(&job())];
    record.results.store(&entries).await.unwrap();
    assert_eq!(record.results.ending(large.id).await.unwrap(), Some(end));
}

async fn a_newer_schema_is_refused_with_both_versions(record: &Record) {
    let newer = SCHEMA_VERSION + 3;
    record.execute(&format!("INSERT INTO spinor_schema (version, at) VALUES ({newer}, 0)")).await;
    let Err(ResultsError::Misconfigured(why)) = Results::open(record.target()).await else {
        panic!("a newer schema opens")
    };
    assert!(why.contains(&newer.to_string()) && why.contains(&format!("up to {SCHEMA_VERSION}")), "{why}");
}

async fn many_processes_may_migrate_at_once(record: &Record) {
    record.drop_all().await;
    let opened = futures_util::future::join_all((0..6).map(|_| Results::open(record.target()))).await;
    for results in opened {
        let results = results.unwrap();
        results.store(&[queued(&job())]).await.unwrap();
        results.close().await;
    }
    assert_eq!(record.results.jobs(&JobFilter::default()).await.unwrap().rows.len(), 6);
}

async fn what_changed_is_told_in_order_and_once(record: &Record) {
    let jobs: Vec<Job> = (0..30).map(|_| job()).collect();
    for some in jobs.chunks(10) {
        record.results.store(&some.iter().map(queued).collect::<Vec<_>>()).await.unwrap();
    }
    record.results.store(&[reported(&jobs[0], State::Succeeded)]).await.unwrap();
    let (mut after, mut seen) = ((0, Uuid::nil()), Vec::new());
    loop {
        let page = record.results.changed(after, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        after = (last.updated, last.row.id);
        seen.extend(page);
    }
    assert_eq!(seen.len(), 30);
    let last = seen.last().unwrap();
    assert_eq!((last.row.id, last.job.as_ref()), (jobs[0].id, Some(&jobs[0])));
    assert_eq!(last.report.as_ref().map(|report| report.state), Some(State::Succeeded));
}
