//! The recorder while its database stops and comes back, while its disk is full, and beside another
//! recorder.

use std::{collections::BTreeSet, path::PathBuf, str::FromStr, time::Duration};

use spinor_consumers::{
    broker::Address,
    entry::Entry,
    recorder::{RecorderHealth, RecorderSettings},
    results::{Results, ResultsError, ResultsTarget},
};
use spinor_executors::State;
use sqlx::{ConnectOptions, Executor, mysql::MySqlConnectOptions};

use super::{
    Record,
    entries::{Draw, job, life, report},
    loops::{self, SOON, impatient},
};
use crate::support::{
    eventually,
    proxy::CutProxy,
    roads::{self, Roads},
    servers::PrivateServer,
    small_disk, soak,
};

#[tokio::test]
async fn two_recorders_on_one_server_share_jobs_and_lose_nothing_to_deadlocks() {
    let record = Record::server().await;
    let mut draw = Draw::new(11);
    let mut entries: Vec<Entry> = (0..400).flat_map(|_| life(&mut draw)).collect();
    let ends: Vec<_> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Report(report) if report.state.is_final() => Some((report.job, (report.replay, report.state))),
            _ => None,
        })
        .collect();
    let last: std::collections::BTreeMap<_, _> = ends.into_iter().collect();
    // Both get everything, each in its own order: every row is fought for.
    let both = [Roads::open().await, Roads::open().await];
    let mut running = Vec::new();
    let mut packs = 0;
    for roads in &both {
        draw.shuffle(&mut entries);
        packs = roads.packs(&Address::Results, &entries, 23).await;
        let settings = RecorderSettings { batch: 100, ..impatient() };
        running.push(loops::record(roads, &record.again().await, settings));
    }
    let done = async || running.iter().all(|one| one.view.metrics().packs == packs);
    eventually("both to be done", SOON, done).await;
    for one in running {
        assert_eq!(one.view.metrics().letters, 0);
        one.end().await;
    }
    for (id, end) in last {
        let row = record.results.job(id).await.unwrap().unwrap().row;
        assert_eq!((row.replay, row.state), end, "job {id}");
    }
    record.end().await;
}

#[tokio::test]
async fn a_database_that_is_killed_and_comes_back_loses_nothing_that_was_acked_and_then_gets_the_rest() {
    let server = PrivateServer::sql().await;
    let record = Record::server_at(server.url()).await;
    let roads = Roads::open().await;
    let mut entries = Vec::new();
    for _ in 0..soak::or(3000, 20_000) {
        let job = job();
        entries.push(Entry::Queued(job.clone().into()));
        entries.push(Entry::Report(report(&job, State::Succeeded).into()));
    }
    let packs = roads.packs(&Address::Results, &entries, 20).await;
    let settings = RecorderSettings { credit: 8, batch: 50, ..impatient() };
    let running = loops::record(&roads, &record.results, settings.clone());
    eventually("some packs to be acked", SOON, async || running.view.metrics().packs > 20).await;
    server.kill9().await;
    let mut health = running.view.health();
    let waiting = health.wait_for(|health| matches!(health, RecorderHealth::Waiting { .. }));
    drop(tokio::time::timeout(SOON, waiting).await.expect("the recorder says that it waits").unwrap());
    soak::each_second(soak::or(1, 60), async || {}).await;
    // Told to stop while the database is down: what is in hand goes back.
    let view = running.view.clone();
    running.end().await;
    let rest = roads.rest(&Address::Results).await;
    let left = rest.len() as u64;
    assert!(left > 0 && view.metrics().packs + left == packs, "{left} of {packs} left, {:?}", view.metrics());
    let rest: BTreeSet<_> = roads::entries(&rest).iter().map(Entry::line).collect();
    server.restart().await;
    let results = record.again().await;
    for entry in entries.iter().filter(|entry| !rest.contains(&entry.line())) {
        if let Entry::Report(report) = entry {
            assert_eq!(results.ending(report.job).await.unwrap().as_ref(), Some(&**report), "acked before the commit");
        }
    }
    // And once more under a recorder that lives through it.
    let running = loops::record(&roads, &results, settings);
    for _ in 0..soak::or(1, 3) {
        let before = running.view.metrics().packs;
        eventually("it to record again", SOON, async || running.view.metrics().packs > before).await;
        server.kill9().await;
        soak::each_second(soak::or(1, 60), async || {}).await;
        server.restart().await;
    }
    eventually("all packs to be acked", SOON, async || running.view.metrics().packs == left).await;
    assert_eq!(*running.view.health().borrow(), RecorderHealth::Recording);
    running.end().await;
    for entry in entries {
        if let Entry::Report(report) = entry {
            assert_eq!(results.ending(report.job).await.unwrap(), Some(*report));
        }
    }
    results.close().await;
}

/// Entries of jobs that succeeded.
fn successes(count: usize) -> Vec<Entry> {
    let one = |()| {
        let job = job();
        [Entry::Queued(job.clone().into()), Entry::Report(report(&job, State::Succeeded).into())]
    };
    std::iter::repeat_n((), count).flat_map(one).collect()
}

async fn all_recorded(results: &Results, entries: Vec<Entry>) {
    for entry in entries {
        if let Entry::Report(report) = entry {
            assert_eq!(results.ending(report.job).await.unwrap(), Some(*report));
        }
    }
}

