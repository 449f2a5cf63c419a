//! Plans with real shells: order, failure, cuts in the journal, drains.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Action, OnInterrupt, PLAN_KIND, Plan, PlanExecutor, Sequence, Step, journal::Journal};
use crate::{Cancelled, Cause, Context, Emission, Executor, Job, Json, Outcome, Output, StepReport, StepState, Stream};

/// A directory of one test, removed with it.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("spinor-plan-{}", Uuid::now_v7()));
        fs::create_dir_all(&path).expect("a directory for the test");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What the steps of a test wrote into its ledger, outside of all records.
    fn ledger(&self) -> String {
        fs::read_to_string(self.0.join("ledger")).unwrap_or_default()
    }

    /// A script that writes a word there.
    fn note(&self, word: &str) -> String {
        format!("echo {word} >> {}/ledger", self.0.display())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A report as a plan's journal holds it.
pub(super) fn report(step: u32) -> StepReport {
    StepReport {
        job: Uuid::nil(),
        run: None,
        node: "n1".to_owned(),
        step,
        part: 0,
        item: step,
        name: format!("step {step}"),
        verb: "RUN".to_owned(),
        state: StepState::Succeeded,
        failure: None,
        exit: None,
        stdout: Output::default(),
        stderr: Output::default(),
        started: Timestamp::UNIX_EPOCH,
        micros: 5,
    }
}

fn step(script: impl Into<String>) -> Step {
    Step {
        item: 0,
        name: String::new(),
        action: Action::Run {
            script: script.into(),
            env: [("GREETING".to_owned(), "hi".to_owned())].into(),
            no_block: false,
        },
        timeout_ms: 60_000,
        tries: 1,
        on_interrupt: OnInterrupt::Fail,
    }
}

fn sequence(beside: bool, steps: Vec<Step>) -> Sequence {
    Sequence { part: 0, name: String::new(), beside, steps }
}

fn job(sequences: Vec<Sequence>) -> Job {
    let plan = Plan { node: "n1".to_owned(), sequences };
    Job::new(PLAN_KIND, "node.n1", Json::of(&plan).expect("a plan is JSON"))
}

/// Executes a job and collects its step reports in order of their numbers.
async fn execute(executor: &PlanExecutor, job: &Job) -> (Outcome, Vec<StepReport>) {
    let (to, mut from) = mpsc::channel(1000);
    let context = Context::new(Uuid::now_v7(), Some(to));
    let outcome = executor.run(job, &context).await;
    drop(context);
    let mut reports = Vec::new();
    while let Some(emission) = from.recv().await {
        if let Emission::Steps(more) = emission {
            reports.extend(more);
        }
    }
    reports.sort_by_key(|report| report.step);
    (outcome, reports)
}

fn states(reports: &[StepReport]) -> Vec<StepState> {
    reports.iter().map(|report| report.state).collect()
}

fn failure(outcome: Outcome) -> crate::Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("it should have failed: {other:?}"),
    }
}

