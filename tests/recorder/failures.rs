//! What ended badly: its fingerprint, its groups, its dead letters, and replays as rows.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use spinor_consumers::{
    entry::Entry,
    message,
    results::{
        DeadFilter, DeadLetter, FailureFilter, JobFilter, Rate, ReplayRow, ReplayState, Results, ResultsTarget,
        fingerprint,
    },
};
use spinor_executors::{Cause, Failure, Job, Report, State};
use uuid::Uuid;

use super::{
    Record,
    entries::{job, report},
};

both!(
    failures_are_grouped_by_what_they_have_in_common,
    a_replay_takes_the_fingerprint_away_and_its_end_brings_one_again,
    dead_letters_are_chosen_counted_and_removed,
    a_look_finds_each_job_once_and_goes_on_from_its_place,
    a_replay_is_written_only_by_who_saw_its_last_step,
    a_record_of_the_first_schema_keeps_its_rows,
);

fn failed(job: &Job, message: &str) -> Report {
    let mut end = report(job, State::Failed);
    end.failure = Some(Failure { cause: Cause::Exit, message: message.to_owned() });
    end
}

fn entry(report: &Report) -> Entry {
    Entry::Report(Box::new(report.clone()))
}

async fn failures_are_grouped_by_what_they_have_in_common(record: &Record) {
    let jobs: Vec<Job> = (0..7).map(|_| job()).collect();
    let mut reports: Vec<Report> =
        (0..5).map(|at| failed(&jobs[at], &format!("no row {at} in /data/{at}.db"))).collect();
    reports[1].version = Some("0.0.9".to_owned());
    reports[2].origin.consumer = "c-2".to_owned();
    reports[4].state = State::Discarded;
    reports.push(failed(&jobs[5], "out of paper"));
    reports.push(report(&jobs[6], State::Succeeded));
    record.results.store(&reports.iter().map(entry).collect::<Vec<_>>()).await.unwrap();
    let all = record.results.failures(&FailureFilter::default(), 50).await.unwrap();
    assert!(!all.capped);
    let counts: BTreeSet<(u64, &str)> = all.groups.iter().map(|group| (group.count, group.kind.as_str())).collect();
    assert_eq!(counts, BTreeSet::from([(5, "image.resize"), (1, "image.resize")]));
    let group = all.groups.iter().find(|group| group.count == 5).unwrap();
    assert_eq!(group.fingerprint, fingerprint("image.resize", "no row 9 in /data/9.db"));
    assert_eq!(group.consumers, BTreeSet::from(["c-1".to_owned(), "c-2".to_owned()]));
    assert_eq!(group.versions.len(), 2);
    assert_eq!(group.states, BTreeSet::from([State::Failed, State::Discarded]));
    let ends: Vec<Timestamp> = reports[..5].iter().map(|report| report.ended).collect();
    assert_eq!((group.first, group.last), (*ends.iter().min().unwrap(), *ends.iter().max().unwrap()));
    // The example is one of them, with its own words.
    let example = jobs.iter().position(|job| job.id == group.job).unwrap();
    assert_eq!(group.error, format!("no row {example} in /data/{example}.db"));
    let only = FailureFilter { states: vec![State::Discarded], ..FailureFilter::default() };
    assert_eq!(record.results.failures(&only, 50).await.unwrap().groups[0].count, 1);
    let later = FailureFilter { since: Some(group.last + SignedDuration::from_secs(60)), ..FailureFilter::default() };
    assert_eq!(record.results.failures(&later, 50).await.unwrap().groups, []);
    let filter = JobFilter { fingerprint: Some(group.fingerprint.clone()), ..JobFilter::default() };
    let rows = record.results.jobs(&filter).await.unwrap().rows;
    assert!(rows.len() == 5 && rows.iter().all(|row| row.fingerprint.as_ref() == Some(&group.fingerprint)));
}

async fn a_replay_takes_the_fingerprint_away_and_its_end_brings_one_again(record: &Record) {
    let first = job();
    let end = failed(&first, "one");
    let again = Job { replay: 1, ..first.clone() };
    let row = async || record.results.job(first.id).await.unwrap().unwrap().row;
    record.results.store(&[entry(&end)]).await.unwrap();
    assert_eq!(row().await.fingerprint, Some(fingerprint(&first.kind, "one")));
    assert_eq!(row().await.version.as_deref(), Some(spinor_executors::VERSION));
    record.results.store(&[Entry::Queued(Box::new(again.clone()))]).await.unwrap();
    // What is late of the replay before changes nothing.
    record.results.store(&[entry(&end), entry(&report(&first, State::Dead))]).await.unwrap();
    let queued = row().await;
    assert_eq!((queued.state, queued.replay, queued.fingerprint), (State::Queued, 1, None));
    record.results.store(&[entry(&failed(&again, "two"))]).await.unwrap();
    assert_eq!(row().await.fingerprint, Some(fingerprint(&first.kind, "two")));
    let source = record.results.source(first.id).await.unwrap().unwrap();
    assert_eq!((source.state, source.replay, source.job.map(|job| job.id)), (State::Failed, 1, Some(first.id)));
    assert_eq!(record.results.source(Uuid::now_v7()).await.unwrap(), None);
}

