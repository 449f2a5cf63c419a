//! All that match, at a rate: counted, followed, stopped, and gone on with after `kill -9`.

use std::collections::BTreeMap;

use spinor::{
    api::{FailureQuery, NewReplays, NewUnique},
    client::Client,
};
use spinor_consumers::results::{JobFilter, ReplayState};
use spinor_executors::State;
use uuid::Uuid;

use super::{PATIENCE, ask, drained, ended, everything, installation, needy, publish};
use crate::support::{
    eventually, eventually_some,
    process::{Process, Spinor},
    site::Site,
};

const JOBS: usize = 30;

/// Publishes jobs that fail, awaits their ends, and gives their one fingerprint.
async fn fail_all(client: &Client, jobs: usize) -> (Vec<Uuid>, String) {
    let batch: Vec<_> = (0..jobs).map(|_| needy()).collect();
    let answer = client.publish_batch(&batch).await.unwrap();
    let ids: Vec<Uuid> = answer.jobs.into_iter().map(|item| item.id).collect();
    let group = eventually_some("all to have failed", PATIENCE, async || {
        let failures = client.failures(&FailureQuery::default()).await.ok()?;
        failures.groups.into_iter().find(|group| group.count == jobs as u64)
    })
    .await;
    assert!(group.error.starts_with("exit code 3: no answer to "), "{group:?}");
    (ids, group.fingerprint)
}

/// How many lines of the ledger each job has.
fn ledger(spinor: &Spinor) -> BTreeMap<Uuid, usize> {
    let text = std::fs::read_to_string(spinor.join("ledger")).unwrap_or_default();
    let mut lines = BTreeMap::new();
    for line in text.lines() {
        *lines.entry(line.split(' ').next().unwrap().parse().unwrap()).or_default() += 1;
    }
    lines
}

/// Each job has failed once and succeeded once, as its first replay, and ran no more often than the
/// record says.
async fn all_is_told_once(spinor: &Spinor, client: &Client, ids: &[Uuid]) {
    let lines = ledger(spinor);
    assert_eq!(lines.len(), ids.len());
    for id in ids {
        let record = client.job(*id).await.unwrap();
        assert_eq!((record.row.state, record.row.replay), (State::Succeeded, 1), "{id}");
        let told: Vec<_> =
            record.attempts.iter().map(|it| (it.report.replay, it.report.attempt, it.report.state)).collect();
        assert_eq!(told, [(0, 1, State::Failed), (1, 1, State::Succeeded)], "{id}");
        assert!(lines[id] == 1 || record.attempts[1].report.maybe_rerun, "{id} ran {} times", lines[id]);
    }
}