#[tokio::test]
async fn steps_run_in_order_and_each_is_reported() {
    let directory = Directory::new();
    let executor = PlanExecutor::new("n1", directory.path()).expect("it starts");
    let steps = (0..5).map(|n| step(format!("echo $GREETING {n}; {}", directory.note(&n.to_string())))).collect();
    let (outcome, reports) = execute(&executor, &job(vec![sequence(false, steps)])).await;
    let Outcome::Succeeded(value) = outcome else { panic!("{outcome:?}") };
    assert_eq!(value.text(), r#"{"succeeded":5,"failed":0,"skipped":0,"interrupted":0}"#);
    assert_eq!(directory.ledger(), "0\n1\n2\n3\n4\n");
    let said: Vec<_> = reports.iter().map(|report| (report.step, report.stdout.head.as_str())).collect();
    assert_eq!(said, [(0, "hi 0\n"), (1, "hi 1\n"), (2, "hi 2\n"), (3, "hi 3\n"), (4, "hi 4\n")]);
    assert!(reports.iter().all(|report| report.verb == "RUN" && report.micros > 0 && report.name.starts_with("echo")));
}

#[tokio::test]
async fn a_failed_step_skips_the_rest_of_its_sequence_and_no_other() {
    let directory = Directory::new();
    let executor = PlanExecutor::new("n1", directory.path()).expect("it starts");
    let failing = Step { name: "install".to_owned(), ..step("echo no such package >&2; exit 2") };
    let sequences = vec![
        sequence(false, vec![step("true"), failing, step(directory.note("never")), step(directory.note("never"))]),
        sequence(false, vec![step(directory.note("second"))]),
        sequence(true, vec![step(directory.note("beside"))]),
    ];
    let (outcome, reports) = execute(&executor, &job(sequences)).await;
    use StepState::{Failed, Skipped, Succeeded};
    assert_eq!(states(&reports), [Succeeded, Failed, Skipped, Skipped, Succeeded, Succeeded]);
    let failure = failure(outcome);
    assert_eq!(failure.cause, Cause::Exit);
    assert_eq!(failure.message, "node n1: step 1 `install`: exit code 2: no such package");
    assert!(!directory.ledger().contains("never") && directory.ledger().contains("second"));
}

#[tokio::test]
async fn a_redelivered_plan_goes_on_after_its_last_report_and_repeats_what_it_may() {
    let directory = Directory::new();
    let executor = PlanExecutor::new("n1", directory.path()).expect("it starts");
    let again = Step { on_interrupt: OnInterrupt::Run, ..step(directory.note("1")) };
    let job = job(vec![sequence(false, vec![step(directory.note("0")), again, step(directory.note("2"))])]);
    // Cut in the middle of step 1, with a torn line after its start.
    let path = Journal::place(directory.path(), job.id, 0);
    let (journal, _) = Journal::open(&path).expect("it opens").expect("nobody has it");
    journal.write(&[StepReport { job: job.id, ..report(0) }], Some(1)).expect("it writes");
    drop(journal);
    let torn = [fs::read(&path).expect("it is there"), b"{\"report\":{\"jo".to_vec()].concat();
    fs::write(&path, torn).expect("it writes");
    let (outcome, reports) = execute(&executor, &job).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    assert_eq!(directory.ledger(), "1\n2\n", "step 0 was done before");
    assert_eq!((reports.len(), reports[0].micros), (3, 5), "its report is handed over again as it was");
}

#[tokio::test]
async fn a_cut_step_that_may_not_be_repeated_is_interrupted_and_ends_its_sequence() {
    let directory = Directory::new();
    let executor = PlanExecutor::new("n1", directory.path()).expect("it starts");
    let job = job(vec![sequence(false, vec![step(directory.note("0")), step(directory.note("1"))])]);
    fs::write(Journal::place(directory.path(), job.id, 0), "{\"start\":0}\n").expect("it writes");
    let (outcome, reports) = execute(&executor, &job).await;
    assert_eq!(states(&reports), [StepState::Interrupted, StepState::Skipped]);
    assert_eq!((failure(outcome).cause, directory.ledger().as_str()), (Cause::Interrupted, ""));
}

#[tokio::test]
async fn an_ended_plan_is_answered_from_its_journal_and_a_replay_runs_anew() {
    let directory = Directory::new();
    let executor = PlanExecutor::new("n1", directory.path()).expect("it starts");
    let mut job = job(vec![sequence(false, vec![step(directory.note("ran")), step("exit 1")])]);
    let first = execute(&executor, &job).await;
    let second = execute(&executor, &job).await;
    assert_eq!(first, second);
    assert_eq!(directory.ledger(), "ran\n");
    job.replay = 1;
    execute(&executor, &job).await;
    assert_eq!(directory.ledger(), "ran\nran\n");
}

/// Runs a plan whose first step says when it runs, and cancels it then.
async fn cancelled_in_the_first_step(directory: &Directory, job: &Job, why: Cancelled) -> (Outcome, Vec<StepReport>) {
    let executor = PlanExecutor::new("n1", directory.path()).expect("it starts");
    let (to, mut from) = mpsc::channel(1000);
    let context = Context::new(Uuid::now_v7(), Some(to));
    let canceller = context.canceller();
    let listen = async {
        let mut reports = Vec::new();
        while let Some(emission) = from.recv().await {
            match emission {
                Emission::Output(Stream::Stdout, _) => canceller.cancel(why.clone()),
                Emission::Steps(more) => reports.extend(more),
                _ => {}
            }
        }
        reports
    };
    let run = async move {
        let outcome = executor.run(job, &context).await;
        drop(context);
        outcome
    };
    tokio::join!(run, listen)
}

#[tokio::test]
async fn a_drain_stops_between_two_steps_and_the_rest_runs_at_the_redelivery() {
    let directory = Directory::new();
    let slow = format!("echo ready; sleep 0.3; {}", directory.note("0"));
    let job = job(vec![sequence(false, vec![step(slow), step(directory.note("1"))])]);
    let (outcome, reports) = cancelled_in_the_first_step(&directory, &job, Cancelled::Drain).await;
    assert_eq!(failure(outcome).cause, Cause::Cancelled);
    assert_eq!(states(&reports), [StepState::Succeeded]);
    let executor = PlanExecutor::new("n1", directory.path()).expect("it starts");
    let (outcome, reports) = execute(&executor, &job).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)) && reports.len() == 2);
    assert_eq!(directory.ledger(), "0\n1\n");
}

