//! Embedded: replicas are tasks of the one process.

use std::collections::BTreeSet;

use super::stage::{MORE, PATIENCE, Stage};
use crate::support::eventually;

const JOBS: usize = 600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_scaled_to_three_and_back_to_one_under_load_and_no_job_is_lost_or_run_twice() {
    let mut stage = Stage::embedded().await;
    stage.publish(JOBS).await;
    stage.want(3).await;
    let three = stage.replicas(3).await;
    let names: BTreeSet<_> = three.replicas.iter().filter_map(|replica| replica.consumer.clone()).collect();
    assert_eq!(names.len(), 3, "each has a name of its own: {three:?}");
    assert!(three.replicas.iter().all(|replica| replica.pid == stage.up.id()), "{three:?}");
    assert_eq!(stage.children().len(), 0);
    // All three take jobs: more are published while one of them has had none.
    while !names.is_subset(&reporters(&stage).await) {
        stage.publish(MORE).await;
        let before = stage.lines().len();
        eventually("jobs to run", PATIENCE, async || stage.lines().len() > before).await;
    }
    stage.want(1).await;
    let one = stage.scaled_under_load(1).await;
    assert_eq!(one.replicas[0].consumer, three.replicas[0].consumer, "the oldest stays");
    stage.assert_each_ran_once().await;
    stage.drained().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_come_back_to_the_wanted_number_after_a_kill_of_the_process_and_no_job_is_lost() {
    let mut stage = Stage::embedded().await;
    stage.want(3).await;
    stage.replicas(3).await;
    stage.publish(JOBS).await;
    eventually("jobs to run", PATIENCE, async || stage.lines().len() > JOBS / 4).await;
    stage.up.kill9();
    stage.up.wait(PATIENCE).await;
    let killed = stage.boots();
    stage.start_again().await;
    // Or those that died would count for a minute, and nobody would start others.
    let alive = stage.client().consumers().await.expect("they are listed");
    assert!(alive.iter().all(|row| row.pid == stage.up.id()), "the dead count as alive: {alive:?}");
    stage.replicas(3).await;
    stage.want(1).await;
    stage.replicas(1).await;
    stage.settled().await;
    let executions = stage.executions();
    let lost = stage.accepted.iter().filter(|job| !executions.contains_key(job)).count();
    assert_eq!(lost, 0);
    // Twice ran only what the killed process had in hand: once in each life.
    for (job, _) in executions.into_iter().filter(|(_, count)| *count > 1) {
        let lives: Vec<_> = stage.lines().into_iter().filter(|line| line.job == job).map(|line| line.boot).collect();
        assert_eq!(lives.len(), 2, "{job}");
        assert!(killed.contains(&lives[0]) && !killed.contains(&lives[1]), "{job}: {lives:?}");
    }
    stage.drained().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_consumer_stays_away_unless_a_number_is_wanted() {
    let mut stage = Stage::embedded().await;
    let name = |group: &spinor::scaling::GroupState| group.replicas[0].consumer.clone().expect("a task");
    let first = name(&stage.replicas(1).await);
    stage.drain(&first).await;
    let none = stage.replicas(0).await;
    assert_eq!((none.wanted, none.restarting), (None, 0), "{none:?}");
    stage.want(1).await;
    let second = name(&stage.replicas(1).await);
    stage.drain(&second).await;
    let third = stage.group_with("another one", |group| group.running == 1 && name(group) != second).await;
    assert_eq!(third.replicas[0].last_exit.as_deref(), Some("in good order"));
    stage.drained().await;
}

/// The consumers that reported a job.
async fn reporters(stage: &Stage) -> BTreeSet<String> {
    let mut sqlite = stage.sqlite().await;
    let reports: Vec<String> = sqlx::query_scalar("SELECT report FROM attempts").fetch_all(&mut sqlite).await.unwrap();
    let consumer = |report: String| -> Option<String> {
        let report: serde_json::Value = serde_json::from_str(&report).expect("a report is JSON");
        Some(report["consumer"].as_str()?.to_owned())
    };
    reports.into_iter().filter_map(consumer).collect()
}