fn letter(queue: &str, kind: &str, reason: &str, second: i64) -> (message::Message, DeadLetter) {
    let mut buried = job();
    (buried.queue, buried.kind) = (queue.to_owned(), kind.to_owned());
    let letter = DeadLetter {
        job: buried.id,
        attempt: 1,
        kind: kind.to_owned(),
        queue: queue.to_owned(),
        reason: reason.to_owned(),
        at: Timestamp::from_second(1_700_000_000 + second).unwrap(),
        consumer: "c-1".to_owned(),
        fingerprint: fingerprint(kind, reason),
        version: "1.2.3".to_owned(),
        ..DeadLetter::default()
    };
    (message::encode(&buried, true), letter)
}

async fn dead_letters_are_chosen_counted_and_removed(record: &Record) {
    let letters: Vec<_> = (0..12)
        .map(|at| match at % 3 {
            0 => letter("images", "image.resize", &format!("crashes: {at} consumers died"), at),
            1 => letter("mail", "mail.send", "100% _full_", at),
            _ => letter("mail", "image.resize", "Crashes: told otherwise", at),
        })
        .collect();
    record.results.bury(&letters).await.unwrap();
    let all = DeadFilter::default();
    let count = async |filter: &DeadFilter| record.results.dead(filter).await.unwrap().rows.len();
    let some = |text: &str| Some(text.to_owned());
    let crashed = DeadFilter { reason: some("crashes:"), ..all.clone() };
    assert_eq!(count(&all).await, 12);
    assert_eq!(count(&crashed).await, 4);
    assert_eq!(count(&DeadFilter { reason: some("100% _"), ..all.clone() }).await, 4);
    assert_eq!(count(&DeadFilter { reason: some("1000"), ..all.clone() }).await, 0);
    assert_eq!(count(&DeadFilter { queue: some("mail"), kind: some("image.resize"), ..all.clone() }).await, 4);
    let print = DeadFilter { fingerprint: Some(letters[0].1.fingerprint.clone()), ..all.clone() };
    assert_eq!(count(&print).await, 4, "the number is no part of it");
    let middle = DeadFilter { since: Some(letters[3].1.at), until: Some(letters[5].1.at), ..all.clone() };
    assert_eq!(count(&middle).await, 3);
    assert_eq!(record.results.dead(&print).await.unwrap().rows[0], letters[9].1);
    let mut seen = Vec::new();
    let mut page = DeadFilter { limit: 5, ..all.clone() };
    loop {
        let found = record.results.dead(&page).await.unwrap();
        seen.extend(found.rows.into_iter().map(|letter| letter.job));
        page.cursor = found.next;
        if page.cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, letters.iter().rev().map(|(_, letter)| letter.job).collect::<Vec<_>>());
    assert_eq!(record.results.dead_count(&crashed, 1000).await.unwrap(), 4);
    assert_eq!(record.results.dead_count(&all, 7).await.unwrap(), 7);
    assert_eq!(record.results.remove_dead(&crashed).await.unwrap(), 4);
    assert_eq!(record.results.remove_dead(&crashed).await.unwrap(), 0);
    assert_eq!(count(&all).await, 8);
}

async fn a_look_finds_each_job_once_and_goes_on_from_its_place(record: &Record) {
    let at = Timestamp::from_microsecond(1_700_000_000_000_000).unwrap();
    let mut entries = Vec::new();
    for number in 0..60 {
        let mut one = Job { created: at + SignedDuration::from_millis(number / 4), ..job() };
        one.queue = if number % 2 == 0 { "even" } else { "odd" }.to_owned();
        let mut end = failed(&one, &format!("number {number}"));
        end.state = if number % 5 == 0 { State::Dead } else { State::Failed };
        entries.push(entry(&end));
    }
    let late = Job { created: at + SignedDuration::from_secs(60), ..job() };
    entries.push(entry(&failed(&late, "number 60")));
    record.results.store(&entries).await.unwrap();
    let bound = at + SignedDuration::from_secs(30);
    let all = FailureFilter::default();
    let odd = FailureFilter { queue: Some("odd".to_owned()), ..all.clone() };
    let print = FailureFilter { fingerprint: Some(fingerprint("image.resize", "number 1")), ..odd.clone() };
    let dead = FailureFilter { states: vec![State::Dead], ..print.clone() };
    for (filter, expected) in [(all.clone(), 60), (odd, 30), (print, 30), (dead, 6)] {
        let (mut found, mut place) = (Vec::new(), String::new());
        loop {
            let look = record.results.look(&filter, bound, &place, 7).await.unwrap();
            assert!(look.found.len() <= 7);
            found.extend(look.found);
            match look.next {
                Some(next) => place = next,
                None => break,
            }
        }
        assert_eq!(found.len(), expected, "{filter:?}");
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), expected, "{filter:?}");
        assert_eq!(record.results.matching(&filter, bound).await.unwrap(), Some(expected as u64));
    }
    assert!(record.results.look(&all, bound, "nonsense", 7).await.is_err());
}

