//! Orchestrations from file to record: real nodes on a real broker, real shells, the real record.
//!
//! The nodes are consumers of this process, each with its journal; they know of each other only
//! what the broker carries. `fleet` sets them up; the cases run the shipped examples.

mod fleet;
mod leaving;

use std::{path::Path, time::Duration};

use spinor::orchestrations::{
    analysis::analyse,
    compile::{Nodes, compile, needs_answering},
    parse::{File, parse},
    view::{RunEnd, Runner as _, Update},
};
use spinor_consumers::results::StepFilter;
use spinor_executors::{State, StepState};

use crate::{conformance::fixture::declare, support::scratch::Scratch};
use fleet::Fleet;

/// A shipped example, read from the tree.
fn example(name: &str) -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples").join(name);
    let text = std::fs::read_to_string(&path).expect("the example can be read");
    parse(name, &text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn file(text: &str) -> File {
    parse("test.yaml", text).unwrap_or_else(|problems| panic!("{problems}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_example_succeeds_on_six_nodes_that_are_found_by_a_ping() {
    let fleet = Fleet::start(&["node-1", "node-2", "node-3", "node-4", "node-5", "node-6"]).await;
    let (end, _) = fleet.run(&[example("fleet.yaml")]).await;
    assert_eq!((end.report.succeeded, end.report.members), (Some(true), 6), "{:?}", end.report.problems);
    // Nine jobs on six nodes, and one that runs once.
    assert_eq!(end.steps.len(), 9 * 6 + 1);
    assert!(end.steps.iter().all(|step| step.state == StepState::Succeeded));
    let figures = analyse(end.report.run, end.report.started, &end.steps);
    assert_eq!((figures.total_jobs, figures.total_node_count, figures.total_failures), (10, 6, 0));
    assert!(figures.actual_runtime > 0.0 && figures.actual_runtime < figures.combined_execution_time);
    // Both ends are on record, and the members with them.
    let record = fleet.results.run(end.report.run).await.expect("the record answers").expect("the run is there");
    assert_eq!((record.row.succeeded, record.jobs.len()), (Some(true), 6));
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_step_skips_the_rest_of_its_orchestration_and_nothing_else() {
    let fleet = Fleet::start(&["a", "b"]).await;
    let (end, updates) = fleet.run(&[example("fails.yaml")]).await;
    assert_eq!((end.report.succeeded, end.report.problems.len()), (Some(false), 0));
    for node in ["a", "b"] {
        let states: Vec<_> =
            end.steps.iter().filter(|step| step.node == node).map(|step| (step.part, step.item, step.state)).collect();
        use StepState::{Failed, Skipped, Succeeded};
        assert_eq!(states, [(0, 0, Succeeded), (0, 1, Failed), (0, 2, Skipped), (1, 0, Succeeded)], "{node}");
    }
    assert!(end.members.iter().all(|member| member.state == Some(State::Failed)));
    let failures = fleet.driver().failures(end.report.run, 10).await.expect("the record answers");
    let failed: Vec<_> = failures.iter().filter(|step| step.state == StepState::Failed).collect();
    assert_eq!(failed.len(), 2);
    assert_eq!(failed[0].exit.and_then(|exit| exit.code), Some(7));
    assert_eq!(failed[0].stderr.head, "2 of 40 tests failed\n");
    assert!(updates.iter().any(|update| matches!(update, Update::Member { state: State::Failed, .. })));
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_after_a_failed_step_is_ever_started() {
    let scratch = Scratch::new("fail-fast");
    let trace = scratch.join("trace");
    let trace = trace.display();
    let text = format!(
        "- targets: [a]\n  jobs:\n  - RUN: echo 0 >> {trace}\n  - RUN: exit 3\n{}",
        format!("  - RUN: echo never >> {trace}\n").repeat(200)
    );
    let fleet = Fleet::start(&["a"]).await;
    let (end, _) = fleet.run(&[file(&text)]).await;
    assert_eq!((end.report.succeeded, end.steps.len()), (Some(false), 202));
    assert_eq!(end.steps.iter().filter(|step| step.state == StepState::Skipped).count(), 200);
    assert_eq!(std::fs::read_to_string(scratch.join("trace")).expect("the trace"), "0\n");
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_and_an_unreachable_node_fail_the_run_and_the_others_finish() {
    let fleet = Fleet::start(&["a", "b"]).await;
    // A node that was here and is not: its queue is.
    declare(&fleet.broker, &["node.gone"]).await;
    let (end, _) = fleet.run(&[file("- targets: [a, nowhere, gone, b]\n  jobs: [RUN: echo hi]\n")]).await;
    assert_eq!((end.report.succeeded, end.steps.len()), (Some(false), 2));
    let told = &end.report.problems;
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0], "node `nowhere` is unknown: no queue of that name; nodes known: a, b, gone");
    assert!(told[1].starts_with("node `gone` is unreachable"), "{told:?}");
    let states: Vec<_> = end.members.iter().map(|member| member.state).collect();
    assert_eq!(states, [Some(State::Succeeded), None, None, Some(State::Succeeded)]);
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_reaches_the_shell_byte_for_byte() {
    let text = concat!(
        "- targets: [a]\n",
        "  jobs:\n",
        "  - RUN: |\n",
        "      cat <<'EOF'\n",
        "        two  blanks\tand a tab; $HOME --retry 7\n",
        "\n",
        "      EOF\n",
        "  - RUN: --retry 2 printf '%s|' --retry 7 'a   b'\n",
    );
    let fleet = Fleet::start(&["a"]).await;
    let (end, _) = fleet.run(&[file(text)]).await;
    let filter = StepFilter { run: end.report.run, outputs: true, ..StepFilter::default() };
    let steps = fleet.results.steps(&filter).await.expect("the record answers");
    let out: Vec<_> = steps.iter().map(|step| step.stdout.head.as_str()).collect();
    assert_eq!(out, ["  two  blanks\tand a tab; $HOME --retry 7\n\n", "--retry|7|a   b|"]);
    fleet.end().await;
}

#[test]
fn the_examples_mean_what_their_pages_say() {
    for (name, orchestrations, jobs) in
        [("fleet.yaml", 4, 10), ("comparison.yaml", 1, 1000), ("comparison-async.yaml", 10, 1000), ("fails.yaml", 2, 4)]
    {
        let files = [example(name)];
        assert_eq!(files[0].orchestrations.len(), orchestrations, "{name}");
        assert_eq!(files[0].orchestrations.iter().map(|one| one.jobs.len()).sum::<usize>(), jobs, "{name}");
        assert!(needs_answering(&files, &[]), "{name}");
        let answering = ["node-1".to_owned(), "node-2".to_owned()];
        let plans = compile(&files, Nodes { chosen: &[], answering: &answering }).expect("plans");
        assert_eq!(plans.len(), 2, "{name}");
    }
}

/// What the cases share: the bound of a run.
const RUN: Duration = Duration::from_secs(120);

impl Fleet {
    /// Runs files on the nodes they name, else on those that answer.
    async fn run(&self, files: &[File]) -> (RunEnd, Vec<Update>) {
        let driver = self.driver();
        let answering = if needs_answering(files, &[]) {
            driver.answering().await.expect("the nodes are asked")
        } else {
            Vec::new()
        };
        let plans = compile(files, Nodes { chosen: &[], answering: &answering }).expect("plans");
        tokio::time::timeout(RUN, self.drive(plans)).await.expect("the run ends in time")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_more_than_256_kib_travels_by_reference_and_every_step_runs() {
    let fleet = Fleet::start(&["a"]).await;
    let words = "x".repeat(20_000);
    let steps: Vec<String> = (0..20).map(|step| format!("\"RUN: echo {step} {words} | cut -c 1-2\"")).collect();
    let (end, _) = fleet.run(&[file(&format!("- jobs: [{}]\n", steps.join(", ")))]).await;
    assert_eq!((end.report.succeeded, end.steps.len()), (Some(true), 20), "{:?}", end.report.problems);
    let record = fleet.results.run(end.report.run).await.expect("the record answers").expect("the run is there");
    let plan = fleet.results.job(record.jobs[0].1.id).await.expect("the record answers").expect("the plan is there");
    let job = plan.job.expect("it was announced");
    assert!(job.args_ref.is_some_and(|blob| blob.size > 400_000) && job.args.text() == "null", "{job:?}");
    fleet.end().await;
}
