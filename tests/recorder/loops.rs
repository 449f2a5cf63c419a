//! The recorder's loops over a broker: packs to rows, acks after the commit, bad lines to dead.

use std::time::Duration;

use bytes::Bytes;
use spinor_consumers::{
    broker::{Address, Broker},
    entry::Entry,
    message::{self, Message, header},
    recorder::{Recorder, RecorderHealth, RecorderSettings, RecorderView},
    results::{DeadFilter, JobFilter, Results},
};
use spinor_executors::{HeaderValue, Job, State};

use super::{
    Record, all_pages,
    entries::{Draw, job, life, report},
};
use crate::support::{
    eventually,
    roads::{Roads, entries},
    running::Running,
};

pub const SOON: Duration = Duration::from_secs(60);

/// Starts a recorder on what the broker brings.
pub fn record(roads: &Roads, results: &Results, settings: RecorderSettings) -> Running<RecorderView> {
    let recorder = Recorder::new(roads.broker.clone(), results.clone(), settings);
    Running::start(recorder.view(), |told| recorder.run(told))
}

pub fn impatient() -> RecorderSettings {
    RecorderSettings {
        first_wait: Duration::from_millis(20),
        longest_wait: Duration::from_millis(200),
        ..Default::default()
    }
}

fn lives(count: usize, seed: u64) -> Vec<Entry> {
    let mut draw = Draw::new(seed);
    let mut entries: Vec<Entry> = (0..count).flat_map(|_| life(&mut draw)).collect();
    draw.shuffle(&mut entries);
    entries
}

async fn all_jobs(results: &Results) -> usize {
    let filter = JobFilter { limit: 1000, ..JobFilter::default() };
    all_pages(filter, async |filter| results.jobs(filter).await.unwrap()).await.len()
}

#[tokio::test]
async fn every_pack_is_recorded_and_acked_and_a_recorder_told_to_stop_commits_what_it_holds() {
    let record = Record::sqlite().await;
    let roads = Roads::open().await;
    let entries = lives(300, 3);
    let packs = roads.packs(&Address::Results, &entries, 7).await;
    let running = self::record(&roads, &record.results, impatient());
    eventually("all packs to be acked", SOON, async || running.view.metrics().packs == packs).await;
    let metrics = running.view.metrics();
    assert_eq!((metrics.entries, metrics.letters), (entries.len() as u64, 0));
    assert!(metrics.commits > 0 && metrics.last_commit.is_some());
    assert_eq!(*running.view.health().borrow(), RecorderHealth::Recording);
    running.end().await;
    assert_eq!(all_jobs(&record.results).await, 300);
    assert_eq!(roads.rest(&Address::Results).await, []);
}

#[tokio::test]
async fn a_line_that_is_no_entry_becomes_a_dead_letter_and_its_neighbours_stay() {
    let record = Record::sqlite().await;
    let roads = Roads::open().await;
    let (before, after) = (job(), job());
    let lines = [
        &Entry::Queued(before.clone().into()).line()[..],
        b"{\"is\":\"rubbish\xff",
        &Entry::Queued(after.clone().into()).line(),
    ];
    let pack = Message { body: lines.join(&b'\n').into(), ..Message::default() };
    // The same pack twice: the letter is one all the same.
    roads.put(&Address::Results, vec![pack.clone(), pack]).await;
    let running = self::record(&roads, &record.results, impatient());
    eventually("the packs to be acked", SOON, async || running.view.metrics().packs == 2).await;
    running.end().await;
    let dead = record.results.dead(&DeadFilter::default()).await.unwrap().rows;
    assert_eq!(dead.len(), 1);
    assert!(dead[0].reason.contains("no entry"), "{}", dead[0].reason);
    let kept = record.results.letter(dead[0].job).await.unwrap().unwrap().0;
    assert_eq!(&kept.body[..], b"{\"is\":\"rubbish\xff");
    assert_eq!(all_jobs(&record.results).await, 2);
    assert!(record.results.job(after.id).await.unwrap().is_some());
}