#[tokio::test]
async fn a_cancelled_plan_ends_its_step_and_skips_the_rest() {
    let directory = Directory::new();
    let job = job(vec![
        sequence(false, vec![step("echo ready; sleep 300"), step(directory.note("1"))]),
        sequence(false, vec![step(directory.note("2"))]),
    ]);
    let (outcome, reports) = cancelled_in_the_first_step(&directory, &job, Cancelled::Person("anna".to_owned())).await;
    let stands = failure(outcome);
    assert_eq!(stands.cause, Cause::Cancelled);
    assert_eq!(states(&reports), [StepState::Failed, StepState::Skipped, StepState::Skipped]);
    assert_eq!(reports[2].failure.as_ref().map(|failure| failure.message.as_str()), Some("cancelled: anna"));
    let executor = PlanExecutor::new("n1", directory.path()).expect("it starts");
    assert_eq!(failure(execute(&executor, &job).await.0), stands, "a redelivery is answered the same");
    assert_eq!(directory.ledger(), "");
}

#[tokio::test]
async fn a_dropped_plan_ends_its_step_and_frees_its_journal() {
    let directory = Directory::new();
    let executor = PlanExecutor::new("n1", directory.path()).expect("it starts");
    let again = Step { on_interrupt: OnInterrupt::Run, ..step(format!("echo $$; {}; sleep 300", directory.note("x"))) };
    let job = job(vec![sequence(false, vec![again])]);
    let (to, mut from) = mpsc::channel(1000);
    let context = Context::new(Uuid::now_v7(), Some(to));
    tokio::select! {
        _ = executor.run(&job, &context) => panic!("it sleeps for minutes"),
        _ = from.recv() => {}
    }
    // The journal is free when the step's thread has let go of it.
    let path = Journal::place(directory.path(), job.id, 0);
    let free = super::execute::open(&path, &context).await.expect("it opens");
    assert!(free.is_some_and(|(_, past)| past.was_cut(0)));
}

