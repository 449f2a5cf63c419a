//! The states that the alerts are about, each a real one of real processes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lapin::{Connection, ConnectionProperties, options::BasicPublishOptions};
use spinor_consumers::{
    entry::Entry,
    results::{Results, ResultsTarget},
};
use spinor_executors::{Job, Json};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::net::UnixStream;

use super::{
    metrics_in,
    promtool::{Scrape, assert_firing},
    text,
};
use crate::support::{eventually, eventually_some, front::exchange, process::Spinor, site::Site};

const SOON: Duration = Duration::from_secs(60);

/// Awaits a sample with such a value, and returns all.
async fn scrape_with(data: &std::path::Path, sample: &str, fits: impl Fn(f64) -> bool) -> Scrape {
    eventually_some(sample, SOON, async || {
        let scrape = Scrape::of(data).await;
        scrape.value(sample).is_some_and(&fits).then_some(scrape)
    })
    .await
}

async fn answers(data: &std::path::Path) {
    let socket = data.join("spinor.sock");
    eventually("it to answer", SOON, async || UnixStream::connect(&socket).await.is_ok()).await;
}

/// Ten jobs at once.
async fn publish(data: &std::path::Path) {
    let body = format!("[{}]", ["{\"kind\":\"noop\"}"; 10].join(","));
    let length = body.len();
    let head =
        "POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    let stream = UnixStream::connect(data.join("spinor.sock")).await.expect("it listens");
    let request = format!("{head}Content-Length: {length}\r\n\r\n{body}");
    let (status, answer) = exchange(stream, request.as_bytes()).await;
    assert!(status < 300, "{answer}");
}

async fn change(database: &std::path::Path, sql: &'static str) {
    let options = SqliteConnectOptions::new().filename(database).busy_timeout(SOON);
    let mut connection = SqliteConnection::connect_with(&options).await.expect("it opens");
    sqlx::query(sql).execute(&mut connection).await.expect("it is changed");
    connection.close().await.expect("it closes");
}

