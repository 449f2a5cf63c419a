//! Writing: entries and letters into rows, rows into a few statements, one transaction a batch.
//!
//! Owns the chunking and the deadlock retry. Rows are sorted by key, and what a batch says twice
//! is said once.

use std::{collections::BTreeMap, time::Duration};

use spinor_executors::{Report, StepReport, StepState};
use uuid::Uuid;

use super::{
    DeadLetter, ResultsError, Store,
    change::{Change, Edit, VERSION, clip, merge},
    database::{Value, Writing},
    errors::is_deadlock,
    statements::{COUNTS, Table},
};
use crate::{
    entry::{Entry, RunReport},
    message::Message,
};

const DEADLOCK_TRIES: u32 = 6;
/// No statement is larger, unless one row is.
const STATEMENT_BYTES: usize = 4 << 20;

/// The rows of one batch, by table.
#[derive(Default)]
pub struct Rows {
    jobs: Vec<Change>,
    others: Vec<(Table, Vec<Vec<Value>>)>,
    /// Jobs whose first entry is not what they are.
    edited: Vec<Edit>,
}

impl Rows {
    /// Of entries.
    pub fn of(entries: &[Entry]) -> Self {
        let mut attempts = BTreeMap::new();
        let mut steps: BTreeMap<(Uuid, u32), &StepReport> = BTreeMap::new();
        let mut runs: BTreeMap<Uuid, &RunReport> = BTreeMap::new();
        for entry in entries {
            match entry {
                Entry::Queued(_) | Entry::Edited(_) => {}
                Entry::Report(report) if report.state.rank() < 2 => {}
                Entry::Report(report) => {
                    let key = (report.job, report.replay, report.attempt, report.execution);
                    attempts.entry(key).or_insert(report);
                }
                Entry::Step(step) => {
                    let last = steps.entry((step.job, step.step)).or_insert(step);
                    if step.started > last.started {
                        *last = step;
                    }
                }
                Entry::Run(run) => {
                    let last = runs.entry(run.run).or_insert(run);
                    if run.replay > last.replay
                        || (run.replay == last.replay && last.ended.is_none() && run.ended.is_some())
                    {
                        *last = run;
                    }
                }
            }
        }
        let changes = entries.iter().filter_map(|entry| match entry {
            Entry::Queued(job) | Entry::Edited(job) => Some(Change::queued(job)),
            Entry::Report(report) => Some(Change::reported(report)),
            Entry::Step(_) | Entry::Run(_) => None,
        });
        let others = vec![
            (Table::Attempts, attempts.into_values().map(|report| attempt_row(report)).collect()),
            (Table::Steps, steps.into_values().map(step_row).collect()),
            (Table::Runs, runs.into_values().map(run_row).collect()),
        ];
        let edited = entries.iter().filter_map(|entry| match entry {
            Entry::Edited(job) => Some(Edit::of(job)),
            _ => None,
        });
        Self { jobs: merge(changes), others, edited: edited.collect() }
    }

    /// Of dead letters: their own rows, and the state of those jobs that are jobs.
    pub fn buried(letters: &[(Message, DeadLetter)]) -> Self {
        let mut rows: BTreeMap<(Uuid, u32, u32), &(Message, DeadLetter)> = BTreeMap::new();
        for pair in letters {
            rows.entry((pair.1.job, pair.1.replay, pair.1.attempt)).or_insert(pair);
        }
        let changes = letters.iter().filter_map(|(message, letter)| Change::buried(message, letter));
        let dead = rows.into_values().map(|(message, letter)| dead_row(message, letter)).collect();
        Self { jobs: merge(changes), others: vec![(Table::Dead, dead)], edited: Vec::new() }
    }

    /// With what somebody wants to hear of them.
    pub fn noticed(mut self, notices: Vec<Vec<Value>>) -> Self {
        self.others.push((Table::Notices, notices));
        self
    }

    /// With what they add to the figures.
    pub fn counted(mut self, [minutes, hours]: [Vec<Vec<Value>>; 2]) -> Self {
        // Last: others wait for these rows until the commit.
        self.others.extend([(Table::Figures, minutes), (Table::Hours, hours)]);
        self
    }
}

impl Store {
    /// Writes a batch in one transaction; a deadlock is tried again, with the rows made anew, so
    /// that they move into the statements instead of being copied.
    pub async fn write(&self, rows: impl Fn() -> Rows) -> Result<(), ResultsError> {
        anew(|| self.write_once(rows())).await
    }

    async fn write_once(&self, rows: Rows) -> Result<(), ResultsError> {
        let mut writing = self.database.begin().await?;
        let updated = self.clock();
        let jobs = rows.jobs.into_iter().map(|change| change.values(updated));
        self.insert(&mut writing, Table::Jobs, jobs).await?;
        for edit in rows.edited {
            writing.run(&self.statements.edit, edit.values(updated)).await?;
        }
        for (table, rows) in rows.others {
            self.insert(&mut writing, table, rows.into_iter()).await?;
        }
        if let Some(before) = self.counting.sweeps() {
            writing.run(&self.statements.sweep_figures, vec![Value::Int(before)]).await?;
            writing.run(&self.statements.sweep_hours, vec![Value::Int(before.div_euclid(60))]).await?;
        }
        writing.commit().await
    }

