//! Every question on the record. Lists are newest first and go on by a cursor; counts are capped.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use spinor_executors::{Cause, Failure, Origin, Output, Report, State, StepReport};
use uuid::Uuid;

use super::{
    AttemptRecord, Changes, DeadLetter, EndedJob, JobFilter, JobRecord, JobRow, Page, ResultsError, RunRecord, RunRow,
    StepFilter, Store, Tally, Tracked,
    change::{clip, place},
    database::{Column, Value, holes},
    figures::Key,
    walk::LASTS,
};
use crate::{entry::Entry, hidden::Hidden, message::Message};

pub(super) const JOB_ROW: &str = "jobs.id, jobs.kind, jobs.queue, jobs.state, jobs.attempt, jobs.replay, jobs.created, \
                       jobs.started, jobs.ended, jobs.retry_at, jobs.error, jobs.run, jobs.consumer, jobs.version, \
                       jobs.fingerprint";
pub(super) const JOB_ROW_COLUMNS: usize = 15;
const RUN_ROW: &str = "id, name, members, steps, started, ended, succeeded, problems, replay";
const MOST_PADDED: usize = 500;
const DEFAULT_ROWS: u32 = 50;
const MOST_ROWS: u32 = 1000;
const MOST_MEMBERS: u32 = 10_000;

impl Store {
    pub(super) async fn job(&self, id: Uuid) -> Result<Option<JobRecord>, ResultsError> {
        // One question for the state and its attempts: two would show the moments between two commits.
        let sql = format!(
            "SELECT {JOB_ROW}, attempts.report FROM jobs LEFT JOIN attempts ON attempts.job = jobs.id WHERE jobs.id = ? \
             ORDER BY attempts.replay, attempts.attempt, attempts.execution"
        );
        let rows = self.database.ask(sql, vec![Value::Id(id)]).await?;
        let Some(found) = rows.first() else {
            return Ok(None);
        };
        // Apart: it is large, and there once, not once an attempt.
        let sql = "SELECT job FROM jobs WHERE id = ?";
        let job = self.database.ask(sql.to_owned(), vec![Value::Id(id)]).await?;
        let job = job.first().map(|row| row.maybe_text(0)).transpose()?.flatten();
        let mut attempts = Vec::new();
        for row in &rows {
            if let Some(report) = row.maybe_text(JOB_ROW_COLUMNS)? {
                attempts.push(AttemptRecord { report: json(&report)? });
            }
        }
        Ok(Some(JobRecord {
            row: job_row(found)?,
            job: job.as_deref().map(json).transpose()?,
            attempts,
            unread: Vec::new(),
        }))
    }

    pub(super) async fn jobs(&self, filter: &JobFilter, hidden: &Hidden) -> Result<Page<JobRow>, ResultsError> {
        self.jobs_by_walk(filter, hidden, LASTS).await
    }

    pub(super) async fn counts(&self, cap: u64) -> Result<Vec<(String, String, u64)>, ResultsError> {
        let mut counts = Vec::new();
        for state in State::ALL {
            let sql = format!(
                "SELECT queue, COUNT(*) FROM (SELECT queue FROM jobs WHERE state = ? LIMIT {cap}) AS some \
                 GROUP BY queue ORDER BY queue"
            );
            for row in self.database.ask(sql, vec![Value::Text(state.word().to_owned())]).await? {
                let count = u64::try_from(row.int(1)?).unwrap_or(0);
                counts.push((state.word().to_owned(), row.text(0)?, count));
            }
        }
        Ok(counts)
    }

    pub(super) async fn newest_change(&self) -> Result<i64, ResultsError> {
        let rows = self.database.ask("SELECT COALESCE(MAX(updated), 0) FROM jobs".to_owned(), Vec::new()).await?;
        rows.first().map_or(Ok(0), |row| row.int(0))
    }

    pub(super) async fn changes_after(&self, after: i64) -> Result<Changes, ResultsError> {
        let sql = "SELECT state, COUNT(*), MAX(updated) FROM (SELECT state, updated FROM jobs WHERE updated > ? \
                   ORDER BY updated LIMIT 10000) AS some GROUP BY state";
        let mut changes = Changes { newest: after, states: Vec::new() };
        for row in self.database.ask(sql.to_owned(), vec![Value::Int(after)]).await? {
            changes.newest = changes.newest.max(row.int(2)?);
            if let Some(state) = State::of(&row.text(0)?) {
                changes.states.push((state, u64::try_from(row.int(1)?).unwrap_or(0)));
            }
        }
        Ok(changes)
    }