#[tokio::test]
async fn what_goes_wrong_on_one_machine_raises_its_alert_and_a_healthy_spinor_raises_none() {
    let config = "data = 'data'\n[consumer]\nslots = 2\nresults_bound = '8KiB'\n[triggers.beat]\npaused = true\n\
                  every = '1s'\nmisfire = 'skip'\noverlap = 'allow'\njob.kind = 'noop'\njob.queue = 'default'\n";
    let spinor = Spinor::new(config);
    let data = spinor.join("data");
    // A job that was published two hours ago, and waits.
    std::fs::create_dir(&data).unwrap();
    let results = Results::open(&ResultsTarget::Sqlite(data.join("results.db"))).await.unwrap();
    let mut old = Job::new("noop", "default", Json::new("{}").unwrap());
    old.created = Timestamp::now().checked_sub(SignedDuration::from_hours(2)).unwrap();
    results.store(&[Entry::Queued(Box::new(old.clone()))]).await.unwrap();
    results.close().await;

    let mut up = spinor.start(&["up"]);
    answers(&data).await;
    spinor.run(&["publish", "noop", "--wait"]).await.expect_success();
    spinor.run(&["publish", "command", "--wait", "--", "false"]).await;
    let failed = "spinor_jobs_ended_total{kind=\"command\",state=\"failed\"}";
    let waits = "spinor_queue_oldest_seconds{queue=\"default\"}";
    let mut first = scrape_with(&data, failed, |value| value >= 1.0).await;
    assert_firing(&spinor, &first, &first, &["SpinorJobsWaitLong"]).await;
    // Everything but that job is as it should be.
    first.0.remove(waits).expect("it waits");
    assert_firing(&spinor, &first, &first, &[]).await;
    let told = metrics_in(&format!("{}{}", text("deploy/prometheus/alerts.yml"), text("deploy/grafana/spinor.json")));

    // Jobs fail, and some are published to a queue that is not there.
    let lines = "{\"kind\":\"command\",\"args\":{\"argv\":[\"false\"]}}\n".repeat(12);
    std::fs::write(spinor.join("jobs"), &lines).unwrap();
    spinor.run(&["publish", "--batch", "jobs"]).await.expect_success();
    std::fs::write(spinor.join("jobs"), lines.replace("{\"kind", "{\"queue\":\"nowhere\",\"kind")).unwrap();
    assert_ne!(spinor.run(&["publish", "--batch", "jobs"]).await.code(), 0);
    let now = scrape_with(&data, failed, |value| value >= 13.0).await;
    assert_firing(&spinor, &first, &now, &["SpinorJobsFail", "SpinorPublishesRefused"]).await;

    spinor.run(&["queues", "pause", "default"]).await.expect_success();
    let paused = "spinor_queue_paused{queue=\"default\"}";
    let now = scrape_with(&data, paused, |value| value == 1.0).await;
    assert_firing(&spinor, &first, &now, &["SpinorQueuePaused"]).await;
    spinor.run(&["consumers", "scale", "default", "--replicas", "0"]).await.expect_success();
    spinor.run(&["queues", "resume", "default"]).await.expect_success();
    scrape_with(&data, "spinor_queue_consumers{queue=\"default\"}", |value| value == 0.0).await;
    spinor.run(&["publish", "noop"]).await.expect_success();
    let now = scrape_with(&data, "spinor_queue_ready{queue=\"default\"}", |value| value == 1.0).await;
    assert_firing(&spinor, &first, &now, &["SpinorQueueUnserved"]).await;

    // Each metric in rules and dashboard is one that is told, most of them by now.
    let known: std::collections::BTreeSet<&str> = now.names().collect();
    let elsewhere = ["spinor_trigger_skipped_total", "spinor_trigger_late_total"];
    for metric in &told {
        assert!(known.contains(metric.as_str()) || elsewhere.contains(&metric.as_str()), "{metric}: {known:?}");
    }

    // The record takes nothing.
    change(&data.join("results.db"), "ALTER TABLE jobs RENAME TO away").await;
    publish(&data).await;
    scrape_with(&data, "spinor_recorder_up", |value| value == 0.0).await;
    // A recorder holds a hundred packs; what comes after them waits on the broker.
    for _ in 0..200 {
        publish(&data).await;
    }
    let now = scrape_with(&data, "spinor_results_backlog_bytes", |value| value > 8192.0).await;
    assert_firing(&spinor, &first, &now, &["SpinorRecorderDown", "SpinorReportsPileUp"]).await;
    change(&data.join("results.db"), "ALTER TABLE away RENAME TO jobs").await;
    scrape_with(&data, "spinor_recorder_up", |value| value == 1.0).await;

    // The directory of the broker is gone.
    std::fs::rename(data.join("broker"), spinor.join("aside")).unwrap();
    let now = scrape_with(&data, "spinor_broker_link_up", |value| value == 0.0).await;
    assert_firing(&spinor, &first, &now, &["SpinorBrokerLinkDown"]).await;
    std::fs::rename(spinor.join("aside"), data.join("broker")).unwrap();
    scrape_with(&data, "spinor_broker_link_up", |value| value == 1.0).await;

    // Nobody was there to fire a trigger.
    spinor.run(&["triggers", "resume", "beat"]).await.expect_success();
    let before = scrape_with(&data, "spinor_trigger_fired_total", |value| value >= 1.0).await;
    let missed = "spinor_trigger_skipped_total{why=\"missed\"}";
    let from = before.value(missed).expect("it is told");
    up.kill9();
    up.wait(SOON).await;
    let back = Timestamp::now() + SignedDuration::from_secs(3);
    eventually("instants to pass with nobody there", SOON, async || Timestamp::now() > back).await;
    let mut up = spinor.start(&["up"]);
    answers(&data).await;
    let now = scrape_with(&data, missed, |value| value > from).await;
    up.terminate();
    up.wait(SOON).await;
    assert_firing(&spinor, &before, &now, &["SpinorTriggerMissed"]).await;

    // And nobody is there at all.
    assert_firing(&spinor, &Scrape::default(), &Scrape::default(), &["SpinorAbsent"]).await;
}

#[tokio::test]
async fn what_goes_wrong_between_processes_raises_its_alert() {
    let site = Site::new().await;
    let spinor = Spinor::new(&format!("{}[consumer]\nqueues = ['one']\nkinds = ['noop']\n", site.toml()));
    let data = spinor.join("a");
    let all = spinor.start(&["up", "--only", "api,recorder", "--data", "a"]);
    let consumer = spinor.start(&["up", "--only", "consumer", "--data", "b"]);
    let running = "spinor_group_consumers{group=\"default\",state=\"running\"}";
    answers(&data).await;
    let first = scrape_with(&data, running, |value| value == 1.0).await;
    assert_firing(&spinor, &first, &first, &["SpinorPartMissing", "SpinorNoTriggerLeader"]).await;

    let connection = Connection::connect(&site.broker, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = format!("{}.jobs.one", site.prefix);
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), queue.as_str().into(), options, b"rubbish", Default::default()).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
    let now = scrape_with(&data, "spinor_recorder_dead_letters_total", |value| value >= 1.0).await;
    assert_firing(&spinor, &first, &now, &["SpinorDeadLetters"]).await;

    spinor.run(&["--data", "a", "consumers", "scale", "default", "--replicas", "3"]).await.expect_success();
    consumer.freeze();
    // Nobody waits a minute for it: its last beat is made older, each time it is looked at.
    let silent = "spinor_group_consumers{group=\"default\",state=\"silent\"}";
    let mut sql = site.sql().await;
    let aged = sqlx::query("UPDATE state_presence SET at = at - 30000000").execute(&mut sql).await.unwrap();
    assert_eq!(aged.rows_affected(), 1);
    let now = scrape_with(&data, silent, |value| value == 1.0).await;
    assert_firing(&spinor, &first, &now, &["SpinorConsumersSilent", "SpinorTooFewConsumers"]).await;
    consumer.thaw();
    drop((all, consumer));
}