    /// Inserts rows, as many to a statement as fit.
    async fn insert(
        &self,
        writing: &mut Writing,
        table: Table,
        rows: impl Iterator<Item = Vec<Value>>,
    ) -> Result<(), ResultsError> {
        let limit = STATEMENT_BYTES.min(self.database.packet() / 2);
        let mut waiting: Vec<Vec<Value>> = Vec::with_capacity(COUNTS[0]);
        let mut bytes = 0;
        for row in rows {
            let size: usize = row.iter().map(Value::size).sum();
            if size + 1024 > self.database.packet() {
                let why = format!("a row of {size} bytes, more than the server takes in one statement");
                return Err(ResultsError::Refused(why));
            }
            if bytes + size > limit || waiting.len() == COUNTS[0] {
                self.flush(writing, table, &mut waiting).await?;
                bytes = 0;
            }
            bytes += size;
            waiting.push(row);
        }
        self.flush(writing, table, &mut waiting).await
    }

    async fn flush(
        &self,
        writing: &mut Writing,
        table: Table,
        waiting: &mut Vec<Vec<Value>>,
    ) -> Result<(), ResultsError> {
        let mut rows = waiting.drain(..);
        while rows.len() > 0 {
            // The last count is 1, so one always fits.
            let count = COUNTS.iter().position(|count| *count <= rows.len()).unwrap_or(COUNTS.len() - 1);
            let values: Vec<Value> = rows.by_ref().take(COUNTS[count]).flatten().collect();
            writing.run(self.statements.insert(table, count), values).await?;
        }
        Ok(())
    }
}

/// An error that may be that of a transaction.
pub trait OfResults {
    /// What the database said.
    fn said(&self) -> Option<&ResultsError>;
}

impl OfResults for ResultsError {
    fn said(&self) -> Option<&ResultsError> {
        Some(self)
    }
}

/// Does a transaction, and does it anew, a little later, when it met another one and nothing of it is there.
pub async fn anew<T, E: OfResults, F: Future<Output = Result<T, E>>>(work: impl Fn() -> F) -> Result<T, E> {
    for tries in 1..DEADLOCK_TRIES {
        match work().await {
            Err(error) if error.said().is_some_and(is_deadlock) => {
                tokio::time::sleep(Duration::from_millis(u64::from(10 * tries + jitter(20)))).await;
            }
            end => return end,
        }
    }
    work().await
}

/// Up to `limit`, drawn from the random bits of a fresh id.
pub fn jitter(limit: u32) -> u32 {
    (Uuid::now_v7().as_u128() as u32) % limit.max(1)
}

fn attempt_row(report: &Report) -> Vec<Value> {
    // The whole job has its own place.
    let text = if report.whole.is_some() {
        let mut bare = report.clone();
        bare.whole = None;
        serde_json::to_string(&bare)
    } else {
        serde_json::to_string(report)
    };
    vec![
        Value::Id(report.job),
        Value::Int(report.replay.into()),
        Value::Int(report.attempt.into()),
        Value::Id(report.execution),
        Value::Text(report.state.word().to_owned()),
        Value::Int(report.started.as_microsecond()),
        Value::Int(report.ended.as_microsecond()),
        Value::Text(text.unwrap_or_default()),
    ]
}

fn step_row(step: &StepReport) -> Vec<Value> {
    let outputs = (!step.stdout.is_empty() || !step.stderr.is_empty())
        .then(|| serde_json::to_string(&(&step.stdout, &step.stderr)).unwrap_or_default());
    let text = if outputs.is_some() {
        let mut bare = step.clone();
        bare.stdout = spinor_executors::Output::default();
        bare.stderr = spinor_executors::Output::default();
        serde_json::to_string(&bare)
    } else {
        serde_json::to_string(step)
    };
    vec![
        Value::Id(step.job),
        Value::Int(step.step.into()),
        Value::MaybeId(step.run),
        Value::Text(clip(&step.node, 255)),
        Value::Int(step.part.into()),
        Value::Int(step.item.into()),
        Value::Text(step_word(step.state).to_owned()),
        Value::Int(i64::try_from(step.micros).unwrap_or(i64::MAX)),
        Value::MaybeInt(step.exit.map(|exit| exit.pid.into())),
        Value::Text(text.unwrap_or_default()),
        Value::MaybeText(outputs),
        Value::Int(step.started.as_microsecond()),
    ]
}

/// The word of a step's state.
pub const fn step_word(state: StepState) -> &'static str {
    match state {
        StepState::Succeeded => "succeeded",
        StepState::Failed => "failed",
        StepState::Skipped => "skipped",
        StepState::Interrupted => "interrupted",
    }
}

fn run_row(run: &RunReport) -> Vec<Value> {
    vec![
        Value::Id(run.run),
        Value::Text(clip(&run.name, 500)),
        Value::Int(run.members.into()),
        Value::Int(run.steps.into()),
        Value::Int(run.started.as_microsecond()),
        Value::MaybeInt(run.succeeded.map(i64::from)),
        Value::Text(serde_json::to_string(&run.problems).unwrap_or_default()),
        Value::MaybeInt(run.ended.map(jiff::Timestamp::as_microsecond)),
        Value::Int(run.replay.into()),
    ]
}

fn dead_row(message: &Message, letter: &DeadLetter) -> Vec<Value> {
    vec![
        Value::Id(letter.job),
        Value::Int(letter.replay.into()),
        Value::Int(letter.attempt.into()),
        Value::Text(clip(&letter.kind, 255)),
        Value::Text(clip(&letter.queue, 255)),
        Value::Text(letter.reason.clone()),
        Value::Int(letter.at.as_microsecond()),
        Value::Text(clip(&letter.consumer, 255)),
        Value::Text(letter.fingerprint.clone()),
        Value::Text(clip(&letter.version, VERSION)),
        Value::Text(serde_json::to_string(&message.properties).unwrap_or_default()),
        Value::Blob(message.body.to_vec()),
    ]
}
