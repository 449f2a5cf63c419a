//! The recorder's loops over a broker: packs to rows, acks after the commit, bad lines to dead.

use std::time::Duration;

use bytes::Bytes;
use spinor_consumers::{
    broker::{
        Address, Broker, Settlement,
        embedded::{Embedded, EmbeddedSettings},
    },
    entry::Entry,
    message::{self, Message, header},
    recorder::{Recorder, RecorderHealth, RecorderSettings, RecorderView},
    results::{JobFilter, Results},
};
use spinor_executors::{HeaderValue, Job, State};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Record,
    entries::{Draw, job, life, report},
};
use crate::support::{eventually, memory_broker::MemoryBroker, scratch::Scratch};

pub const SOON: Duration = Duration::from_secs(60);

/// A recorder that runs; ended by [`Running::end`].
pub struct Running {
    pub view: RecorderView,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    pub fn start(broker: &MemoryBroker, results: &Results, settings: RecorderSettings) -> Self {
        let recorder = Recorder::new(broker.clone(), results.clone(), settings);
        let (view, shutdown) = (recorder.view(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let told = shutdown.clone();
        tasks.spawn(async move { recorder.run(told).await.expect("the recorder ends because it was told to") });
        Self { view, shutdown, tasks }
    }

    pub async fn end(mut self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(SOON, self.tasks.join_next()).await.expect("the recorder ends when told to");
        ended.expect("it was started").expect("it does not panic");
    }
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
    let mut filter = JobFilter { limit: 1000, ..JobFilter::default() };
    let mut count = 0;
    loop {
        let page = results.jobs(&filter).await.unwrap();
        count += page.rows.len();
        filter.cursor = page.next;
        if filter.cursor.is_none() {
            return count;
        }
    }
}

#[tokio::test]
async fn every_pack_is_recorded_and_acked_and_a_recorder_told_to_stop_commits_what_it_holds() {
    let record = Record::sqlite().await;
    let broker = MemoryBroker::default();
    let entries = lives(300, 3);
    for pack in entries.chunks(7) {
        broker.pack(&Address::Results, pack);
    }
    let running = Running::start(&broker, &record.results, impatient());
    eventually("all packs to be acked", SOON, async || broker.left() == 0).await;
    let metrics = running.view.metrics();
    assert_eq!((metrics.entries, metrics.letters), (entries.len() as u64, 0));
    assert!(metrics.commits > 0 && metrics.last_commit.is_some());
    assert_eq!(*running.view.health().borrow(), RecorderHealth::Recording);
    running.end().await;
    assert_eq!(all_jobs(&record.results).await, 300);
}

#[tokio::test]
async fn a_line_that_is_no_entry_becomes_a_dead_letter_and_its_neighbours_stay() {
    let record = Record::sqlite().await;
    let broker = MemoryBroker::default();
    let (before, after) = (job(), job());
    let lines = [
        &Entry::Queued(before.clone().into()).line()[..],
        b"{\"is\":\"rubbish\xff",
        &Entry::Queued(after.clone().into()).line(),
    ];
    let pack = Message { body: lines.join(&b'\n').into(), ..Message::default() };
    // The same pack twice: the letter is one all the same.
    broker.put(&Address::Results, pack.clone());
    broker.put(&Address::Results, pack);
    let running = Running::start(&broker, &record.results, impatient());
    eventually("the packs to be acked", SOON, async || broker.acked() == 2).await;
    running.end().await;
    let dead = record.results.dead(10, None).await.unwrap().rows;
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
    let broker = MemoryBroker::default();
    let parked = job();
    let mut letter = message::encode(&parked, true);
    for (name, text) in [(header::REASON, "crashed twice"), (header::FROM, "images")] {
        letter.properties.headers.insert(name.into(), HeaderValue::Text(text.into()));
    }
    let rubbish = Message { body: Bytes::from_static(b"\xff"), ..Message::default() };
    broker.put(&Address::Dead, letter.clone());
    broker.put(&Address::Dead, letter.clone());
    broker.put(&Address::Dead, rubbish);
    let running = Running::start(&broker, &record.results, impatient());
    eventually("the letters to be acked", SOON, async || broker.acked() == 3).await;
    running.end().await;
    let (message, kept) = record.results.letter(parked.id).await.unwrap().unwrap();
    assert_eq!((message, kept.reason.as_str(), kept.queue.as_str()), (letter, "crashed twice", "images"));
    assert_eq!(record.results.job(parked.id).await.unwrap().unwrap().row.state, State::Dead);
    assert_eq!(record.results.dead(10, None).await.unwrap().rows.len(), 2);
    assert_eq!(all_jobs(&record.results).await, 1);
}

/// A row whose kind is `poison` is refused by the database itself.
async fn refuses_poison(record: &Record, trigger: &str) {
    record.execute(trigger).await;
    let broker = MemoryBroker::default();
    let mut entries: Vec<Entry> = (0..300).map(|_| Entry::Queued(job().into())).collect();
    let mut poison = Job { kind: "poison".into(), ..job() };
    entries.insert(123, Entry::Queued(poison.clone().into()));
    poison.id = uuid::Uuid::now_v7();
    entries.insert(40, Entry::Report(report(&poison, State::Succeeded).into()));
    broker.pack(&Address::Results, &entries);
    let running = Running::start(&broker, &record.results, impatient());
    eventually("the pack to be acked", SOON, async || broker.acked() == 1).await;
    let metrics = running.view.metrics();
    assert_eq!((metrics.entries, metrics.letters), (300, 2));
    assert_eq!(*running.view.health().borrow(), RecorderHealth::Recording);
    running.end().await;
    assert_eq!(all_jobs(&record.results).await, 300);
    let dead = record.results.dead(10, None).await.unwrap().rows;
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
async fn what_the_embedded_broker_reports_is_recorded_and_gone_from_its_queue() {
    let record = Record::sqlite().await;
    let scratch = Scratch::new("broker");
    let settings = EmbeddedSettings { dir: scratch.join("broker"), ..EmbeddedSettings::default() };
    let broker = Embedded::open(settings.clone()).await.unwrap();
    broker.declare(&[]).await.unwrap();
    let entries = lives(200, 9);
    for lines in entries.chunks(40) {
        broker.report(lines.iter().map(Entry::line).collect()).await.unwrap();
    }
    let recorder = Recorder::new(broker.clone(), record.results.clone(), impatient());
    let (view, shutdown) = (recorder.view(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    let told = shutdown.clone();
    tasks.spawn(async move { recorder.run(told).await });
    eventually("all to be recorded", SOON, async || view.metrics().entries == entries.len() as u64).await;
    shutdown.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(all_jobs(&record.results).await, 200);
    broker.close().await;
    let broker = Embedded::open(settings.clone()).await.unwrap();
    let last = Entry::Queued(job().into());
    broker.report(vec![last.line()]).await.unwrap();
    let mut left = broker.consume(&Address::Results, 1).await.unwrap();
    let first = left.next().await.unwrap();
    assert_eq!(serde_json::from_slice::<Entry>(&first.message.body).unwrap(), last, "an acked pack came again");
    drop(broker.settle(first, Settlement::default()));
    broker.close().await;
}
