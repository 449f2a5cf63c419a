//! Files that are removed under a running process: nothing is accepted that nobody would find again.

use std::{fs, path::Path};

use spinor::api::new_job::NewJob;

use super::stage::{SOON, Stage, refused};
use crate::support::eventually;

fn move_to(from: &Path, to: &Path) {
    fs::rename(from, to).expect("renamed");
}

#[tokio::test]
async fn while_the_brokers_files_are_gone_nothing_is_accepted_and_health_says_so_until_they_are_back() {
    let stage = Stage::new().await;
    stage.queued(NewJob::new("noop")).await;
    let (home, aside) = (stage.data("broker"), stage.data("aside"));
    move_to(&home, &aside);
    // Who publishes is told at once, who only looks within a second or so.
    let problem = refused(stage.client.publish(&NewJob::new("noop")).await);
    let removed = |text: &str| text.contains("broker.db was removed while it is in use");
    assert!(problem.status == 503 && removed(&problem.detail), "{problem}");
    let link = stage.client.status().await.unwrap().link;
    assert!(link.state == "blocked" && link.why.as_deref().is_some_and(removed), "{link:?}");
    assert_eq!(stage.raw("GET", "/readyz", "").await.0, 503);
    // Another file of that name is not ours.
    fs::create_dir(&home).unwrap();
    for name in ["broker.db", "broker.db-wal", "broker.lock"] {
        fs::copy(aside.join(name), home.join(name)).unwrap();
    }
    let problem = refused(stage.client.publish(&NewJob::new("noop")).await);
    assert_eq!(problem.status, 503, "{problem}");
    fs::remove_dir_all(&home).unwrap();
    move_to(&aside, &home);
    let is_ready = async || stage.raw("GET", "/readyz", "").await.0 == 200;
    eventually("it to be ready again", SOON, is_ready).await;
    stage.queued(NewJob::new("noop")).await;
    assert_eq!(stage.ready().await, 2, "what was refused is not there, what was accepted is");
    // Nobody publishes: it is noticed all the same.
    move_to(&home.join("broker.lock"), &aside);
    eventually("the lock to be missed", SOON, async || !is_ready().await).await;
    move_to(&aside, &home.join("broker.lock"));
    eventually("it to be ready again", SOON, is_ready).await;
    stage.end().await;
}

#[tokio::test]
async fn while_the_records_file_is_gone_nothing_is_recorded_and_health_says_so_until_it_is_back() {
    let stage = Stage::new().await;
    let (home, aside) = (stage.data("results.db"), stage.data("aside"));
    move_to(&home, &aside);
    let status = stage.client.status().await.unwrap();
    assert!(status.results_problem.is_some_and(|why| why.contains("results.db was removed")));
    assert_eq!(stage.raw("GET", "/readyz", "").await.0, 503);
    let id = stage.client.publish(&NewJob::new("noop")).await.unwrap().id;
    move_to(&aside, &home);
    eventually("the job to be recorded", SOON, async || stage.client.job(id).await.is_ok()).await;
    stage.end().await;
}