/// Starts all anew at a rate, kills who works on it in the middle, starts it again, and awaits the end.
async fn killed_in_the_middle(spinor: &Spinor, mut process: Process, restart: &[&str], client: &Client) -> Process {
    let (ids, fingerprint) = fail_all(client, JOBS).await;
    std::fs::write(spinor.join("mended"), "").unwrap();
    let rate = Some("10/1s".to_owned());
    let new = NewReplays { fingerprint: Some(fingerprint.clone()), rate, ..NewReplays::default() };
    assert_eq!(client.count_replays(&new).await.unwrap().total, Some(JOBS as u64));
    let ordered = client.order_replay(&new).await.unwrap();
    eventually("some to have started anew", PATIENCE, async || ledger(spinor).len() >= JOBS / 3).await;
    process.kill9();
    process.wait(PATIENCE).await;
    assert!(ledger(spinor).len() < JOBS, "it was over before it was killed");
    let process = spinor.start(restart);
    process.says("spinor is up", PATIENCE).await;
    let row = eventually_some("the replay to be done", PATIENCE, async || {
        client.replay_row(ordered.row.id).await.ok().filter(|row| row.state != ReplayState::Running)
    })
    .await;
    assert_eq!((row.state, row.done, row.failed, row.error), (ReplayState::Done, JOBS as u64, 0, None));
    eventually("all to have succeeded", PATIENCE, async || {
        let filter = JobFilter { state: Some(State::Succeeded), limit: 1000, ..JobFilter::default() };
        client.jobs(&filter).await.is_ok_and(|page| page.rows.len() == JOBS)
    })
    .await;
    all_is_told_once(spinor, client, &ids).await;
    assert!(client.failures(&FailureQuery::default()).await.unwrap().groups.is_empty());
    process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_failed_jobs_start_anew_once_each_though_the_one_process_is_killed_in_the_middle() {
    let spinor = installation("");
    let (up, client) = everything(&spinor).await;
    let up = killed_in_the_middle(&spinor, up, &["up"], &client).await;
    drained(up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_failed_jobs_on_rabbitmq_start_anew_once_each_though_the_recorder_is_killed_in_the_middle() {
    let site = Site::new().await;
    let lines = "[consumer]\nqueues = ['default']\nkinds = ['command']\nslots = 4\n";
    let spinor = Spinor::new(&format!("{}data = 'data'\n{lines}", site.toml()));
    let recorder = ["up", "--only", "recorder,api"];
    let process = spinor.start(&recorder);
    let consumer = spinor.start(&["up", "--only", "consumer", "--data", "consumer"]);
    for process in [&process, &consumer] {
        process.says("spinor is up", PATIENCE).await;
    }
    let client = super::client(&spinor);
    let process = killed_in_the_middle(&spinor, process, &recorder, &client).await;
    drained(consumer).await;
    drained(process).await;
    assert_eq!(site.ready("jobs.default").await, 0);
    assert_eq!(site.ready("dead").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_counts_follows_and_stops_a_replay_and_a_job_that_fails_again_is_not_taken_twice() {
    let spinor = installation("");
    let (up, client) = everything(&spinor).await;
    let (ids, fingerprint) = fail_all(&client, 3).await;
    let counted =
        spinor.run(&["failures", "replay", "--fingerprint", &fingerprint, "--dry-run"]).await.expect_success();
    assert_eq!(counted.stdout, "3 jobs would start anew\n");
    // Not mended: each fails again, as its first replay.
    let done = ask(&spinor, &["failures", "replay", "--kind", "command", "--since", "1h"]).await;
    assert_eq!((&done["state"], &done["done"], &done["failed"]), (&"done".into(), &3.into(), &0.into()), "{done}");
    for id in &ids {
        ended(&client, *id, "failed", 1).await;
    }
    let shown = ask(&spinor, &["failures", "show", &fingerprint]).await;
    assert_eq!((&shown["count"], shown["jobs"].as_array().map(Vec::len)), (&3.into(), Some(3)));
    // One a day: the first goes at once, the others are left when it is stopped.
    let slow = spinor.start(&["failures", "replay", "--all", "--rate", "1/1d", "--json"]);
    let running = eventually_some("the first to start anew", PATIENCE, async || {
        let rows = client.replays(1, None).await.ok()?.rows;
        rows.into_iter().find(|row| row.state == ReplayState::Running && row.done == 1)
    })
    .await;
    assert_eq!((running.total, running.rate.map(|rate| rate.jobs)), (Some(3), Some(1)));
    let listed = spinor.run(&["failures", "replays"]).await.expect_success();
    assert!(listed.stdout.contains(&running.id.to_string()) && listed.stdout.contains("running"), "{listed:?}");
    spinor.run(&["failures", "stop", &running.id.to_string()]).await.expect_success();
    let slow = slow.finish(PATIENCE).await;
    assert_eq!(slow.code(), 1, "{slow:?}");
    assert!(slow.stdout.contains("\"stopped\""), "{slow:?}");
    let row = client.replay_row(running.id).await.unwrap();
    assert_eq!((row.state, row.done, row.ended.is_some()), (ReplayState::Stopped, 1, true));
    // A replay that waits keeps no other one waiting.
    let id = publish(&client, &needy()).await;
    ended(&client, id, "failed", 0).await;
    drained(up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_unique_key_another_one_has_is_counted_as_not_started_and_the_others_go_on() {
    let spinor = installation("[queues.lonely]\njournal = 'full'\n");
    let (up, client) = everything(&spinor).await;
    let unique = || Some(NewUnique { key: "order-7".to_owned(), ..NewUnique::default() });
    let (mut held, mut holder) = (needy(), needy());
    (held.unique, holder.unique, holder.queue) = (unique(), unique(), Some("lonely".to_owned()));
    let held = publish(&client, &held).await;
    ended(&client, held, "failed", 0).await;
    let free = publish(&client, &needy()).await;
    ended(&client, free, "failed", 0).await;
    let holder = publish(&client, &holder).await;
    let done = spinor.run(&["failures", "replay", "--state", "failed", "--json"]).await;
    assert_eq!(done.code(), 1, "{done:?}");
    let row: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&row["done"], &row["failed"]), (&1.into(), &1.into()), "{row}");
    let why = row["error"].as_str().unwrap();
    assert!(why.contains(&held.to_string()) && why.contains(&holder.to_string()) && why.contains("order-7"), "{why}");
    ended(&client, free, "failed", 1).await;
    assert_eq!(client.job(held).await.unwrap().row.replay, 0);
    drained(up).await;
}
