//! The three ledgers and their comparison. Pure: the same ledgers, the same problems.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

/// One line of the file the jobs write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The job.
    pub job: Uuid,
    /// The life of the consumer that ran it.
    pub boot: Uuid,
    /// The execution.
    pub execution: Uuid,
}

impl Line {
    /// So long is every line: three UUIDs and what stands between them.
    pub const LENGTH: usize = 3 * 36 + 3;

    /// Reads `JOB BOOT/EXECUTION`.
    pub fn read(text: &str) -> Option<Self> {
        let (job, run) = text.split_once(' ')?;
        let (boot, execution) = run.split_once('/')?;
        Some(Self { job: job.parse().ok()?, boot: boot.parse().ok()?, execution: execution.parse().ok()? })
    }
}

/// One recorded execution.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub job: Uuid,
    pub execution: Uuid,
    pub state: String,
    pub maybe_rerun: bool,
}

/// What was accepted, what was executed, what is recorded.
#[derive(Clone, Debug, Default)]
pub struct Ledgers {
    /// Ids the broker took, in their order.
    pub accepted: Vec<Uuid>,
    /// Lines the jobs wrote, in the order of their files.
    pub lines: Vec<Line>,
    /// Each row of `jobs`: id and state.
    pub jobs: Vec<(Uuid, String)>,
    /// Each row of `attempts`.
    pub attempts: Vec<Recorded>,
    /// The lives that were killed.
    pub killed: Vec<Uuid>,
    /// Jobs that were in hand at a kill because the test saw to it: they prove nothing of the moment.
    pub hostages: Vec<Uuid>,
}

impl Ledgers {
    /// Everything that does not fit.
    pub fn problems(&self) -> Vec<String> {
        let accepted: BTreeSet<Uuid> = self.accepted.iter().copied().collect();
        let lines = group(self.lines.iter().map(|line| (line.job, *line)));
        let jobs = group(self.jobs.iter().cloned());
        let attempts = group(self.attempts.iter().map(|row| (row.job, row.clone())));
        let mut problems = Vec::new();
        for job in &accepted {
            let lines = lines.get(job).map_or(&[][..], Vec::as_slice);
            let attempts = attempts.get(job).map_or(&[][..], Vec::as_slice);
            self.executed(*job, lines, attempts, &mut problems);
            recorded(*job, lines, jobs.get(job).map_or(&[][..], Vec::as_slice), attempts, &mut problems);
        }
        let known = lines.keys().chain(jobs.keys()).chain(attempts.keys()).collect::<BTreeSet<_>>();
        problems.extend(
            known.into_iter().filter(|job| !accepted.contains(job)).map(|job| format!("{job}: never accepted")),
        );
        problems
    }

    fn executed(&self, job: Uuid, lines: &[Line], attempts: &[Recorded], problems: &mut Vec<String>) {
        if lines.is_empty() {
            problems.push(format!("{job}: lost, no execution"));
        }
        let boots: BTreeSet<Uuid> = lines.iter().map(|line| line.boot).collect();
        if boots.len() < lines.len() {
            problems.push(format!("{job}: executed twice by one consumer"));
        }
        let survived = boots.iter().filter(|boot| !self.killed.contains(boot)).count();
        if lines.len() > 1 && survived > 1 {
            problems.push(format!("{job}: executed again though its consumer was not killed"));
        }
        if lines.len() > 1 && !attempts.iter().any(|row| row.maybe_rerun) {
            problems.push(format!("{job}: executed {} times and not marked", lines.len()));
        }
    }

    /// Kills that found ordinary jobs in hand.
    pub fn kills_that_count(&self) -> usize {
        self.killed.iter().filter(|boot| self.in_hand(**boot) > 0).count()
    }

    /// Ordinary jobs that were in hand when this life was killed, as far as the ledgers show: run
    /// by the next life, and marked or run by the killed one, too.
    fn in_hand(&self, killed: Uuid) -> usize {
        let mut boots: Vec<Uuid> = Vec::new();
        for line in &self.lines {
            if !boots.contains(&line.boot) {
                boots.push(line.boot);
            }
        }
        // Boot ids are in the order of time.
        boots.sort_unstable();
        let Some(next) = boots.iter().find(|boot| **boot > killed) else { return 0 };
        let marked: BTreeSet<Uuid> =
            self.attempts.iter().filter(|row| row.maybe_rerun).map(|row| row.execution).collect();
        let counts = |line: &&Line| line.boot == *next && !self.hostages.contains(&line.job);
        let cut: BTreeSet<Uuid> = self.lines.iter().filter(|line| line.boot == killed).map(|line| line.job).collect();
        let was_in_hand = |line: &&Line| marked.contains(&line.execution) || cut.contains(&line.job);
        self.lines.iter().filter(counts).filter(was_in_hand).count()
    }

