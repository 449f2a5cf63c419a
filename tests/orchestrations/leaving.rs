//! Somebody stops a run whose nodes live in its process: once, twice, and with a step that heeds nothing.

use std::time::Duration;

use crate::support::{
    eventually,
    process::{Finished, Process, Spinor},
};

/// Long for a machine under load, and shorter than the grace period.
const SOON: Duration = Duration::from_secs(20);

fn fleet(first: &str) -> Spinor {
    let spinor = Spinor::new("");
    let file = format!("- jobs:\n  - RUN: touch began-$$; {first}\n  - RUN: touch second\n");
    std::fs::write(spinor.join("slow.yaml"), file).expect("written");
    spinor
}

async fn begun(spinor: &Spinor) -> Process {
    let run = spinor.start(&["run", "--local", "2", "slow.yaml"]);
    let began = || std::fs::read_dir(spinor.path()).into_iter().flatten().flatten();
    let count = || began().filter(|file| file.file_name().to_string_lossy().starts_with("began-")).count();
    eventually("both nodes to run their first step", SOON, async || count() == 2).await;
    run
}

fn ended_without_a_panic(spinor: &Spinor, run: &Finished) {
    assert_eq!(run.code(), 1, "{}", run.stderr);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    assert!(!run.stderr.contains("it goes on"), "{}", run.stderr);
    assert!(!spinor.join("second").exists(), "the second step ran");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_run_that_is_told_to_stop_ends_after_the_steps_in_hand() {
    let spinor = fleet("while ! test -e go; do sleep 0.05; done");
    let run = begun(&spinor).await;
    run.terminate();
    run.says("stopping after the steps that run now", SOON).await;
    std::fs::write(spinor.join("go"), "").expect("written");
    ended_without_a_panic(&spinor, &run.finish(SOON).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_run_that_is_told_twice_ends_at_once() {
    let spinor = fleet("sleep 600");
    let run = begun(&spinor).await;
    run.terminate();
    run.says("stopping after the steps that run now", SOON).await;
    run.terminate();
    ended_without_a_panic(&spinor, &run.finish(SOON).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_outlasts_the_grace_period_is_cut() {
    let spinor = fleet("sleep 600");
    let toml = std::fs::read_to_string(spinor.join("spinor.toml")).expect("read");
    std::fs::write(spinor.join("spinor.toml"), format!("{toml}\n[consumer]\ngrace = '1s'\n")).expect("written");
    let run = begun(&spinor).await;
    run.terminate();
    ended_without_a_panic(&spinor, &run.finish(SOON).await);
}
