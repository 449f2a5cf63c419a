//! The tables `driven`, `members` and `needs`: runs of jobs as the part `trigger` knows them.
//!
//! Owns what is stored of an end, and what is due after it; `step` is one run's change within a transaction,
//! `questions` what is asked. The first end of a member counts, and a member is due once in a replay of its run.
//! Refuses to publish, and to read what the recorder writes.

mod questions;
mod row;
mod step;

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_executors::State;
use uuid::Uuid;

use super::{
    Results, ResultsError, Store,
    database::{Sql, Value, Writing, holes},
    schedules::{ended, noted},
    write::anew,
};
use crate::{
    entry::RunReport,
    next::{End, Member, Next},
};
use step::Step;

/// What is due is published at once; after this long, and more in a large run, any trigger may do it.
const OVERDUE: i64 = 5_000_000;

/// What a job is within its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One of its members.
    Member,
    /// It undoes one.
    Compensation,
    /// It follows when all have succeeded.
    Then,
    /// It comes last.
    Finally,
}

impl Role {
    const ALL: [Self; 4] = [Self::Member, Self::Compensation, Self::Then, Self::Finally];

    const fn number(self) -> i64 {
        match self {
            Self::Member => 0,
            Self::Compensation => 1,
            Self::Then => 2,
            Self::Finally => 3,
        }
    }

    fn of(number: i64) -> Self {
        Self::ALL.into_iter().find(|role| role.number() == number).unwrap_or(Self::Member)
    }
}

/// A member that is to be published.
#[derive(Clone, Debug)]
pub struct Due {
    /// The run.
    pub run: Uuid,
    /// The job's id.
    pub job: Uuid,
    /// Its name within the run.
    pub name: String,
    /// What it is there.
    pub role: Role,
    /// As it was accepted.
    pub member: Member,
    /// Which replay of it.
    pub replay: u32,
}

/// What is to be done after a change.
#[derive(Debug, Default)]
pub struct Followed {
    /// Start or end of runs, to be reported, each with its stamp.
    pub tell: Vec<(RunReport, i64)>,
    /// To be published.
    pub due: Vec<Due>,
}

/// A member as people see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemberRow {
    /// Its name.
    pub name: String,
    /// Its job.
    pub job: Uuid,
    /// `waiting`, `due`, `published`, `skipped`, or the state in which its job ended.
    pub state: String,
    /// Which replay of it.
    pub replay: u32,
    /// The members it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The words of a member that has not ended, and of one that never starts.
mod word {
    pub const WAITING: &str = "waiting";
    pub const DUE: &str = "due";
    pub const PUBLISHED: &str = "published";
    pub const SKIPPED: &str = "skipped";
}

fn is_open(state: &str) -> bool {
    [word::WAITING, word::DUE, word::PUBLISHED].contains(&state)
}

/// Says of a run that it was cancelled, by whom and why.
pub type IsCancelled<'a> = &'a (dyn Fn(Uuid) -> Option<String> + Sync);

impl Results {
    /// Stores what these messages say, in one transaction, idempotently; tells what is to be done then.
    pub async fn follow(&self, said: &[Next], cancelled: IsCancelled<'_>) -> Result<Followed, ResultsError> {
        anew(|| self.0.follow_once(said, cancelled)).await
    }

    /// Writes down that these members, by run, job and replay, are with the broker.
    pub async fn published(&self, of: &[(Uuid, Uuid, u32)]) -> Result<(), ResultsError> {
        if of.is_empty() {
            return Ok(());
        }
        let sql: Sql = format!(
            "UPDATE members SET state = '{}', due = NULL WHERE run = ? AND job = ? AND replay = ? AND state = '{}'",
            word::PUBLISHED,
            word::DUE
        )
        .into();
        let mut sorted = of.to_vec();
        sorted.sort_unstable();
        let mut runs: Vec<Uuid> = sorted.iter().map(|(run, ..)| *run).collect();
        runs.dedup();
        let mut writing = self.0.database.begin().await?;
        for run in runs {
            // Whoever changes members has the lock of their run.
            let sql = format!("SELECT phase FROM driven WHERE run = ?{}", self.0.database.flavour().lock());
            writing.fetch(&sql.into(), vec![Value::Id(run)]).await?;
        }
        for (run, job, replay) in sorted {
            writing.run(&sql, vec![Value::Id(run), Value::Id(job), Value::Int(replay.into())]).await?;
        }
        writing.commit().await
    }