async fn a_replay_is_written_only_by_who_saw_its_last_step(record: &Record) {
    let row = |filter: FailureFilter| ReplayRow {
        id: Uuid::now_v7(),
        filter,
        rate: Some(Rate { jobs: 10, each_ms: 1000 }),
        by: "someone".to_owned(),
        at: Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap(),
        ended: None,
        state: ReplayState::Running,
        total: Some(2),
        done: 0,
        failed: 0,
        error: None,
    };
    let (one, other) =
        (row(FailureFilter { states: vec![State::Dead], ..Default::default() }), row(Default::default()));
    for row in [&one, &other] {
        record.results.order_replay(row).await.unwrap();
        assert_eq!(record.results.replay(row.id).await.unwrap().as_ref(), Some(row));
    }
    let running = async || record.results.running_replays().await.unwrap();
    let mut mine = running().await.remove(0);
    let mut theirs = running().await.remove(0);
    mine.place = Some("0.1.00000000000000000000000000000000".to_owned());
    mine.pending = vec![(Uuid::now_v7(), 1)];
    assert!(record.results.advance_replay(&mut mine).await.unwrap());
    theirs.row.done = 99;
    assert!(!record.results.advance_replay(&mut theirs).await.unwrap(), "it was overtaken");
    assert_eq!(running().await[0], mine);
    // At the end while something is pending it still runs.
    mine.place = None;
    assert!(record.results.advance_replay(&mut mine).await.unwrap());
    assert_eq!(running().await.len(), 2);
    mine.pending.clear();
    mine.row.done = 2;
    assert!(record.results.advance_replay(&mut mine).await.unwrap());
    let ended = record.results.replay(one.id).await.unwrap().unwrap();
    assert!(ended.state == ReplayState::Done && ended.done == 2 && ended.ended.is_some());
    assert!(!record.results.stop_replay(one.id).await.unwrap());
    assert!(record.results.stop_replay(other.id).await.unwrap());
    assert!(running().await.is_empty());
    let first = record.results.replays(1, None).await.unwrap();
    let second = record.results.replays(1, first.next.as_deref()).await.unwrap();
    assert_eq!((first.rows[0].id, second.rows[0].id, second.next), (other.id, one.id, None));
    assert_eq!(first.rows[0].state, ReplayState::Stopped);
}

const FIRST: [&str; 2] = [
    include_str!("../../consumers/src/results/schema/sqlite_0001.sql"),
    include_str!("../../consumers/src/results/schema/mysql_0001.sql"),
];

async fn a_record_of_the_first_schema_keeps_its_rows(record: &Record) {
    record.drop_all().await;
    let server = matches!(record.target, ResultsTarget::MySql(_));
    record.execute(FIRST[usize::from(server)]).await;
    record.execute("CREATE TABLE spinor_schema (version BIGINT NOT NULL PRIMARY KEY, at BIGINT NOT NULL)").await;
    record.execute("INSERT INTO spinor_schema (version, at) VALUES (1, 0)").await;
    let id = "x'0198f1d2000070008000000000000001'";
    record
        .execute(&format!(
            "INSERT INTO jobs (id, kind, queue, state, replay, attempt, place, created, error, job_replay, updated) \
             VALUES ({id}, 'old.kind', 'old', 'failed', 0, 1, 7, 5, 'too old', -1, 9)"
        ))
        .await;
    record
        .execute(&format!(
            "INSERT INTO dead (job, replay, attempt, kind, queue, reason, at, consumer, properties, body) \
             VALUES ({id}, 0, 1, 'old.kind', 'old', 'crashes: 2', 7, '', '{{}}', x'7b7d')"
        ))
        .await;
    let upgraded = record.again().await;
    let check = async |results: &Results| {
        let rows = results.jobs(&JobFilter::default()).await.unwrap().rows;
        let old = rows.iter().find(|row| row.kind == "old.kind").unwrap();
        assert_eq!((old.state, old.error.as_deref(), old.fingerprint.as_ref()), (State::Failed, Some("too old"), None));
        let (message, letter) = results.letter(old.id).await.unwrap().unwrap();
        assert_eq!((&message.body[..], letter.reason.as_str()), (&b"{}"[..], "crashes: 2"));
        assert_eq!(letter.fingerprint, fingerprint("old.kind", "crashes: 2"));
    };
    check(&upgraded).await;
    upgraded.store(&[entry(&failed(&job(), "new"))]).await.unwrap();
    assert_eq!(upgraded.failures(&FailureFilter::default(), 10).await.unwrap().groups.len(), 1);
    upgraded.close().await;
    if server {
        // A server commits each change of a table: cut before the version was noted, it goes on.
        record.execute("DELETE FROM spinor_schema WHERE version > 1").await;
        record.execute("DROP TABLE replays").await;
        let again = record.again().await;
        check(&again).await;
        assert_eq!(again.replays(1, None).await.unwrap().rows, []);
        again.close().await;
    }
}
