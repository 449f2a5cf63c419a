//! Backup and restore of a real installation, by its own command line.

use std::{collections::BTreeSet, path::Path, time::Duration};

use serde_json::Value;
use spinor::{api::new_job::NewJob, client::Client};
use spinor_executors::{Json, State};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{
    eventually,
    process::{Process, Spinor},
};

const PATIENCE: Duration = Duration::from_secs(120);

async fn up(spinor: &Spinor, data: &str) -> Process {
    let process = spinor.start(&["up", "--data", data, "--slots", "4"]);
    process.says("spinor is up", PATIENCE).await;
    process
}

async fn down(mut process: Process) {
    process.terminate();
    assert_eq!(process.wait(PATIENCE).await.code(), Some(0), "{}", process.stderr());
}

fn client(spinor: &Spinor, data: &str) -> Client {
    Client::unix(spinor.join(data).join("spinor.sock")).unwrap()
}

fn wait_job(ms: u64) -> NewJob {
    let mut job = NewJob::new("wait");
    job.args = Some(Json::of(&serde_json::json!({"ms": ms})).unwrap());
    job
}

/// Publishes until told to stop; the ids that were accepted.
async fn load(client: &Client, stop: &CancellationToken) -> BTreeSet<Uuid> {
    let mut accepted = BTreeSet::new();
    let batch: Vec<NewJob> = (0..20).map(|number| wait_job(number % 4)).collect();
    while !stop.is_cancelled() {
        let answer = client.publish_batch(&batch).await.unwrap();
        accepted.extend(answer.jobs.iter().filter(|job| job.problem.is_none()).map(|job| job.id));
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_holds_every_job_accepted_before_it_and_each_ends_once() {
    let spinor = Spinor::new("");
    let process = up(&spinor, "first").await;
    let from = client(&spinor, "first");
    let (early, stop) = (CancellationToken::new(), CancellationToken::new());
    let mut large = NewJob::new("noop");
    large.args = Some(super::blobs::large());
    let large = from.publish(&large).await.unwrap().id;
    let loading = async {
        let before = load(&from, &early).await;
        // Goes on while the copies are made.
        let during = load(&from, &stop);
        let backing = async {
            let done = spinor.run(&["data", "backup", "copy", "--data", "first", "--json"]).await.expect_success();
            stop.cancel();
            serde_json::from_str::<Value>(&done.stdout).unwrap()
        };
        let (during, manifest) = tokio::join!(during, backing);
        (before, during, manifest)
    };
    let enough = async {
        eventually("some jobs to have ended", PATIENCE, async || {
            let filter = spinor_consumers::results::JobFilter {
                state: Some(State::Succeeded),
                limit: 300,
                ..Default::default()
            };
            from.jobs(&filter).await.unwrap().rows.len() >= 200
        })
        .await;
        early.cancel();
    };
    let ((mut before, during, manifest), ()) = tokio::join!(loading, enough);
    before.insert(large);
    assert!(!during.is_empty() && manifest["running"] == true, "{manifest}");
    let files: Vec<&str> =
        manifest["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(files, ["broker/broker.db", "results.db", "state.db"]);
    // The first goes on and ends; what it did after the copies is of no interest to the second.
    down(process).await;
    let refused = spinor.run(&["data", "restore", "copy", "--data", "first"]).await;
    assert!(refused.code() == 2 && refused.stderr.contains("not empty"), "{refused:?}");
    spinor.run(&["data", "restore", "copy", "--data", "second"]).await.expect_success();
    let process = up(&spinor, "second").await;
    let second = client(&spinor, "second");
    for id in &before {
        let waited = second.wait(*id, PATIENCE, false).await.unwrap_or_else(|error| panic!("{id} is lost: {error}"));
        assert!(waited.ended, "{id}");
    }
    for id in &before {
        let record = second.job(*id).await.unwrap();
        assert_eq!((record.row.state, record.attempts.len()), (State::Succeeded, 1), "{record:?}");
    }
    assert!(second.job(large).await.unwrap().job.is_some_and(|job| job.args == super::blobs::large()));
    down(process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_installation_is_copied_by_its_path_and_a_damaged_copy_is_refused() {
    let spinor = Spinor::new("");
    let blobs = spinor.join("blobs");
    std::fs::write(spinor.join("spinor.toml"), format!("blobs = 'file://{}'\n", blobs.display())).unwrap();
    let process = up(&spinor, "data").await;
    let mut large = wait_job(0);
    (large.kind, large.args) = ("noop".to_owned(), Some(super::blobs::large()));
    let large = client(&spinor, "data").publish(&large).await.unwrap().id;
    client(&spinor, "data").wait(large, PATIENCE, true).await.unwrap();
    let ended = client(&spinor, "data").publish(&wait_job(0)).await.unwrap().id;
    client(&spinor, "data").wait(ended, PATIENCE, true).await.unwrap();
    let waits =
        client(&spinor, "data").publish(&NewJob { delay: Some("10m".to_owned()), ..wait_job(0) }).await.unwrap().id;
    let refused = spinor.run(&["data", "restore", "nowhere", "--data", "data"]).await;
    assert!(refused.code() == 1 && refused.stderr.contains("stop it first"), "{refused:?}");
    down(process).await;
    let backup = |to: &'static str| spinor.start(&["data", "backup", to, "--data", "data", "--json"]).finish(PATIENCE);
    let manifest: Value = serde_json::from_str(&backup("copy").await.expect_success().stdout).unwrap();
    assert_eq!(manifest["running"], false, "{manifest}");
    let again = backup("copy").await;
    assert!(again.code() == 2 && again.stderr.contains("not empty"), "{again:?}");
    backup("damaged").await.expect_success();
    flip(&spinor.join("damaged/results.db"));
    let refused = spinor.run(&["data", "restore", "damaged", "--data", "other", "--force"]).await;
    assert!(
        refused.code() == 2 && refused.stderr.contains("results.db") && refused.stderr.contains("damaged"),
        "{refused:?}"
    );
    assert!(!spinor.join("other").exists(), "nothing is begun");
    let forced = spinor.run(&["data", "restore", "copy", "--data", "data", "--force", "--json"]).await.expect_success();
    let forced: Value = serde_json::from_str(&forced.stdout).unwrap();
    let aside: Vec<&Path> =
        forced["aside"].as_array().unwrap().iter().map(|path| Path::new(path.as_str().unwrap())).collect();
    assert!(
        aside.len() == 2 && aside[0].join("spinor-blobs").exists() && aside[1].join("results.db").exists(),
        "{forced}"
    );
    let process = up(&spinor, "data").await;
    let client = client(&spinor, "data");
    assert_eq!(client.job(ended).await.unwrap().row.state, State::Succeeded);
    assert_eq!(client.job(waits).await.unwrap().row.state, State::Queued);
    assert!(client.job(large).await.unwrap().job.is_some_and(|job| job.args == super::blobs::large()));
    let pruned =
        spinor.run(&["data", "prune", "--older-than", "0s", "--data", "data", "--json"]).await.expect_success();
    let pruned: Value = serde_json::from_str(&pruned.stdout).unwrap();
    assert_eq!((&pruned["jobs"], &pruned["attempts"]), (&2.into(), &2.into()), "{pruned}");
    assert_eq!(pruned["blobs"], 1, "{pruned}");
    assert!(client.job(ended).await.is_err() && client.job(waits).await.is_ok());
    down(process).await;
}

/// Changes one byte of a file.
fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}