    pub(super) async fn oldest_queued(&self) -> Result<Vec<(String, Timestamp)>, ResultsError> {
        let sql = "SELECT queue, MIN(created) FROM (SELECT queue, created, retry_at FROM jobs WHERE state = 'queued' \
                   ORDER BY created LIMIT 10000) AS some WHERE COALESCE(retry_at, 0) < ? GROUP BY queue ORDER BY queue";
        let now = Value::Int(Timestamp::now().as_microsecond());
        let rows = self.database.ask(sql.to_owned(), vec![now]).await?;
        rows.iter().map(|row| Ok((row.text(0)?, time(row.int(1)?)?))).collect()
    }

    pub(super) async fn answered(&self, of: &[(Uuid, u32, u32)]) -> Result<Vec<(Uuid, u32, u32)>, ResultsError> {
        let jobs: Vec<Uuid> = of.iter().map(|(job, ..)| *job).collect();
        let rows = self.of_jobs("place", &jobs).await?;
        let found: HashMap<Uuid, i64> =
            rows.iter().map(|row| Ok((row.id(0)?, row.int(1)?))).collect::<Result<_, _>>()?;
        let ended = |(job, replay, attempt): &&(Uuid, u32, u32)| {
            found.get(job).is_some_and(|stored| *stored >= place(*replay, *attempt, State::Failed))
        };
        Ok(of.iter().filter(ended).copied().collect())
    }

    pub(super) async fn ended(&self, of: &[Uuid]) -> Result<Vec<(Uuid, State)>, ResultsError> {
        let mut ended = Vec::new();
        for row in self.of_jobs("state", of).await? {
            let state = row.text(1)?;
            let state = State::of(&state).ok_or_else(|| foreign(&format!("the state `{state}`")))?;
            if state.is_final() {
                ended.push((row.id(0)?, state));
            }
        }
        Ok(ended)
    }

    pub(super) async fn ended_jobs(&self, of: &[Uuid]) -> Result<Vec<EndedJob>, ResultsError> {
        let mut ended = Vec::new();
        for row in self.of_jobs("state, kind, queue", of).await? {
            if State::of(&row.text(1)?).is_some_and(State::is_final) {
                ended.push(EndedJob { id: row.id(0)?, kind: row.text(2)?, queue: row.text(3)? });
            }
        }
        Ok(ended)
    }

    /// The executions among these entries that are stored.
    pub(super) async fn known_attempts(&self, entries: &[Entry]) -> Result<HashSet<Key>, ResultsError> {
        let jobs = entries.iter().filter_map(|entry| match entry {
            Entry::Report(report) => Some(report.job),
            _ => None,
        });
        self.known("SELECT job, replay, attempt, execution FROM attempts", jobs).await
    }

    /// The letters among these that are stored.
    pub(super) async fn known_letters(&self, letters: &[(Message, DeadLetter)]) -> Result<HashSet<Key>, ResultsError> {
        let jobs = letters.iter().map(|(_, letter)| letter.job);
        let nil = "x'00000000000000000000000000000000'";
        self.known(&format!("SELECT job, replay, attempt, {nil} FROM dead"), jobs).await
    }

    async fn known(&self, select: &str, jobs: impl Iterator<Item = Uuid>) -> Result<HashSet<Key>, ResultsError> {
        let mut known = HashSet::new();
        for some in jobs.collect::<Vec<Uuid>>().chunks(MOST_PADDED) {
            let (holes, values) = padded(some);
            for row in self.database.ask(format!("{select} WHERE job IN ({holes})"), values).await? {
                let number = |at| row.int(at).map(|number| u32::try_from(number).unwrap_or(u32::MAX));
                known.insert((row.id(0)?, number(1)?, number(2)?, row.id(3)?));
            }
        }
        Ok(known)
    }

