//! The embedded broker under faults: killed, torn, flipped, full, wanted twice.
//!
//! A process that dies is a real one: the test binary itself, run again for the same test, which
//! finds itself named in its environment and plays the child.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use spinor_consumers::{
    broker::{
        Address, AnyBroker, Broker, Link, PublishError, Settlement,
        embedded::{Embedded, EmbeddedSettings},
    },
    message::{MAX_BODY, header},
};
use spinor_executors::HeaderValue;
use uuid::Uuid;

use crate::conformance::fixture::{
    PATIENCE, acked, bounded, consume, declare, end, message, must, number, packs, publish, publish_one, take,
    take_many, until_ready, work,
};
use crate::support::{small_disk, soak};

const JOBS: usize = 5000;
const CREDIT: u32 = 20;

/// A scratch directory, gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("spinor-faults-{}", Uuid::now_v7()));
        std::fs::create_dir_all(&dir).expect("a directory");
        Self(dir)
    }

    fn broker(&self) -> PathBuf {
        self.0.join("broker")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: what stays is in the scratch place.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn open(dir: &Path) -> AnyBroker {
    let settings = EmbeddedSettings { dir: dir.to_owned(), ..EmbeddedSettings::default() };
    AnyBroker::Embedded(Embedded::open(settings).await.expect("open"))
}

/// This binary again, as the child of one of the tests below.
fn child(test: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().expect("our own path"))
        .args([&format!("embedded_faults::{test}"), "--exact", "--nocapture"])
        .env("SPINOR_TEST_DIR", dir)
        .stdout(Stdio::null())
        .spawn()
        .expect("spawned")
}

/// Set in a child: where its parent waits for it.
fn dir_of_the_parent() -> Option<PathBuf> {
    std::env::var_os("SPINOR_TEST_DIR").map(Into::into)
}

/// Kills it as kill -9 does, and waits for its end.
fn kill(mut child: Child) {
    child.kill().expect("killed");
    child.wait().expect("waited for");
}