    /// For people.
    pub fn summary(&self) -> String {
        let lines = group(self.lines.iter().map(|line| (line.job, ())));
        let doubles = lines.values().filter(|executions| executions.len() > 1).count();
        let in_hand: Vec<usize> = self.killed.iter().map(|boot| self.in_hand(*boot)).collect();
        format!(
            "{} accepted, {} executions, {} recorded; {doubles} jobs executed again; in hand at each kill, at most: {in_hand:?}",
            self.accepted.len(),
            self.lines.len(),
            self.jobs.len()
        )
    }

    /// These ledgers, each with a fault in it, and the word by which it must be found.
    pub fn faults(&self) -> Vec<(Self, &'static str)> {
        let lines = group(self.lines.iter().map(|line| (line.job, *line)));
        let marked: BTreeSet<Uuid> = self.attempts.iter().filter(|row| row.maybe_rerun).map(|row| row.job).collect();
        let once = self.lines.iter().find(|line| lines[&line.job].len() == 1 && !marked.contains(&line.job));
        let once = *once.expect("some job was executed once");
        let of = |change: &dyn Fn(&mut Self)| {
            let mut ledgers = self.clone();
            change(&mut ledgers);
            ledgers
        };
        let again = |boot| Line { boot, execution: Uuid::now_v7(), ..once };
        let mut faults = vec![
            (of(&|ledgers| ledgers.lines.retain(|line| line.job != once.job)), "lost, no execution"),
            (of(&|ledgers| ledgers.lines.push(again(once.boot))), "executed twice by one consumer"),
            (of(&|ledgers| ledgers.lines.push(again(self.killed[0]))), "executed 2 times and not marked"),
            (of(&|ledgers| ledgers.lines.push(Line { job: Uuid::now_v7(), ..once })), "never accepted"),
            (of(&|ledgers| ledgers.jobs.retain(|(job, _)| *job != once.job)), "recorded 0 times"),
            (of(&|ledgers| ledgers.jobs.push((once.job, "succeeded".to_owned()))), "recorded 2 times"),
            (of(&|ledgers| ledgers.attempts.retain(|row| row.job != once.job)), "no execution is recorded"),
        ];
        let row = self.attempts.iter().find(|row| row.job == once.job).expect("its record");
        let twice = Recorded { execution: Uuid::now_v7(), ..row.clone() };
        faults.push((of(&|ledgers| ledgers.attempts.push(twice.clone())), "more than one execution without a mark"));
        faults.push((
            of(&|ledgers| ledgers.jobs.iter_mut().for_each(|(_, state)| *state = "running".to_owned())),
            "recorded as running",
        ));
        faults
    }
}

fn recorded(job: Uuid, lines: &[Line], rows: &[String], attempts: &[Recorded], problems: &mut Vec<String>) {
    if rows.len() != 1 {
        problems.push(format!("{job}: recorded {} times", rows.len()));
    }
    problems
        .extend(rows.iter().filter(|state| *state != "succeeded").map(|state| format!("{job}: recorded as {state}")));
    if attempts.is_empty() {
        problems.push(format!("{job}: no execution is recorded"));
    }
    if attempts.iter().filter(|row| !row.maybe_rerun).count() > 1 {
        problems.push(format!("{job}: more than one execution without a mark"));
    }
    for row in attempts {
        if row.state != "succeeded" {
            problems.push(format!("{job}: an execution is recorded as {}", row.state));
        }
        if !lines.iter().any(|line| line.execution == row.execution) {
            problems.push(format!("{job}: recorded execution {} wrote no line", row.execution));
        }
    }
}

fn group<T>(items: impl Iterator<Item = (Uuid, T)>) -> BTreeMap<Uuid, Vec<T>> {
    let mut groups: BTreeMap<Uuid, Vec<T>> = BTreeMap::new();
    for (job, item) in items {
        groups.entry(job).or_default().push(item);
    }
    groups
}
