//! A span that is past, fired on request; what is counted of instants, and who fires, as people are told.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::steering::{ask, refused};
use crate::support::{eventually, process::Spinor};

const PATIENCE: Duration = Duration::from_secs(90);

pub async fn metrics(spinor: &Spinor) -> String {
    let mut stream = UnixStream::connect(spinor.join("data/spinor.sock")).await.expect("the socket");
    let ask = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(ask).await.expect("it is sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_fires_what_did_not_fire_once_and_one_at_a_time_where_jobs_must_not_overlap() {
    let spinor = Spinor::new("data = 'data'\n[consumer]\nslots = 4\n");
    let process = spinor.start(&["up"]);
    process.says("spinor is up", PATIENCE).await;
    let hour = Timestamp::now().as_second() / 3600;
    let at = |hours: i64| Timestamp::from_second((hour - hours) * 3600).expect("a moment").to_string();
    for overlap in ["allow", "skip"] {
        let blackout = [format!("{}/{}", &at(3)[..16], &at(2)[..16])];
        let add = ["triggers", "add", overlap, "--every", "1h", "--kind", "noop", "--overlap", overlap, "--blackout"];
        ask(&spinor, &[&add[..], &[&blackout[0]]].concat()).await;
        let (from, to) = (at(4), at(1));
        let backfill = ["triggers", "backfill", overlap, "--from", &from, "--to", &to];
        let dry = [&backfill[..], &["--dry-run"]].concat();
        let listed = ask(&spinor, &dry).await;
        let done = |listed: &Value| -> Vec<String> {
            let all = listed["instants"].as_array().expect("a list");
            all.iter().map(|one| one["done"].as_str().expect("a word").to_owned()).collect()
        };
        assert_eq!(done(&listed), ["fires", "blackout", "fires", "fires"], "{listed}");
        let told = ask(&spinor, &backfill).await;
        assert_eq!(told, json!({"fired": 3, "fired_before": 0, "blackout": 1}));
        let told = ask(&spinor, &backfill).await;
        assert_eq!(told, json!({"fired": 0, "fired_before": 3, "blackout": 1}));
        assert_eq!(done(&ask(&spinor, &dry).await), ["fired_before", "blackout", "fired_before", "fired_before"]);
        let jobs = listed["instants"].as_array().expect("a list");
        let jobs = jobs.iter().filter(|one| one["done"] == "fires");
        for one in jobs {
            let job = one["job"].as_str().expect("an id");
            eventually("the job of the instant to have succeeded", PATIENCE, async || {
                let done = spinor.run(&["jobs", "show", job, "--json"]).await;
                let record: Value = serde_json::from_str(&done.stdout).unwrap_or_default();
                record["state"] == "succeeded" && record["job"]["created"] == one["instant"]
            })
            .await;
        }
    }
    let future = (Timestamp::now() + SignedDuration::from_hours(5)).to_string();
    let (past, now) = (at(5), at(0));
    refused(&spinor, &["triggers", "backfill", "skip", "--from", &past, "--to", &future], 1, "is to come").await;
    refused(&spinor, &["triggers", "backfill", "skip", "--from", &now, "--to", &past], 2, "is before `from`").await;
    let add = ["triggers", "add", "after", "--every", "1h", "--from", "last-end", "--kind", "noop"];
    ask(&spinor, &add).await;
    refused(&spinor, &["triggers", "backfill", "after", "--from", &past], 1, "no instants of its own").await;

    let leader = ask(&spinor, &["status"]).await["leader"].clone();
    assert!(leader["alive"] == true && leader["since"].is_string(), "{leader}");
    let metrics = metrics(&spinor).await;
    for line in ["spinor_trigger_fired_total 6", "spinor_trigger_late_total 0", "spinor_trigger_leader_up 1"] {
        assert!(metrics.lines().any(|other| other == line), "{line}\n{metrics}");
    }
    assert!(metrics.contains("spinor_trigger_skipped_total{why=\"missed\"} 0"), "{metrics}");
    let text = spinor.run(&["status"]).await.expect_success().stdout;
    assert!(text.contains("triggers") && text.contains("fired by"), "{text}");
    let edit = ["triggers", "edit", "skip", "--overlap", "queue", "--why", "it shall wait"];
    ask(&spinor, &edit).await;
    let text = spinor.run(&["triggers", "show", "skip"]).await.expect_success().stdout;
    assert!(text.contains("edited: overlap skip -> queue") && text.contains("it shall wait"), "{text}");
    ask(&spinor, &["triggers", "rm", "after"]).await;
    refused(&spinor, &["triggers", "show", "after"], 2, "removed it at").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_makes_a_run_of_each_instant_knows_what_fired_beyond_the_history_and_what_is_too_late_expires() {
    let spinor = Spinor::new("data = 'data'\n[consumer]\nslots = 4\n");
    let process = spinor.start(&["up"]);
    process.says("spinor is up", PATIENCE).await;
    let hour = Timestamp::now().as_second() / 3600;
    let at = |hours: i64| Timestamp::from_second((hour - hours) * 3600).expect("a moment").to_string();
    let (from, to) = (at(2), at(1));
    let list = "[\"a\", \"b\"]";
    let add = ["triggers", "add", "runs", "--every", "1h", "--overlap", "allow", "--kind", "noop", "--each", list];
    ask(&spinor, &add).await;
    ask(&spinor, &["triggers", "add", "jobs", "--every", "1h", "--overlap", "allow", "--kind", "noop"]).await;
    for name in ["runs", "jobs"] {
        let backfill = ["triggers", "backfill", name, "--from", &from, "--to", &to];
        assert_eq!(ask(&spinor, &backfill).await, json!({"fired": 2, "fired_before": 0, "blackout": 0}));
        eventually("both instants to have ended", PATIENCE, async || {
            let shown = ask(&spinor, &["triggers", "show", name]).await;
            let ticks = shown["ticks"].as_array().expect("ticks");
            ticks.len() == 2 && ticks.iter().all(|tick| tick["state"] == "succeeded")
        })
        .await;
    }
    for id in ask(&spinor, &["triggers", "show", "jobs"]).await["ticks"].as_array().expect("ticks") {
        ask(&spinor, &["jobs", "wait", id["job"].as_str().expect("an id")]).await;
    }
    let file = SqliteConnectOptions::new().filename(spinor.join("data/results.db")).busy_timeout(PATIENCE);
    let mut record = SqliteConnection::connect_with(&file).await.expect("SQLite opens");
    record.execute("DELETE FROM ticks").await.expect("the history is forgotten");
    for name in ["runs", "jobs"] {
        let backfill = ["triggers", "backfill", name, "--from", &from, "--to", &to];
        assert_eq!(ask(&spinor, &backfill).await, json!({"fired": 0, "fired_before": 2, "blackout": 0}), "{name}");
    }

    let job = r#"{"kind": "noop", "expires": "1m"}"#;
    ask(&spinor, &["triggers", "add", "late", "--every", "1h", "--job", job, "--each", list]).await;
    ask(&spinor, &["triggers", "backfill", "late", "--from", &to, "--to", &to]).await;
    eventually("the jobs of an instant that is long past to have expired", PATIENCE, async || {
        let shown = ask(&spinor, &["triggers", "show", "late"]).await;
        shown["ticks"][0]["state"] == "failed" && shown["trigger"]["previous"]["value"] == json!({"expired": 2})
    })
    .await;
}
