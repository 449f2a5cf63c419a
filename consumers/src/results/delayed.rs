//! The table `timers`: jobs that wait for their time.
//!
//! Owns what is written of them: kept once by their id, listed by their time, edited and cancelled while they
//! wait. A row that the leader has taken to publish it is nobody else's (`firing`). Refuses to publish, and to
//! read what the recorder writes.

mod firing;

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_executors::Job;
use uuid::Uuid;

use super::{
    Page, Results, ResultsError, Store,
    change::clip,
    database::{Column, Sql, Value},
    read::{cursor, json, padded, page, place_of, rows_asked},
    write::anew,
};
use crate::state::Wish;

pub use firing::Look as DelayedLook;

/// The states of a row.
mod state {
    pub const WAITS: i64 = 0;
    pub const TAKEN: i64 = 1;
    pub const CANCELLED: i64 = 2;
}

/// Rows to a statement, and statements to a transaction.
const ROWS: usize = 50;
const STATEMENTS: usize = 10;
/// So many are cancelled in one transaction.
const AT_ONCE: usize = 500;
/// About so many bytes of jobs to a statement.
const BYTES: usize = 1 << 20;
/// Who asked for the end of a job tells of it at once; a leader that finds it later than this does.
const OVERDUE: i64 = 5_000_000;
const COLUMNS: &str = "job, due, queue, kind, revision, changed, changed_by";

/// A delayed job as a line of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waiting {
    /// The job.
    pub id: Uuid,
    /// When it is published.
    pub due: Timestamp,
    /// Its queue.
    pub queue: String,
    /// Its kind.
    pub kind: String,
    /// How often it was edited.
    pub revision: u32,
    /// When it was published or edited, by the database's clock.
    pub changed: Timestamp,
    /// By whom.
    pub changed_by: String,
}

/// A delayed job, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Delayed {
    /// As it stands.
    pub row: Waiting,
    /// As it will be published.
    pub job: Job,
    /// It waits no more: it is being published, or was cancelled.
    pub gone: bool,
    /// Who wants it to end.
    pub cancelled: Option<Wish>,
}

/// Which delayed jobs. Empty means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DelayedFilter {
    /// On this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// At most so many; 0 means 50, at most 1000.
    pub limit: u32,
    /// Where a page before this one ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is done.
    Done,
    /// Somebody else changed it since it was read: read it again.
    Other,
    /// It waits no more.
    Gone,
}