    /// Writes down that a run's start or end was reported.
    pub async fn told(&self, run: Uuid, stamp: i64) -> Result<(), ResultsError> {
        let sql: Sql = "UPDATE driven SET untold = NULL WHERE run = ? AND untold = ?".into();
        let mut writing = self.0.database.begin().await?;
        writing.run(&sql, vec![Value::Id(run), Value::Int(stamp)]).await?;
        writing.commit().await
    }
}

impl Store {
    async fn follow_once(&self, said: &[Next], cancelled: IsCancelled<'_>) -> Result<Followed, ResultsError> {
        // In the order of their ids, so that two triggers do not wait for each other.
        let mut by_run: BTreeMap<Uuid, Vec<&Next>> = BTreeMap::new();
        let mut alone = Vec::new();
        for next in said {
            let run = match next {
                Next::Run(run) => run.run,
                Next::Again(again) => again.run,
                Next::End(end) => match end.run {
                    Some(run) => run,
                    None => {
                        alone.push(&**end);
                        continue;
                    }
                },
            };
            by_run.entry(run).or_default().push(next);
        }
        let mut followed = Followed::default();
        let mut writing = self.database.begin().await?;
        ended(&mut writing, self.database.flavour(), &alone, false).await?;
        for (run, said) in by_run {
            let new = said.iter().find_map(|next| if let Next::Run(new) = next { Some(&**new) } else { None });
            let Some(mut step) = Step::open(&mut writing, self.database.flavour(), run, new, self.clock()).await?
            else {
                continue;
            };
            step.cancelled = cancelled(run);
            let mut ends = Vec::new();
            for next in said {
                match next {
                    Next::Run(_) => {}
                    Next::End(end) => ends.push(&**end),
                    Next::Again(again) => {
                        step.ends(&std::mem::take(&mut ends)).await?;
                        step.again(again).await?;
                    }
                }
            }
            step.ends(&ends).await?;
            step.close(&mut followed).await?;
            if let Some(note) = new.and_then(|new| new.note.as_deref()) {
                noted(&mut writing, self.database.flavour(), run, note).await?;
            }
        }
        // A run may be that of an instant.
        let over: Vec<End> = followed.tell.iter().filter_map(|(report, _)| End::of_run(report)).collect();
        ended(&mut writing, self.database.flavour(), &over.iter().collect::<Vec<_>>(), true).await?;
        writing.commit().await?;
        Ok(followed)
    }
}

/// Ids as the end of a statement, `(?, ?, ...)`, in a few widths, so that the statement is found again.
pub(super) fn list(ids: &[Uuid]) -> (String, impl Iterator<Item = Value> + use<>) {
    let width = [1, 8, 64, 512].into_iter().find(|width| *width >= ids.len()).unwrap_or(ids.len());
    let mut padded: Vec<Value> = ids.iter().map(|id| Value::Id(*id)).collect();
    padded.resize(width, Value::Id(Uuid::nil()));
    (format!("({})", holes(width)), padded.into_iter())
}

/// As many ids as go into one statement.
pub(super) const AT_ONCE: usize = 512;

/// Is it a final word of a job, and a good one?
fn succeeded(state: &str) -> bool {
    state == State::Succeeded.word()
}

fn instant(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or_default()
}

/// Inserts rows of a table, many to a statement.
async fn insert(
    writing: &mut Writing,
    table: &str,
    columns: &[&str],
    rows: Vec<Vec<Value>>,
) -> Result<(), ResultsError> {
    let mut rows = rows.into_iter();
    while rows.len() > 0 {
        let count = if rows.len() >= 100 { 100 } else { rows.len().min(10) };
        let count = if rows.len() >= count && (count == 100 || count == 10) { count } else { 1 };
        let row = format!("({})", holes(columns.len()));
        let sql = format!("INSERT INTO {table} ({}) VALUES {}", columns.join(", "), vec![row; count].join(", "));
        writing.run(&sql.into(), rows.by_ref().take(count).flatten().collect()).await?;
    }
    Ok(())
}