#[tokio::test]
async fn a_database_that_is_read_only_is_waited_for_and_no_report_becomes_a_dead_letter() {
    let server = PrivateServer::start("mariadb").await;
    let record = Record::server_at(server.url()).await;
    let ResultsTarget::MySql(root) = record.target().clone() else { panic!("a server") };
    // The administrator may write all the same; who records is an ordinary user.
    record.execute("CREATE USER plain IDENTIFIED BY 'plain'").await;
    let (_, place) = root.split_once('@').expect("a user");
    let (_, database) = place.split_once('/').expect("a database");
    record.execute(&format!("GRANT ALL ON {database}.* TO plain")).await;
    let results = Results::open(&ResultsTarget::MySql(format!("mysql://plain:plain@{place}"))).await.unwrap();
    let roads = Roads::open().await;
    let entries = successes(200);
    record.execute("SET GLOBAL read_only = 1").await;
    let packs = roads.packs(&Address::Results, &entries, 20).await;
    let running = loops::record(&roads, &results, impatient());
    let mut health = running.view.health();
    let waiting =
        health.wait_for(|health| matches!(health, RecorderHealth::Waiting { why } if why.contains("read-only")));
    drop(tokio::time::timeout(SOON, waiting).await.expect("the recorder says that it waits, and why").unwrap());
    assert_eq!(running.view.metrics().packs, 0, "nothing is acked that is not stored");
    record.execute("SET GLOBAL read_only = 0").await;
    eventually("all packs to be acked", SOON, async || running.view.metrics().packs == packs).await;
    assert_eq!(running.view.metrics().letters, 0);
    running.end().await;
    all_recorded(&results, entries).await;
    results.close().await;
}

#[tokio::test]
async fn a_database_whose_writes_are_locked_out_gets_everything_once_it_is_unlocked() {
    let server = PrivateServer::sql().await;
    let record = Record::server_at(server.url()).await;
    let roads = Roads::open().await;
    let entries = successes(200);
    let ResultsTarget::MySql(url) = record.target().clone() else { panic!("a server") };
    let mut backup = MySqlConnectOptions::from_str(&url).unwrap().connect().await.unwrap();
    backup.execute("FLUSH TABLES WITH READ LOCK").await.unwrap();
    let packs = roads.packs(&Address::Results, &entries, 20).await;
    let running = loops::record(&roads, &record.results, impatient());
    // A backup may take its time: beyond every bound of ours on a statement.
    let mut health = running.view.health();
    let waiting = health.wait_for(|health| matches!(health, RecorderHealth::Waiting { .. }));
    drop(tokio::time::timeout(SOON, waiting).await.expect("the recorder says that it waits").unwrap());
    assert_eq!(running.view.metrics().packs, 0, "nothing is acked that is not stored");
    backup.execute("UNLOCK TABLES").await.unwrap();
    eventually("all packs to be acked", SOON, async || running.view.metrics().packs == packs).await;
    assert_eq!(running.view.metrics().letters, 0);
    running.end().await;
    all_recorded(&record.results, entries).await;
    record.end().await;
}

#[tokio::test]
async fn a_database_behind_a_slow_link_gets_everything() {
    let record = Record::server().await;
    let ResultsTarget::MySql(url) = record.target().clone() else { panic!("a server") };
    let (_, place) = url.rsplit_once('@').expect("a user");
    let proxy = CutProxy::start(place.split('/').next().expect("a host")).await;
    let results = Results::open(&ResultsTarget::MySql(proxy.url(&url))).await.unwrap();
    let roads = Roads::open().await;
    let entries = successes(200);
    proxy.slow(Duration::from_millis(150));
    let packs = roads.packs(&Address::Results, &entries, 20).await;
    let running = loops::record(&roads, &results, RecorderSettings { batch: 50, ..impatient() });
    eventually("all packs to be acked", SOON, async || running.view.metrics().packs == packs).await;
    assert_eq!(running.view.metrics().letters, 0);
    running.end().await;
    all_recorded(&record.results, entries).await;
    results.close().await;
    record.end().await;
}

/// Set in the child that has a small disk: where it is mounted.
const SMALL_DISK: &str = "SPINOR_TEST_SMALL_DISK";

#[tokio::test]
async fn a_full_disk_is_waited_for_and_what_was_refused_is_stored_afterwards() {
    if let Some(disk) = std::env::var_os(SMALL_DISK) {
        return on_a_small_disk(disk.into()).await;
    }
    small_disk::run_again(
        "recorder::faults::a_full_disk_is_waited_for_and_what_was_refused_is_stored_afterwards",
        SMALL_DISK,
        "16m",
    );
}

async fn on_a_small_disk(disk: PathBuf) {
    let results = Results::open(&ResultsTarget::Sqlite(disk.join("results.db"))).await.unwrap();
    let ballast = disk.join("ballast");
    std::fs::write(&ballast, vec![1; 12 << 20]).unwrap();
    let mut stored = Vec::new();
    let refused = loop {
        let jobs: Vec<_> = (0..500).map(|_| job()).collect();
        let entries: Vec<_> = jobs.iter().map(|job| Entry::Report(Box::new(report(job, State::Succeeded)))).collect();
        match results.store(&entries).await {
            Ok(()) => stored.extend(jobs),
            Err(error) => {
                assert!(matches!(error, ResultsError::Unavailable(_)), "{error}");
                stored.extend(jobs);
                break entries;
            }
        }
        assert!(stored.len() < 100_000, "the disk was never full");
    };
    // As the recorder does: again and again, and each time it is full.
    for _ in 0..3 {
        assert!(matches!(results.store(&refused).await, Err(ResultsError::Unavailable(_))));
    }
    std::fs::remove_file(&ballast).unwrap();
    results.store(&refused).await.expect("stored once there is room");
    for job in stored {
        assert_eq!(results.job(job.id).await.unwrap().unwrap().row.state, State::Succeeded);
    }
}