impl Results {
    /// Keeps jobs until their `due`; one that is kept already stays as it is. Durable when it returns.
    pub async fn keep_delayed(&self, jobs: &[&Job], who: &str) -> Result<(), ResultsError> {
        // A publish that is sent again after its job has ended: cancelled perhaps.
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.id).collect();
        let ended: HashSet<Uuid> = self.ended(&ids).await?.into_iter().map(|(id, _)| id).collect();
        let jobs: Vec<&Job> = jobs.iter().filter(|job| !ended.contains(&job.id)).copied().collect();
        for some in jobs.chunks(ROWS * STATEMENTS) {
            anew(|| self.0.keep_delayed(some, who)).await?;
        }
        self.0.nudge.notify_one();
        Ok(())
    }

    /// Those that wait, the next one first.
    pub async fn delayed(&self, filter: &DelayedFilter) -> Result<Page<Waiting>, ResultsError> {
        let mut sql = format!("SELECT {COLUMNS} FROM timers WHERE state = {}", state::WAITS);
        let mut values = Vec::new();
        for (test, name) in [(" AND queue = ?", &filter.queue), (" AND kind = ?", &filter.kind)] {
            if let Some(name) = name {
                sql.push_str(test);
                values.push(Value::Text(clip(name, 255)));
            }
        }
        if let Some(after) = &filter.cursor {
            let Some((at, id)) = place_of(after) else {
                return Err(ResultsError::Refused(format!("`{}` is no cursor", clip(after, 80))));
            };
            sql.push_str(" AND fire_at >= ? AND (fire_at > ? OR job > ?)");
            values.extend([Value::Int(at), Value::Int(at), Value::Id(id)]);
        }
        let limit = rows_asked(filter.limit);
        sql.push_str(&format!(" ORDER BY fire_at, job LIMIT {}", limit + 1));
        let rows = self.0.database.ask(sql, values).await?;
        page(&rows, limit, waiting, |row| cursor(row.due, row.id))
    }

    /// One of them, also while it is being published.
    pub async fn delayed_job(&self, id: Uuid) -> Result<Option<Delayed>, ResultsError> {
        let sql = format!("SELECT {COLUMNS}, spec, state, why FROM timers WHERE job = ?");
        let rows = self.0.database.ask(sql, vec![Value::Id(id)]).await?;
        rows.first().map(delayed).transpose()
    }

    /// When those of these that are kept are due.
    pub async fn delayed_until(&self, of: &[Uuid]) -> Result<BTreeMap<Uuid, Timestamp>, ResultsError> {
        let mut found = BTreeMap::new();
        for some in of.chunks(500) {
            let (holes, values) = padded(some);
            let rows =
                self.0.database.ask(format!("SELECT job, due FROM timers WHERE job IN ({holes})"), values).await?;
            for row in &rows {
                found.insert(row.id(0)?, instant(row.int(1)?));
            }
        }
        Ok(found)
    }

    /// Puts `job` in the place of one that was read at `revision`.
    pub async fn edit_delayed(&self, job: &Job, revision: u32, who: &str) -> Result<Change, ResultsError> {
        let sql = format!(
            "UPDATE timers SET due = ?, fire_at = ?, spec = ?, revision = revision + 1, changed = {{now}}, \
             changed_by = ? WHERE job = ? AND state = {} AND revision = ?",
            state::WAITS
        );
        let due = due(job);
        let values = vec![
            Value::Int(due),
            Value::Int(due),
            Value::Text(text(job)?),
            Value::Text(clip(who, 200)),
            Value::Id(job.id),
            Value::Int(revision.into()),
        ];
        if self.0.change_delayed(&sql, values).await? > 0 {
            self.0.nudge.notify_one();
            return Ok(Change::Done);
        }
        let waits = self.delayed_job(job.id).await?.is_some_and(|found| !found.gone);
        Ok(if waits { Change::Other } else { Change::Gone })
    }

    /// Writes down that one which waits shall not run; nothing when it does not wait. It is to be told of, then
    /// forgotten.
    pub async fn cancel_delayed(&self, id: Uuid, by: &str, why: Option<&str>) -> Result<Option<Delayed>, ResultsError> {
        // An indexed look first: most jobs that are cancelled are not here.
        if self.delayed_job(id).await?.is_none_or(|found| found.gone) {
            return Ok(None);
        }
        let sql = format!(
            "UPDATE timers SET state = {}, fire_at = {{now}} + {OVERDUE}, changed = {{now}}, changed_by = ?, why = ? \
             WHERE job = ? AND state = {}",
            state::CANCELLED,
            state::WAITS
        );
        let why = why.map(|why| clip(why, 1000));
        let values = vec![Value::Text(clip(by, 200)), Value::MaybeText(why), Value::Id(id)];
        if self.0.change_delayed(&sql, values).await? == 0 {
            return Ok(None);
        }
        self.delayed_job(id).await
    }

    /// The same for all of a run, some at a time; the leader tells of them.
    pub async fn cancel_delayed_of(&self, run: Uuid, by: &str, why: Option<&str>) -> Result<u64, ResultsError> {
        let why = why.map(|why| clip(why, 1000));
        let mut sum = 0;
        loop {
            let sql = format!("SELECT job FROM timers WHERE run = ? AND state = {} LIMIT {AT_ONCE}", state::WAITS);
            let rows = self.0.database.ask(sql, vec![Value::Id(run)]).await?;
            let some = rows.iter().map(|row| row.id(0)).collect::<Result<Vec<_>, _>>()?;
            if !some.is_empty() {
                let (holes, ids) = padded(&some);
                let sql = format!(
                    "UPDATE timers SET state = {}, fire_at = {{now}}, changed = {{now}}, changed_by = ?, why = ? \
                     WHERE job IN ({holes}) AND state = {}",
                    state::CANCELLED,
                    state::WAITS
                );
                let values = [Value::Text(clip(by, 200)), Value::MaybeText(why.clone())].into_iter().chain(ids);
                sum += self.0.change_delayed(&sql, values.collect()).await?;
                self.0.nudge.notify_one();
            }
            if some.len() < AT_ONCE {
                return Ok(sum);
            }
        }
    }
}

