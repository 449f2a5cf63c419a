//! `kill -9` of a consumer in the middle of 5000 jobs, again and again, on both brokers.
//!
//! Each job writes its id to a file and waits until it is on disk. Three ledgers are compared then:
//! what was accepted, what was executed (that file, written outside Spinor), what is recorded. The
//! moments of the ten kills are drawn from a seed; one that found nothing in hand does not count, and
//! is made up for. `make soak` goes through 30 seeds on each broker.

mod ledgers;
mod stage;

use crate::{recorder::entries::Draw, support::soak};
use ledgers::Ledgers;
use stage::Stage;

/// Published before the first kill.
const JOBS: usize = 5000;
/// So many kills must count.
const KILLS: usize = 10;
/// Published for each kill that is made up for.
const MORE: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_kills_of_the_one_process_lose_no_job_and_record_each_once() {
    from_each_seed(Stage::embedded, 0x5EED_0001).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_kills_of_a_consumer_on_rabbitmq_lose_no_job_and_record_each_once() {
    from_each_seed(Stage::rabbitmq, 0x5EED_0002).await;
}

async fn from_each_seed(stage: impl AsyncFn() -> Stage, first: u64) {
    for seed in 0..soak::or(1, 30) {
        kill_and_compare(stage().await, first + seed * 0x1_0000).await;
    }
}

async fn kill_and_compare(mut stage: Stage, seed: u64) {
    let mut draw = Draw::new(seed);
    let mut missing = KILLS;
    let mut ledgers = round(&mut stage, &mut draw, JOBS, missing).await;
    for _ in 0..3 {
        missing = KILLS.saturating_sub(ledgers.kills_that_count());
        if missing == 0 {
            break;
        }
        ledgers = round(&mut stage, &mut draw, missing * MORE, missing).await;
    }
    stage.end().await;
    println!("seed {seed:#x}: {}", ledgers.summary());
    let problems = ledgers.problems();
    assert!(
        problems.is_empty(),
        "{} problems, the first: {:#?}",
        problems.len(),
        problems.iter().take(20).collect::<Vec<_>>()
    );
    assert_eq!(missing, 0, "so many kills found nothing in hand");
    assert_the_comparison_can_fail(&ledgers);
}

/// Publishes so many jobs, kills the consumer at drawn moments in the middle of them, and comes
/// back when all are recorded.
async fn round(stage: &mut Stage, draw: &mut Draw, jobs: usize, kills: usize) -> Ledgers {
    let before = stage.executed();
    stage.publish(jobs).await;
    let stretch = jobs / (kills + 1);
    for kill in 0..kills {
        // Anywhere in the kill's own stretch, so that no two fall together.
        let moment = before + kill * stretch + draw.below(stretch) + 1;
        stage.executions(moment.max(stage.executed() + 1)).await;
        stage.kill_and_restart().await;
    }
    stage.settled().await
}

/// A check that cannot fail proves nothing: each fault, planted in ledgers that balance, is found.
fn assert_the_comparison_can_fail(balanced: &Ledgers) {
    for (fault, word) in balanced.faults() {
        let problems = fault.problems();
        assert!(problems.iter().any(|problem| problem.contains(word)), "{word:?} was not found: {problems:?}");
    }
}