    /// The id and one more column of each of these jobs that is recorded.
    pub(super) async fn of_jobs(&self, column: &str, jobs: &[Uuid]) -> Result<Vec<Column>, ResultsError> {
        let mut found = Vec::new();
        for some in jobs.chunks(MOST_PADDED) {
            let (holes, values) = padded(some);
            let sql = format!("SELECT id, {column} FROM jobs WHERE id IN ({holes})");
            found.extend(self.database.ask(sql, values).await?);
        }
        Ok(found)
    }

    pub(super) async fn runs(&self, limit: u32, after: Option<&str>) -> Result<Page<RunRow>, ResultsError> {
        let mut asked = Where::default();
        asked.before("started", "id", after)?;
        let limit = rows_asked(limit);
        let sql = format!("SELECT {RUN_ROW} FROM runs{asked} ORDER BY started DESC, id DESC LIMIT {}", limit + 1);
        let rows = self.database.ask(sql, asked.values).await?;
        page(&rows, limit, run_row, |row| cursor(row.started, row.id))
    }

    pub(super) async fn run(&self, id: Uuid) -> Result<Option<RunRecord>, ResultsError> {
        let sql = format!("SELECT {RUN_ROW} FROM runs WHERE id = ?");
        let rows = self.database.ask(sql, vec![Value::Id(id)]).await?;
        let Some(found) = rows.first() else {
            return Ok(None);
        };
        let sql =
            format!("SELECT {JOB_ROW}, jobs.member FROM jobs WHERE run = ? ORDER BY created, id LIMIT {MOST_MEMBERS}");
        let jobs = self.database.ask(sql, vec![Value::Id(id)]).await?;
        let member = |row: &Column| Ok((row.maybe_text(JOB_ROW_COLUMNS)?.unwrap_or_default(), job_row(row)?));
        let jobs = jobs.iter().map(member).collect::<Result<Vec<_>, ResultsError>>()?;
        Ok(Some(RunRecord { row: run_row(found)?, jobs, member_list: Vec::new() }))
    }

    pub(super) async fn steps(&self, filter: &StepFilter) -> Result<Vec<StepReport>, ResultsError> {
        let mut asked = Where::default();
        asked.and("run = ?", [Value::Id(filter.run)]);
        if let Some(node) = &filter.node {
            asked.and("node = ?", [Value::Text(clip(node, 255))]);
        }
        if filter.problems {
            asked.and("state <> 'succeeded'", []);
        }
        let outputs = if filter.outputs { "outputs" } else { "NULL" };
        let mut sql = format!("SELECT report, {outputs} FROM steps{asked} ORDER BY node, part, item, job, step");
        if filter.limit > 0 {
            let _ = write!(sql, " LIMIT {}", filter.limit);
        }
        self.database.ask(sql, asked.values).await?.iter().map(step).collect()
    }

    pub(super) async fn endings(&self, of: &[Uuid]) -> Result<Vec<(Uuid, Report)>, ResultsError> {
        let mut endings = Vec::new();
        for some in of.chunks(MOST_PADDED) {
            let (holes, values) = padded(some);
            let sql = format!(
                "SELECT {JOB_ROW}, jobs.host, attempts.report FROM jobs{LAST_REPORT} WHERE jobs.id IN ({holes})"
            );
            for found in self.database.ask(sql, values).await? {
                let row = job_row(&found)?;
                if !row.state.is_final() {
                    continue;
                }
                let id = row.id;
                let report = match found.maybe_text(JOB_ROW_COLUMNS + 1)? {
                    Some(report) => json(&report)?,
                    None => report_of(row, found.maybe_text(JOB_ROW_COLUMNS)?),
                };
                endings.push((id, report));
            }
        }
        Ok(endings)
    }

    pub(super) async fn changed(&self, after: (i64, Uuid), limit: u32) -> Result<Vec<Tracked>, ResultsError> {
        let (updated, id) = after;
        let sql = format!(
            "SELECT {JOB_ROW}, jobs.updated, jobs.job, attempts.report FROM jobs{LAST_REPORT} \
             WHERE jobs.updated >= ? AND (jobs.updated > ? OR jobs.id > ?) ORDER BY jobs.updated, jobs.id LIMIT {limit}"
        );
        let values = vec![Value::Int(updated), Value::Int(updated), Value::Id(id)];
        let read = |row: &Column| {
            Ok(Tracked {
                row: job_row(row)?,
                updated: row.int(JOB_ROW_COLUMNS)?,
                job: row.maybe_text(JOB_ROW_COLUMNS + 1)?.as_deref().map(json).transpose()?,
                report: row.maybe_text(JOB_ROW_COLUMNS + 2)?.as_deref().map(json).transpose()?,
            })
        };
        self.database.ask(sql, values).await?.iter().map(read).collect()
    }