impl Store {
    async fn keep_delayed(&self, jobs: &[&Job], who: &str) -> Result<(), ResultsError> {
        let mut writing = self.database.begin().await?;
        let mut rest = jobs;
        while !rest.is_empty() {
            let mut values = Vec::with_capacity(ROWS * 7);
            let (mut rows, mut bytes) = (0, 0);
            for job in rest.iter().take(ROWS) {
                let spec = text(job)?;
                bytes += spec.len();
                if rows > 0 && bytes > BYTES {
                    break;
                }
                rows += 1;
                let at = Value::Int(due(job));
                values.extend([Value::Id(job.id), at.clone(), at, Value::Text(clip(&job.queue, 255))]);
                values.extend([Value::Text(clip(&job.kind, 255)), Value::MaybeId(job.run), Value::Text(spec)]);
                values.push(Value::Text(clip(who, 200)));
            }
            // Full statements are found again by their text, and so are single rows.
            let rows = if rows == ROWS { ROWS } else { 1 };
            values.truncate(rows * 8);
            writing.run(&self.insert_delayed(rows), values).await?;
            rest = &rest[rows..];
        }
        writing.commit().await
    }

    fn insert_delayed(&self, rows: usize) -> Sql {
        let row = format!("(?, {}, ?, ?, ?, ?, ?, ?, 0, {{now}}, ?)", state::WAITS);
        let sql = format!(
            "{{insert}} INTO timers (job, state, fire_at, due, queue, kind, run, spec, revision, changed, changed_by) \
             VALUES {}",
            vec![row; rows].join(", ")
        );
        self.words(&sql)
    }

    fn words(&self, sql: &str) -> Sql {
        self.database.flavour().words(sql).into()
    }

    async fn change_delayed(&self, sql: &str, values: Vec<Value>) -> Result<u64, ResultsError> {
        let sql = self.words(sql);
        anew(|| async {
            let mut writing = self.database.begin().await?;
            let count = writing.run(&sql, values.clone()).await?;
            writing.commit().await.map(|()| count)
        })
        .await
    }
}

fn due(job: &Job) -> i64 {
    job.due.unwrap_or(job.created).as_microsecond()
}

fn text(job: &Job) -> Result<String, ResultsError> {
    serde_json::to_string(job).map_err(|error| ResultsError::Refused(error.to_string()))
}

fn instant(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or_default()
}

fn waiting(row: &Column) -> Result<Waiting, ResultsError> {
    Ok(Waiting {
        id: row.id(0)?,
        due: instant(row.int(1)?),
        queue: row.text(2)?,
        kind: row.text(3)?,
        revision: u32::try_from(row.int(4)?).unwrap_or(u32::MAX),
        changed: instant(row.int(5)?),
        changed_by: row.text(6)?,
    })
}

/// Of [`COLUMNS`], the job, its state and why.
fn delayed(row: &Column) -> Result<Delayed, ResultsError> {
    let (line, state) = (waiting(row)?, row.int(8)?);
    let why = row.maybe_text(9)?;
    let cancelled = (state == state::CANCELLED).then(|| Wish { by: line.changed_by.clone(), at: line.changed, why });
    Ok(Delayed { row: line, job: json(&row.text(7)?)?, gone: state != state::WAITS, cancelled })
}