#[tokio::test]
async fn a_step_out_of_time_is_ended_and_a_step_with_tries_left_is_repeated() {
    let directory = Directory::new();
    let executor = PlanExecutor::new("n1", directory.path()).expect("it starts");
    let endless = Step { timeout_ms: u64::MAX, ..step("true") };
    let late = Step { timeout_ms: 200, ..step("sleep 300") };
    let script = format!("{}; test $(wc -l < {}/ledger) = 2", directory.note("t"), directory.path().display());
    let twice = Step { tries: 2, ..step(script) };
    let (outcome, reports) =
        execute(&executor, &job(vec![sequence(false, vec![twice, endless]), sequence(false, vec![late])])).await;
    assert_eq!(states(&reports), [StepState::Succeeded, StepState::Succeeded, StepState::Failed]);
    assert_eq!((failure(outcome).cause, directory.ledger().as_str()), (Cause::Timeout, "t\nt\n"));
}

#[tokio::test]
async fn a_detached_step_is_reported_at_once_and_left_alone() {
    let directory = Directory::new();
    let executor = PlanExecutor::new("n1", directory.path()).expect("it starts");
    let fifo = directory.path().join("fifo");
    let made = step(format!("mkfifo {}", fifo.display()));
    // It waits for a reader, whom only the next step is.
    let mut detached = step(format!("echo \"it's alive\" > {}", fifo.display()));
    let Action::Run { no_block, .. } = &mut detached.action;
    *no_block = true;
    let read = step(format!("cat {}", fifo.display()));
    let (outcome, reports) = execute(&executor, &job(vec![sequence(false, vec![made, detached, read])])).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    assert_eq!(reports[2].stdout.head, "it's alive\n");
}

#[tokio::test]
async fn async_sequences_run_beside_the_others() {
    let directory = Directory::new();
    let executor = PlanExecutor::new("n1", directory.path()).expect("it starts");
    let fifo = directory.path().join("fifo").display().to_string();
    std::process::Command::new("mkfifo").arg(&fifo).status().expect("it is made");
    // Each end of a fifo waits for the other: one after the other would never end.
    let sequences = vec![
        sequence(false, vec![step(format!("cat {fifo}"))]),
        sequence(true, vec![step(format!("echo met > {fifo}"))]),
    ];
    let (outcome, reports) = execute(&executor, &job(sequences)).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    assert_eq!(reports[0].stdout.head, "met\n");
}

#[tokio::test]
async fn sync_sequences_of_two_plans_never_overlap() {
    let directory = Directory::new();
    let executor = PlanExecutor::new("n1", directory.path()).expect("it starts");
    let script = format!("{}; sleep 0.05; {}", directory.note("in"), directory.note("out"));
    let plan = || job(vec![sequence(false, vec![step(script.clone()), step(script.clone())])]);
    let (one, two) = (plan(), plan());
    tokio::join!(execute(&executor, &one), execute(&executor, &two));
    assert_eq!(directory.ledger(), "in\nout\n".repeat(4));
}

#[tokio::test]
async fn a_plan_for_another_node_and_args_that_are_no_plan_are_refused() {
    let directory = Directory::new();
    let executor = PlanExecutor::new("n2", directory.path()).expect("it starts");
    let refused = failure(execute(&executor, &job(vec![])).await.0);
    assert_eq!(refused.cause, Cause::Args);
    assert!(refused.message.contains("`n1`") && refused.message.contains("`n2`"));
    let rubbish = Job::new(PLAN_KIND, "node.n2", Json::empty());
    assert_eq!(failure(execute(&executor, &rubbish).await.0).cause, Cause::Args);
}

#[test]
fn a_step_with_a_field_nobody_knows_is_refused_by_its_name() {
    let read = |text: &str| serde_json::from_str::<Step>(text);
    assert_eq!(read(r#"{"item":3,"verb":"RUN","script":"true","timeout_ms":5}"#).map(|step| step.item).ok(), Some(3));
    let error = read(r#"{"item":3,"verb":"RUN","script":"true","timeout_ms":5,"trys":2}"#).expect_err("unknown");
    assert!(error.to_string().contains("trys"), "{error}");
}