    pub(super) async fn tally(&self, first: Uuid, last: Uuid) -> Result<Tally, ResultsError> {
        let range = || vec![Value::Id(first), Value::Id(last)];
        // A sum would be a decimal on MySQL.
        let jobs = "SELECT COUNT(*), COUNT(CASE WHEN state = 'succeeded' THEN 1 END), COUNT(DISTINCT updated), \
                    COALESCE(MIN(started), 0), COALESCE(MAX(updated), 0) FROM jobs WHERE id BETWEEN ? AND ?";
        let attempts = "SELECT COUNT(*) FROM attempts WHERE job BETWEEN ? AND ?";
        let jobs = self.database.ask(jobs.to_owned(), range()).await?;
        let attempts = self.database.ask(attempts.to_owned(), range()).await?;
        let (Some(jobs), Some(attempts)) = (jobs.first(), attempts.first()) else { return Ok(Tally::default()) };
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok(Tally {
            jobs: count(jobs.int(0)?),
            succeeded: count(jobs.int(1)?),
            commits: count(jobs.int(2)?),
            first_start: jobs.int(3)?,
            last_commit: jobs.int(4)?,
            executions: count(attempts.int(0)?),
        })
    }

    pub(super) async fn mark(&self, name: &str) -> Result<Option<i64>, ResultsError> {
        let sql = "SELECT value FROM marks WHERE name = ?".to_owned();
        let rows = self.database.ask(sql, vec![Value::Text(name.to_owned())]).await?;
        rows.first().map(|row| row.int(0)).transpose()
    }
}

/// Placeholders and values of at most `MOST_PADDED` ids: of few widths, by repeating the last, so that a statement
/// is found again.
pub(super) fn padded(ids: &[Uuid]) -> (String, Vec<Value>) {
    let width = match ids.len() {
        ..=1 => 1,
        2..=32 => 32,
        _ => MOST_PADDED,
    };
    let last = ids.last().copied().unwrap_or_default();
    let values = ids.iter().copied().chain(std::iter::repeat_n(last, width - ids.len())).map(Value::Id);
    (holes(width), values.collect())
}

/// The report that made a job's row what it is.
const LAST_REPORT: &str = " LEFT JOIN attempts ON attempts.job = jobs.id AND attempts.replay = jobs.replay \
                           AND attempts.attempt = jobs.attempt AND attempts.execution = jobs.execution";

/// Conditions and their values, in order.
#[derive(Default)]
pub(super) struct Where {
    text: String,
    pub(super) values: Vec<Value>,
}

impl Where {
    pub(super) fn and<const N: usize>(&mut self, test: &str, values: [Value; N]) {
        self.text.push_str(if self.text.is_empty() { " WHERE " } else { " AND " });
        self.text.push_str(test);
        self.values.extend(values);
    }

    /// The same, of a test that was made before.
    pub(super) fn add(&mut self, test: &str, values: Vec<Value>) {
        self.and(test, []);
        self.values.extend(values);
    }

    /// Only what comes after a cursor, newest first. Row comparisons are not served by an index
    /// everywhere, hence the two tests.
    pub(super) fn before(&mut self, time: &str, id: &str, cursor: Option<&str>) -> Result<(), ResultsError> {
        let Some(cursor) = cursor else {
            return Ok(());
        };
        let Some((at, last)) = place_of(cursor) else {
            return Err(ResultsError::Misconfigured(format!("`{}` is no cursor of a list", clip(cursor, 80))));
        };
        let test = format!("{time} <= ? AND ({time} < ? OR {id} < ?)");
        self.and(&test, [Value::Int(at), Value::Int(at), Value::Id(last)]);
        Ok(())
    }
}

impl std::fmt::Display for Where {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(&self.text)
    }
}

/// Was this text given as the `next` of a page?
pub fn is_cursor(text: &str) -> bool {
    place_of(text).is_some()
}

pub(super) fn place_of(cursor: &str) -> Option<(i64, Uuid)> {
    let (at, id) = cursor.split_once('.')?;
    Some((at.parse().ok()?, Uuid::parse_str(id).ok()?))
}

