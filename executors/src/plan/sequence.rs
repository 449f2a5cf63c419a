//! The steps of a sequence, one after another, each journalled before it counts.
//!
//! Owns what a failed, cut or skipped step means for those after it. Runs on a thread of its own.

use std::{io, mem, pin::pin, time::Duration};

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};
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

/// Reports are handed over so far apart: each on its own would wake whoever waits for them, and
/// cost a commit, as often as a short step ends.
const GATHER: Duration = Duration::from_millis(50);

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
    /// The one with a failure and the lowest number.
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
        if report.failure.is_some() {
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

/// Reports that are in the journal and not handed over yet.
struct Gathered {
    reports: Vec<StepReport>,
    due: Instant,
}

impl Gathered {
    fn add(&mut self, ended: &mut Vec<StepReport>) {
        if self.reports.is_empty() {
            self.due = Instant::now() + GATHER;
        }
        self.reports.append(ended);
    }
}

/// What is to be done with a step.
enum Next {
    Run,
    Skip(Option<Failure>),
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
        let mut gathered = Gathered { reports: Vec::new(), due: Instant::now() };
        let end = self.steps(sequence, first, tally, &mut gathered).await;
        self.context.steps(gathered.reports).await;
        end
    }

    async fn steps(
        &self,
        sequence: &Sequence,
        first: u32,
        tally: &mut Tally,
        gathered: &mut Gathered,
    ) -> io::Result<()> {
        // Ended and not in the journal yet: written together with the next start, in one write.
        let mut ended: Vec<StepReport> = Vec::new();
        let mut broken = false;
        for (number, step) in (first..).zip(&sequence.steps) {
            if let Some(report) = self.past.reports.get(&number) {
                tally.count(report);
                broken |= breaks(report);
                continue;
            }
            let report = match self.next(number, step, broken) {
                Next::Leave => {
                    tally.left += 1;
                    continue;
                }
                Next::Skip(why) => self.report(sequence, step, number, StepState::Skipped, why),
                Next::Interrupted => {
                    let message = "cut in the middle by the end of its consumer, and not repeated".to_owned();
                    let failure = Failure { cause: Cause::Interrupted, message };
                    self.report(sequence, step, number, StepState::Interrupted, Some(failure))
                }
                Next::Run => {
                    self.journal.write(&ended, Some(number))?;
                    gathered.add(&mut ended);
                    self.beside(gathered, self.step(sequence, step, number)).await
                }
            };
            tally.count(&report);
            broken |= breaks(&report);
            ended.push(report);
        }
        self.journal.write(&ended, None)?;
        gathered.add(&mut ended);
        Ok(())
    }

    fn next(&self, number: u32, step: &Step, broken: bool) -> Next {
        if broken {
            return Next::Skip(None);
        }
        match self.context.why_cancelled() {
            Some(Cancelled::Drain) => Next::Leave,
            Some(why) => Next::Skip(Some(why.failure())),
            None if self.past.was_cut(number) && step.on_interrupt == OnInterrupt::Fail => Next::Interrupted,
            None => Next::Run,
        }
    }

    /// Runs a step, and hands over beside it what was gathered, when that is due. Not before it,
    /// so that a slow listener is not mistaken for a step that runs.
    async fn beside(&self, gathered: &mut Gathered, step: impl Future<Output = StepReport>) -> StepReport {
        let mut step = pin!(step);
        if Instant::now() < gathered.due {
            tokio::select! {
                // The step first: one that ends within its first moment costs no timer.
                biased;
                report = &mut step => return report,
                () = sleep_until(gathered.due) => {}
            }
        }
        tokio::join!(self.context.steps(mem::take(&mut gathered.reports)), step).1
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

/// Does its sequence end with this step?
const fn breaks(report: &StepReport) -> bool {
    matches!(report.state, StepState::Failed | StepState::Interrupted)
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
