//! On RabbitMQ: replicas are processes.

use std::collections::BTreeSet;

use rustix::process::{Pid, Signal, kill_process};
use spinor::scaling::ReplicaPhase;

use super::stage::{MORE, PATIENCE, SLOTS, Stage, count};
use crate::support::{eventually, eventually_some, witness};

/// Published before the first scaling; more follow until every replica has run one.
const JOBS: usize = 2000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaled_to_five_and_back_to_one_under_load_there_are_five_processes_then_one_and_no_job_is_lost_or_run_twice() {
    let mut stage = Stage::rabbitmq("").await;
    stage.publish(JOBS).await;
    stage.replicas(1).await;
    stage.scale(5).await;
    let five = stage.replicas(5).await;
    assert_eq!((five.wanted, five.by.is_some(), five.why.as_deref()), (Some(5), true, Some("a test")));
    assert_eq!(stage.children().len(), 4, "the fifth is the process's own");
    // All five take jobs: more are published while one of them has had none.
    while stage.boots().len() < 5 {
        stage.publish(MORE).await;
        let before = stage.lines().len();
        eventually("jobs to run", PATIENCE, async || stage.lines().len() > before).await;
    }
    let children = stage.children();
    stage.scale(1).await;
    stage.scaled_under_load(1).await;
    assert_eq!(witness::alive(&children), BTreeSet::new());
    stage.assert_each_ran_once().await;
    assert!(!stage.up.stderr().contains(r#""level":"ERROR""#), "{}", stage.up.stderr());
    stage.drained().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_killed_is_replaced_and_its_jobs_run_elsewhere() {
    let mut stage = Stage::rabbitmq("").await;
    stage.want(3).await;
    let before = stage.replicas(3).await;
    stage.publish_held(3 * SLOTS).await;
    eventually("all slots to be taken", PATIENCE, async || stage.lines().len() == 3 * SLOTS).await;
    let pids: BTreeSet<u32> = before.replicas.iter().map(|replica| replica.pid).collect();
    let victim = before.replicas.last().expect("three").pid;
    assert_ne!(victim, stage.up.id());
    kill(victim, Signal::KILL);
    let told = stage
        .group_with("the death to be told", |group| group.replicas.iter().any(|replica| replica.last_exit.is_some()))
        .await;
    let ended = told.replicas.iter().find_map(|replica| replica.last_exit.clone()).expect("told");
    assert!(ended.contains("SIGKILL"), "{ended}");
    let after = stage.replicas(3).await;
    let new: Vec<u32> = after.replicas.iter().map(|replica| replica.pid).filter(|pid| !pids.contains(pid)).collect();
    assert_eq!(new.len(), 1, "one in place of {victim}: {after:?}");
    stage.up.says("A replica ended unasked and is started again", PATIENCE).await;
    // Both jobs of the dead one run again, in the slots of the new one.
    eventually("its jobs to run elsewhere", PATIENCE, async || stage.lines().len() == 4 * SLOTS).await;
    stage.release();
    stage.settled().await;
    let twice = stage.executions().values().filter(|count| **count == 2).count();
    assert_eq!((stage.executions().len(), twice), (3 * SLOTS, SLOTS), "only what the dead one ran");
    stage.drained().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wanted_number_outlives_up_and_nothing_outlives_its_end() {
    let mut stage = Stage::rabbitmq("").await;
    stage.want(3).await;
    stage.replicas(3).await;
    assert_eq!(stage.children().len(), 2);
    stage.drained().await;
    stage.start_again().await;
    stage.replicas(3).await;
    // Nobody may run at all: its own consumer ends, too, and is there again when it is wanted.
    stage.want(0).await;
    stage.replicas(0).await;
    stage.publish(1).await;
    stage.want(2).await;
    stage.replicas(2).await;
    stage.assert_each_ran_once().await;
    stage.drained().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_up_leaves_no_replica_behind_and_what_they_ran_ends_in_good_order() {
    let mut stage = Stage::rabbitmq("").await;
    stage.want(3).await;
    stage.replicas(3).await;
    stage.publish_held(3 * SLOTS).await;
    eventually("all slots to be taken", PATIENCE, async || stage.lines().len() == 3 * SLOTS).await;
    let children = stage.children();
    assert_eq!(children.len(), 2);
    stage.up.kill9();
    stage.up.wait(PATIENCE).await;
    stage.up.says("that started this replica is gone: draining", PATIENCE).await;
    stage.release();
    eventually("the replicas to be gone", PATIENCE, async || witness::alive(&children).is_empty()).await;
    stage.start_again().await;
    stage.settled().await;
    let twice = stage.executions().values().filter(|count| **count == 2).count();
    assert_eq!((stage.executions().len(), twice), (3 * SLOTS, SLOTS), "only what the killed process ran itself");
    stage.replicas(3).await;
    stage.drained().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_to_up_or_to_all_its_processes_drains_them_and_lets_what_runs_end() {
    let mut stage = Stage::rabbitmq("").await;
    stage.want(2).await;
    stage.replicas(2).await;
    stage.publish_held(2 * SLOTS).await;
    eventually("all slots to be taken", PATIENCE, async || stage.lines().len() == 2 * SLOTS).await;
    stage.want(1).await;
    let group = stage.group_with("one to drain", |group| group.draining == 1).await;
    assert_eq!((group.wanted, group.running, count(&group, ReplicaPhase::Draining)), (Some(1), 1, 1), "apart");
    // As a service manager does it: every process of the unit at once.
    stage.children().into_iter().for_each(|(pid, _)| kill(pid, Signal::TERM));
    stage.up.terminate();
    eventually("all to drain", PATIENCE, async || stage.up.stderr().matches("Consumer draining.").count() == 2).await;
    stage.release();
    assert_eq!(stage.up.wait(PATIENCE).await.code(), Some(0), "{}", stage.up.stderr());
    stage.start_again().await;
    stage.assert_each_ran_once().await;
    stage.drained().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_ends_the_replicas_at_once_too() {
    let mut stage = Stage::rabbitmq("").await;
    stage.want(2).await;
    stage.replicas(2).await;
    stage.publish_held(2 * SLOTS).await;
    eventually("all slots to be taken", PATIENCE, async || stage.lines().len() == 2 * SLOTS).await;
    let children = stage.children();
    stage.up.terminate();
    stage.up.says("Told to drain", PATIENCE).await;
    stage.up.terminate();
    assert_eq!(stage.up.wait(PATIENCE).await.code(), Some(1), "{}", stage.up.stderr());
    eventually("the replicas to be gone", PATIENCE, async || witness::alive(&children).is_empty()).await;
    let site = stage.site.as_ref().expect("on RabbitMQ");
    eventually("what ran to be back", PATIENCE, async || site.ready("jobs.one").await == 2 * SLOTS as u32).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_told_to_drain_by_name_ends_its_process_and_is_replaced() {
    let mut stage = Stage::rabbitmq("").await;
    stage.want(2).await;
    let victim = stage.replicas(2).await.replicas[1].pid;
    let state = stage.state().await;
    let name = eventually_some("its presence", PATIENCE, async || {
        let present = state.consumers().await.expect("state answers");
        present.into_iter().find(|present| present.beat.pid == victim).map(|present| present.beat.consumer)
    })
    .await;
    stage.drain(&name).await;
    let after = stage
        .group_with("another process", |group| {
            group.running == 2 && group.replicas.iter().all(|replica| replica.pid != victim)
        })
        .await;
    assert_eq!(after.replicas[1].last_exit.as_deref(), Some("exit status: 0"), "{after:?}");
    stage.drained().await;
}

fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("it lives");
}