pub(super) fn cursor(at: Timestamp, id: Uuid) -> String {
    format!("{}.{}", at.as_microsecond(), id.simple())
}

pub(super) fn rows_asked(limit: u32) -> u32 {
    if limit == 0 { DEFAULT_ROWS } else { limit.min(MOST_ROWS) }
}

/// The rows read; one more than asked for means that there is a next page.
pub(super) fn page<T>(
    rows: &[Column],
    limit: u32,
    read: impl Fn(&Column) -> Result<T, ResultsError>,
    end: impl Fn(&T) -> String,
) -> Result<Page<T>, ResultsError> {
    let limit = limit as usize;
    let read: Vec<T> = rows.iter().take(limit).map(read).collect::<Result<_, _>>()?;
    let next = (rows.len() > limit).then(|| read.last().map(end)).flatten();
    Ok(Page { rows: read, next, looked: None })
}

pub(super) fn job_row(row: &Column) -> Result<JobRow, ResultsError> {
    let state = row.text(3)?;
    Ok(JobRow {
        id: row.id(0)?,
        kind: row.text(1)?,
        queue: row.text(2)?,
        state: State::of(&state).ok_or_else(|| foreign(&format!("the state `{state}`")))?,
        attempt: small(row.int(4)?),
        replay: small(row.int(5)?),
        created: time(row.int(6)?)?,
        started: row.maybe_int(7)?.map(time).transpose()?,
        ended: row.maybe_int(8)?.map(time).transpose()?,
        retry_at: row.maybe_int(9)?.map(time).transpose()?,
        error: row.maybe_text(10)?,
        run: row.maybe_id(11)?,
        consumer: row.maybe_text(12)?,
        version: row.maybe_text(13)?,
        fingerprint: row.maybe_text(14)?,
        cancel_requested: None,
    })
}

fn run_row(row: &Column) -> Result<RunRow, ResultsError> {
    Ok(RunRow {
        id: row.id(0)?,
        name: row.text(1)?,
        members: small(row.int(2)?),
        steps: small(row.int(3)?),
        started: time(row.int(4)?)?,
        ended: row.maybe_int(5)?.map(time).transpose()?,
        succeeded: row.maybe_int(6)?.map(|word| word != 0),
        problems: json(&row.text(7)?)?,
        replay: small(row.int(8)?),
        cancel_requested: None,
    })
}

fn step(row: &Column) -> Result<StepReport, ResultsError> {
    let mut report: StepReport = json(&row.text(0)?)?;
    if let Some(outputs) = row.maybe_text(1)? {
        (report.stdout, report.stderr) = json::<(Output, Output)>(&outputs)?;
    }
    Ok(report)
}

/// For a job that died without an execution: what its row tells.
fn report_of(row: JobRow, host: Option<String>) -> Report {
    let ended = row.ended.unwrap_or(row.created);
    Report {
        job: row.id,
        kind: row.kind,
        queue: row.queue,
        replay: row.replay,
        attempt: row.attempt,
        execution: Uuid::nil(),
        state: row.state,
        value: None,
        value_ref: None,
        failure: row.error.map(|message| Failure { cause: Cause::Error, message }),
        exit: None,
        stdout: Output::default(),
        stderr: Output::default(),
        created: row.created,
        started: row.started.unwrap_or(ended),
        ended,
        retry_at: None,
        origin: Origin {
            consumer: row.consumer.unwrap_or_default(),
            group: String::new(),
            host: host.unwrap_or_default(),
        },
        version: row.version,
        maybe_rerun: false,
        usage: None,
        run: row.run,
        member: None,
        whole: None,
    }
}

pub(super) fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

pub(super) fn time(micros: i64) -> Result<Timestamp, ResultsError> {
    Timestamp::from_microsecond(micros).map_err(|_| foreign(&format!("the time {micros}")))
}

pub(super) fn json<T: DeserializeOwned>(text: &str) -> Result<T, ResultsError> {
    serde_json::from_str(text).map_err(|error| foreign(&format!("JSON that is not ours ({error})")))
}

pub(super) fn foreign(what: &str) -> ResultsError {
    ResultsError::Misconfigured(format!("the record holds {what}: was it written by another program?"))
}
