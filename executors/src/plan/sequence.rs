//! The steps of a sequence, one after another, each journalled before it counts.
//!
//! Owns what a failed, cut or skipped step means for those after it. Runs on a thread of its own.

use std::{io, mem};

use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Action, OnInterrupt, Plan, Sequence, Step,
    journal::{Journal, Past},
};
use crate::{
    Cancelled, Cause, Context, Failure, Output, StepReport, StepState,
    process::{EndedBy, Spawn, run_here},
};

/// Detached: its output goes nowhere, its parent ends at once and leaves it alone.
const DETACH: &str = r#"exec </dev/null >/dev/null 2>&1; /bin/sh -c "$1" &"#;

/// One execution of one plan.
pub(super) struct Work {
    pub job: Uuid,
    pub run: Option<Uuid>,
    pub plan: Plan,
    pub journal: Journal,
    pub past: Past,
    pub context: Context,
}

/// How steps ended.
#[derive(Default)]
pub(super) struct Tally {
    pub succeeded: u32,
    pub failed: u32,
    pub skipped: u32,
    pub interrupted: u32,
    /// Neither run nor skipped, because a drain came first.
    pub left: u32,
    /// The failed or interrupted step with the lowest number.
    pub first_failure: Option<StepReport>,
}

impl Tally {
    fn count(&mut self, report: &StepReport) {
        match report.state {
            StepState::Succeeded => self.succeeded += 1,
            StepState::Skipped => self.skipped += 1,
            StepState::Failed => self.failed += 1,
            StepState::Interrupted => self.interrupted += 1,
        }
        if matches!(report.state, StepState::Failed | StepState::Interrupted) {
            self.offer(report.clone());
        }
    }

    /// Adds what another chain of the plan counted.
    pub fn add(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.interrupted += other.interrupted;
        self.left += other.left;
        if let Some(report) = other.first_failure {
            self.offer(report);
        }
    }

    fn offer(&mut self, report: StepReport) {
        if self.first_failure.as_ref().is_none_or(|first| report.step < first.step) {
            self.first_failure = Some(report);
        }
    }
}

/// What is to be done with a step.
enum Next {
    Run,
    Skip(String),
    Interrupted,
    Leave,
}

impl Work {
    /// Runs sequences, given by place and first step, one after another.
    pub async fn sequences(&self, sequences: &[(usize, u32)]) -> io::Result<Tally> {
        let mut tally = Tally::default();
        for (at, first) in sequences {
            self.sequence(&self.plan.sequences[*at], *first, &mut tally).await?;
        }
        Ok(tally)
    }

    async fn sequence(&self, sequence: &Sequence, first: u32, tally: &mut Tally) -> io::Result<()> {
        // Ended and not in the journal yet: written together with the next start, in one write.
        let mut ended: Vec<StepReport> = Vec::new();
        let mut broken = None;
        for (number, step) in (first..).zip(&sequence.steps) {
            if let Some(report) = self.past.reports.get(&number) {
                tally.count(report);
                broken = broken.or_else(|| breaks(report));
                continue;
            }
            let report = match self.next(number, step, broken.as_ref()) {
                Next::Leave => {
                    tally.left += 1;
                    continue;
                }
                Next::Skip(why) => {
                    let failure = Failure { cause: Cause::Cancelled, message: why };
                    self.report(sequence, step, number, StepState::Skipped, Some(failure))
                }
                Next::Interrupted => {
                    let message = "cut in the middle by the end of its consumer, and not repeated".to_owned();
                    let failure = Failure { cause: Cause::Interrupted, message };
                    self.report(sequence, step, number, StepState::Interrupted, Some(failure))
                }
                Next::Run => {
                    self.journal.write(&ended, Some(number))?;
                    // Handed over beside the step, so that a slow listener is not mistaken for a
                    // step that runs.
                    let handed = self.hand_over(mem::take(&mut ended));
                    tokio::join!(handed, self.step(sequence, step, number)).1
                }
            };
            tally.count(&report);
            broken = broken.or_else(|| breaks(&report));
            ended.push(report);
        }
        self.journal.write(&ended, None)?;
        self.hand_over(ended).await;
        Ok(())
    }

    fn next(&self, number: u32, step: &Step, broken: Option<&u32>) -> Next {
        if let Some(at) = broken {
            return Next::Skip(format!("step {at} before it did not succeed"));
        }
        match self.context.why_cancelled() {
            Some(Cancelled::Drain) => Next::Leave,
            Some(why) => Next::Skip(why.failure().message),
            None if self.past.was_cut(number) && step.on_interrupt == OnInterrupt::Fail => Next::Interrupted,
            None => Next::Run,
        }
    }

    async fn hand_over(&self, reports: Vec<StepReport>) {
        for report in reports {
            self.context.step(report).await;
        }
    }

    /// Runs one step, as often as it may.
    async fn step(&self, sequence: &Sequence, step: &Step, number: u32) -> StepReport {
        let mut report = self.report(sequence, step, number, StepState::Succeeded, None);
        let start = Instant::now();
        let spawn = spawn(step, number);
        for _ in 0..step.tries.max(1) {
            let stop = match run_here(&spawn, &self.context).await {
                Ok(ended) => {
                    report.failure = ended.failure();
                    report.exit = ended.exit;
                    report.stdout = ended.stdout;
                    report.stderr = ended.stderr;
                    matches!(ended.by, EndedBy::Cancelled(_))
                }
                Err(error) => {
                    report.failure = Some(error.failure());
                    false
                }
            };
            if stop || report.failure.is_none() {
                break;
            }
        }
        if report.failure.is_some() {
            report.state = StepState::Failed;
        }
        report.micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        report
    }

    fn report(
        &self,
        sequence: &Sequence,
        step: &Step,
        number: u32,
        state: StepState,
        failure: Option<Failure>,
    ) -> StepReport {
        StepReport {
            job: self.job,
            run: self.run,
            node: self.plan.node.clone(),
            step: number,
            part: sequence.part,
            item: step.item,
            name: name(step),
            verb: step.action.verb().to_owned(),
            state,
            failure,
            exit: None,
            stdout: Output::default(),
            stderr: Output::default(),
            started: Timestamp::now(),
            micros: 0,
        }
    }
}

/// The step at which its sequence ends, when it is this one.
fn breaks(report: &StepReport) -> Option<u32> {
    matches!(report.state, StepState::Failed | StepState::Interrupted).then_some(report.step)
}

/// Its name, or the first line of what it runs.
fn name(step: &Step) -> String {
    if !step.name.is_empty() {
        return step.name.clone();
    }
    let Action::Run { script, .. } = &step.action;
    script.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().chars().take(200).collect()
}

fn spawn(step: &Step, number: u32) -> Spawn {
    let Action::Run { script, env, no_block } = &step.action;
    let mut spawn = Spawn::shell(if *no_block { DETACH } else { script });
    if *no_block {
        spawn.args.extend(["sh".to_owned(), script.clone()]);
    }
    Spawn { env: env.clone(), limit: Some(step.timeout()), part: Some(number), outlasts_drain: true, ..spawn }
}