#[tokio::test]
async fn messages_on_the_dead_letter_road_are_buried_with_their_reason() {
    let record = Record::sqlite().await;
    let roads = Roads::open().await;
    let parked = job();
    let mut letter = message::encode(&parked, true);
    for (name, text) in [(header::REASON, "crashed twice"), (header::FROM, "images")] {
        letter.properties.headers.insert(name.into(), HeaderValue::Text(text.into()));
    }
    let rubbish = Message { body: Bytes::from_static(b"\xff"), ..Message::default() };
    roads.put(&Address::Dead, vec![letter.clone(), letter.clone(), rubbish]).await;
    let running = self::record(&roads, &record.results, impatient());
    eventually("the letters to be acked", SOON, async || running.view.metrics().packs == 3).await;
    running.end().await;
    let (message, kept) = record.results.letter(parked.id).await.unwrap().unwrap();
    assert_eq!((message, kept.reason.as_str(), kept.queue.as_str()), (letter, "crashed twice", "images"));
    assert_eq!(record.results.job(parked.id).await.unwrap().unwrap().row.state, State::Dead);
    assert_eq!(record.results.dead(&DeadFilter::default()).await.unwrap().rows.len(), 2);
    assert_eq!(all_jobs(&record.results).await, 1);
}

/// A row whose kind is `poison` is refused by the database itself.
async fn refuses_poison(record: &Record, trigger: &str) {
    record.execute(trigger).await;
    let roads = Roads::open().await;
    let mut entries: Vec<Entry> = (0..300).map(|_| Entry::Queued(job().into())).collect();
    let mut poison = Job { kind: "poison".into(), ..job() };
    entries.insert(123, Entry::Queued(poison.clone().into()));
    poison.id = uuid::Uuid::now_v7();
    entries.insert(40, Entry::Report(report(&poison, State::Succeeded).into()));
    roads.packs(&Address::Results, &entries, entries.len()).await;
    let running = self::record(&roads, &record.results, impatient());
    eventually("the pack to be acked", SOON, async || running.view.metrics().packs == 1).await;
    let metrics = running.view.metrics();
    assert_eq!((metrics.entries, metrics.letters), (300, 2));
    assert_eq!(*running.view.health().borrow(), RecorderHealth::Recording);
    running.end().await;
    assert_eq!(all_jobs(&record.results).await, 300);
    let dead = record.results.dead(&DeadFilter::default()).await.unwrap().rows;
    assert_eq!(dead.len(), 2);
    assert!(dead.iter().all(|letter| letter.reason.contains("poisonous")), "{dead:?}");
}

#[tokio::test]
async fn a_row_that_sqlite_refuses_is_bisected_out() {
    let record = Record::sqlite().await;
    let trigger = "CREATE TRIGGER picky BEFORE INSERT ON jobs WHEN new.kind = 'poison' \
                   BEGIN SELECT RAISE(ABORT, 'poisonous'); END";
    refuses_poison(&record, trigger).await;
}

#[tokio::test]
async fn a_row_that_a_server_refuses_is_bisected_out() {
    let record = Record::server().await;
    let trigger = "CREATE TRIGGER picky BEFORE INSERT ON jobs FOR EACH ROW IF new.kind = 'poison' THEN \
                   SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'poisonous'; END IF";
    refuses_poison(&record, trigger).await;
    record.end().await;
}

#[tokio::test]
async fn what_a_broker_reports_is_recorded_and_gone_from_its_disk() {
    let record = Record::sqlite().await;
    let mut roads = Roads::open().await;
    let reported = lives(200, 9);
    for lines in reported.chunks(40) {
        roads.broker.report(lines.iter().map(Entry::line).collect()).await.unwrap();
    }
    let running = self::record(&roads, &record.results, impatient());
    let all = reported.len() as u64;
    eventually("all to be recorded", SOON, async || running.view.metrics().entries == all).await;
    running.end().await;
    assert_eq!(all_jobs(&record.results).await, 200);
    roads.reopen().await;
    let last = Entry::Queued(job().into());
    roads.broker.report(vec![last.line()]).await.unwrap();
    let rest = roads.rest(&Address::Results).await;
    assert_eq!(entries(&rest), [last], "an acked pack came again");
}