async fn until(what: &str, mut there: impl FnMut() -> bool) {
    let mut beat = tokio::time::interval(Duration::from_millis(10));
    let wait = async {
        while !there() {
            beat.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The numbers of a ledger; a last line that was cut is none.
fn ledger(path: &Path) -> Vec<usize> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| line.parse().expect("a number")).collect()
}

fn note(ledger: &mut File, number: usize) {
    ledger.write_all(format!("{number}\n").as_bytes()).expect("noted");
}

fn new_ledger(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("a ledger")
}

async fn a_child_that_works_until_it_is_killed(dir: PathBuf) {
    let broker = open(&dir.join("broker")).await;
    declare(&broker, &["images"]).await;
    let mut accepted = new_ledger(&dir.join("accepted"));
    let mut executed = new_ledger(&dir.join("executed"));
    let publisher = async {
        for start in (0..JOBS).step_by(50) {
            publish(&broker, "images", start..start + 50).await;
            (start..start + 50).for_each(|number| note(&mut accepted, number));
        }
        std::future::pending::<()>().await;
    };
    let consumer = async {
        let mut subscription = consume(&broker, work("images"), CREDIT).await;
        loop {
            let delivery = take(&mut subscription).await;
            note(&mut executed, number(&delivery));
            let lines = vec![delivery.message.body.clone()];
            drop(broker.settle(delivery, Settlement { lines, ..Settlement::default() }));
        }
    };
    tokio::join!(publisher, consumer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_kill_only_what_was_in_hand_comes_again_and_is_marked() {
    if let Some(dir) = dir_of_the_parent() {
        return a_child_that_works_until_it_is_killed(dir).await;
    }
    for enough in soak::or(vec![1, 700, 2500], (1..JOBS).step_by(50).collect()) {
        bounded(async {
            let scratch = Scratch::new();
            let worker = child("after_a_kill_only_what_was_in_hand_comes_again_and_is_marked", &scratch.0);
            let executed = scratch.0.join("executed");
            until("enough was executed", || ledger(&executed).len() >= enough).await;
            kill(worker);
            let before: BTreeSet<_> = ledger(&executed).into_iter().collect();
            let accepted = ledger(&scratch.0.join("accepted"));
            all_is_there_once(&scratch, &before, &accepted).await;
        })
        .await;
    }
}

async fn all_is_there_once(scratch: &Scratch, before: &BTreeSet<usize>, accepted: &[usize]) {
    let broker = open(&scratch.broker()).await;
    let left = broker.stats(&["images".to_owned()]).await.expect("stats")[0].ready;
    let mut subscription = consume(&broker, work("images"), 500).await;
    let mut after = BTreeMap::new();
    for _ in 0..left {
        let delivery = take(&mut subscription).await;
        let again = after.insert(number(&delivery), delivery.redelivered);
        assert!(again.is_none(), "{} twice", number(&delivery));
        let lines = vec![delivery.message.body.clone()];
        drop(broker.settle(delivery, Settlement { lines, ..Settlement::default() }));
    }
    until_ready(&broker, "images", 0).await;
    let marked = after.values().filter(|redelivered| **redelivered).count();
    assert!(marked <= CREDIT as usize, "{marked} marked with a credit of {CREDIT}");
    for (number, redelivered) in &after {
        assert!(*redelivered || !before.contains(number), "{number} ran before and is not marked");
    }
    let mut results = consume(&broker, Address::Results, 10).await;
    let all: BTreeSet<_> = before.iter().chain(after.keys()).copied().collect();
    let reported = packs(&broker, &mut results, all.len()).await;
    let mut reported: Vec<usize> = reported.iter().flatten().map(|line| line.parse().expect("a number")).collect();
    reported.sort_unstable();
    assert_eq!(reported, all.iter().copied().collect::<Vec<_>>(), "each is reported once");
    assert!(accepted.iter().all(|number| all.contains(number)), "an accepted job is lost");
    broker.close().await;
}

async fn a_child_that_holds_the_directory(dir: PathBuf) {
    let socket = Some(dir.join("spinor.sock"));
    let settings = EmbeddedSettings { dir: dir.join("broker"), socket, ..EmbeddedSettings::default() };
    let broker = Embedded::open(settings).await.expect("open");
    let mut grandchild = Command::new("sleep").arg("600").spawn().expect("spawned");
    std::fs::write(dir.join("grandchild.part"), grandchild.id().to_string()).expect("written");
    std::fs::rename(dir.join("grandchild.part"), dir.join("grandchild")).expect("renamed");
    std::future::pending::<()>().await;
    grandchild.wait().expect("waited for");
    drop(broker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_refused_and_a_killed_ones_children_hold_nothing() {
    if let Some(dir) = dir_of_the_parent() {
        return a_child_that_holds_the_directory(dir).await;
    }
    bounded(async {
        let scratch = Scratch::new();
        let first = child("a_second_process_is_refused_and_a_killed_ones_children_hold_nothing", &scratch.0);
        let grandchild = scratch.0.join("grandchild");
        until("the child is open", || grandchild.exists()).await;
        let settings = EmbeddedSettings { dir: scratch.broker(), ..EmbeddedSettings::default() };
        let refused = Embedded::open(settings).await.map(drop).expect_err("refused").to_string();
        assert!(refused.contains(&format!("process {}", first.id())), "{refused}");
        assert!(refused.contains("spinor.sock"), "{refused}");
        kill(first);
        let opened = open(&scratch.broker()).await;
        let grandchild = std::fs::read_to_string(grandchild).expect("a pid");
        let ended = Command::new("kill").arg(&grandchild).status().expect("kill");
        assert!(ended.success(), "the grandchild was alive while the directory was opened");
        opened.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_flipped_bit_makes_a_dead_letter_with_its_reason() {
    bounded(async {
        let scratch = Scratch::new();
        let broker = open(&scratch.broker()).await;
        declare(&broker, &["images"]).await;
        for number in 0..3 {
            let mut one = message(number);
            one.body = format!("the body of number {number}").into();
            publish_one(&broker, must(work("images"), one)).await.expect("published");
        }
        broker.close().await;
        let file = scratch.broker().join("broker.db");
        let mut bytes = std::fs::read(&file).expect("read");
        let needle = b"the body of number 1";
        let at = bytes.windows(needle.len()).position(|window| window == needle).expect("stored");
        bytes[at] ^= 1;
        std::fs::write(&file, bytes).expect("written");
        let broker = open(&scratch.broker()).await;
        let mut subscription = consume(&broker, work("images"), 5).await;
        let got: Vec<_> = take_many(&mut subscription, 2).await.iter().map(number).collect();
        assert_eq!(got, [0, 2]);
        let mut dead = consume(&broker, Address::Dead, 5).await;
        let letter = take(&mut dead).await;
        assert_eq!(number(&letter), 1);
        assert!(letter.message.properties.text(header::REASON).is_some_and(|why| why.contains("checksum")));
        assert_eq!(letter.message.properties.headers.get(header::FROM), Some(&HeaderValue::Text("images".into())));
        acked(&broker, letter).await;
        until_ready(&broker, "images", 0).await;
    })
    .await;
}

/// A copy of the directory as a power cut leaves it, with a changed end of the log.
fn torn(scratch: &Scratch, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let copy = scratch.0.join(name);
    std::fs::create_dir_all(&copy).expect("a directory");
    std::fs::copy(scratch.broker().join("broker.db"), copy.join("broker.db")).expect("copied");
    let mut log = std::fs::read(scratch.broker().join("broker.db-wal")).expect("read");
    change(&mut log);
    std::fs::write(copy.join("broker.db-wal"), log).expect("written");
    copy
}

#[tokio::test]
async fn a_torn_log_opens_with_everything_before_the_tear() {
    bounded(async {
        let scratch = Scratch::new();
        let broker = open(&scratch.broker()).await;
        declare(&broker, &["images"]).await;
        for number in 0..50 {
            publish(&broker, "images", number..number + 1).await;
        }
        let garbage = torn(&scratch, "garbage", |log| log.extend((0..6000).map(|at| (at % 241) as u8)));
        let cut = torn(&scratch, "cut", |log| log.truncate(log.len() - 100));
        for (dir, wanted) in [(garbage, 50), (cut, 49)] {
            let broker = open(&dir).await;
            until_ready(&broker, "images", wanted).await;
            let mut subscription = consume(&broker, work("images"), 100).await;
            let count = usize::try_from(wanted).expect("small");
            let got: Vec<_> = take_many(&mut subscription, count).await.iter().map(number).collect();
            assert_eq!(got, (0..count).collect::<Vec<_>>());
            broker.close().await;
        }
    })
    .await;
}

#[tokio::test]
async fn more_ready_messages_than_memory_keeps_come_in_order() {
    bounded(async {
        let scratch = Scratch::new();
        let mut broker = open(&scratch.broker()).await;
        declare(&broker, &["images"]).await;
        for start in (0..25_000).step_by(500) {
            publish(&broker, "images", start..start + 500).await;
        }
        for half in [0..12_000, 12_000..25_000] {
            let mut subscription = consume(&broker, work("images"), 300).await;
            let mut receipts = Vec::new();
            for wanted in half.clone() {
                let delivery = take(&mut subscription).await;
                assert_eq!(number(&delivery), wanted);
                receipts.push(broker.settle(delivery, Settlement::default()));
            }
            for receipt in receipts {
                end(receipt).await.expect("settled");
            }
            broker.close().await;
            broker = open(&scratch.broker()).await;
            until_ready(&broker, "images", 25_000 - half.end as u64).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_unread_search_copy_drops_its_oldest_and_the_reports_stay() {
    bounded(async {
        const LINES: usize = 40;
        let scratch = Scratch::new();
        let settings = EmbeddedSettings { dir: scratch.broker(), search: true, ..EmbeddedSettings::default() };
        let broker = AnyBroker::Embedded(Embedded::open(settings).await.expect("open"));
        for number in 0..LINES {
            let line = format!("{}{number}", "0".repeat(1_000_000)).into();
            end(broker.report(vec![line])).await.expect("reported");
        }
        let mut search = consume(&broker, Address::Search, 1).await;
        let mut kept = Vec::new();
        while kept.last() != Some(&(LINES - 1)) {
            let pack = packs(&broker, &mut search, 1).await;
            kept.push(pack[0][0].parse::<usize>().expect("a number"));
        }
        assert!(kept.len() < LINES / 2, "{} of {LINES} are kept", kept.len());
        assert!(kept.is_sorted() && kept[0] == LINES - kept.len(), "not the newest: {kept:?}");
        let mut results = consume(&broker, Address::Results, 1).await;
        assert_eq!(packs(&broker, &mut results, LINES).await.len(), LINES);
        broker.close().await;
    })
    .await;
}

async fn a_child_on_a_small_disk(dir: PathBuf) {
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![1; 44 << 20]).expect("room for the ballast");
    let broker = open(&dir.join("broker")).await;
    declare(&broker, &["images"]).await;
    let mut link = broker.link();
    publish(&broker, "images", 0..10).await;
    let mut subscription = consume(&broker, work("images"), 10).await;
    let hand = take_many(&mut subscription, 10).await;
    let mut stored = 0;
    let refused = loop {
        let mut large = message(100 + stored);
        large.body = vec![b'x'; 1 << 20].into();
        match publish_one(&broker, must(work("images"), large)).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "the disk was never full");
    };
    assert!(matches!(refused, PublishError::Refused(_)), "{refused:?}");
    assert!(matches!(&*link.borrow_and_update(), Link::Blocked { why } if why.contains("full")));
    let settle = |delivery, fill: usize| {
        let lines = vec![vec![b'r'; fill].into()];
        broker.settle(delivery, Settlement { lines, ..Settlement::default() })
    };
    // More than the disk has left: they wait.
    let receipts: Vec<_> = hand.into_iter().map(|delivery| settle(delivery, MAX_BODY / 20)).collect();
    let again = publish_one(&broker, must(work("images"), message(99))).await;
    assert!(matches!(again, Err(PublishError::Refused(_))), "{again:?}");
    assert!(matches!(&*link.borrow_and_update(), Link::Blocked { .. }), "the settles do not wait");
    std::fs::remove_file(&ballast).expect("removed");
    for receipt in receipts {
        end(receipt).await.expect("settled in the end");
    }
    link.wait_for(|link| *link == Link::Up).await.expect("up again");
    publish(&broker, "images", 50..51).await;
    broker.close().await;
    let broker = open(&dir.join("broker")).await;
    until_ready(&broker, "images", stored as u64 + 1).await;
    let mut results = consume(&broker, Address::Results, 10).await;
    assert_eq!(packs(&broker, &mut results, 10).await.iter().map(Vec::len).sum::<usize>(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_and_says_so() {
    if let Some(dir) = dir_of_the_parent() {
        return a_child_on_a_small_disk(dir).await;
    }
    small_disk::run_again("embedded_faults::a_full_disk_loses_nothing_and_says_so", "SPINOR_TEST_DIR", "64m");
}
