//! What is late and what was missed is a line in the log, a count and a line of the history.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::{Connection as _, Executor as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{backfill::metrics, steering::ask};
use crate::support::{eventually, eventually_some, process::Spinor};

const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instant_that_fires_late_and_one_that_was_missed_are_told_in_the_log_in_metrics_and_in_the_history() {
    let spinor = Spinor::new("data = 'data'\n[log]\nlevel = 'info'\n");
    let mut process = spinor.start(&["up"]);
    process.says("spinor is up", PATIENCE).await;
    ask(&spinor, &["triggers", "add", "missed", "--every", "1h", "--kind", "noop", "--misfire", "skip"]).await;
    let soon = Timestamp::now() + SignedDuration::from_secs(2);
    ask(&spinor, &["triggers", "add", "late", "--at", &soon.to_string(), "--kind", "noop"]).await;
    process.terminate();
    process.wait(PATIENCE).await;
    // As if nobody had been there for two hours.
    let file = SqliteConnectOptions::new().filename(spinor.join("data/results.db"));
    let mut record = SqliteConnection::connect_with(&file).await.expect("SQLite opens");
    let back = "UPDATE schedules SET last_instant = last_instant - 7200000000, next_instant = next_instant - 7200000000, \
                fire_at = fire_at - 7200000000 WHERE name = 'missed'";
    record.execute(back).await.expect("it is moved");
    record.close().await.expect("SQLite closes");
    eventually("the one moment to be more than a second ago", PATIENCE, async || {
        Timestamp::now() > soon + SignedDuration::from_millis(1100)
    })
    .await;
    let process = spinor.start(&["up"]);
    process.says("Instants of triggers were fired late.", PATIENCE).await;
    process.says("Instants of a trigger were missed.", PATIENCE).await;
    let shown = eventually_some("the late one to have ended", PATIENCE, async || {
        let shown = ask(&spinor, &["triggers", "show", "late"]).await;
        (shown["ticks"][0]["state"] == "succeeded").then_some(shown)
    })
    .await;
    assert!(shown["ticks"][0]["late_ms"].as_i64().is_some_and(|late| late > 1000), "{shown}");
    let shown = ask(&spinor, &["triggers", "show", "missed"]).await;
    assert_eq!((&shown["ticks"][0]["state"], &shown["trigger"]["fired"]), (&json!("skipped"), &json!(0)), "{shown}");
    let metrics = metrics(&spinor).await;
    for line in ["spinor_trigger_fired_total 1", "spinor_trigger_late_total 1"] {
        assert!(metrics.lines().any(|other| other == line), "{line}\n{metrics}");
    }
    let missed = metrics.lines().find_map(|line| line.strip_prefix("spinor_trigger_skipped_total{why=\"missed\"} "));
    assert!(missed.is_some_and(|count| ["1", "2"].contains(&count)), "{metrics}");
}
