//! What is past its time goes: jobs with their attempts and steps, runs without jobs, dead letters,
//! replays that have ended.
//!
//! Owns the choice of rows and the bound of a transaction. One chunk a call, so that the recorder is
//! never kept waiting; a dry run takes the same way and changes nothing. Refuses to know when and how often.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_executors::State;
use uuid::Uuid;

use super::{
    Results, ResultsError,
    blobs::ids,
    database::{Column, Value, Writing, holes},
    errors::is_deadlock,
};

/// Jobs looked at for one chunk.
const JOBS: usize = 500;
/// The recorder may be at the same rows.
const DEADLOCK_TRIES: u32 = 4;
/// Steps to a transaction, but for a single job that has more.
const STEPS: u64 = 5000;
/// Letters to a transaction: each may hold a body of some MiB.
const LETTERS: usize = 100;
/// Runs looked at for one chunk.
const RUNS: usize = 20;
/// Replays that have ended to a transaction.
const REPLAYS: usize = 100;

/// What goes: what ended, or was buried or started, before these instants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    /// Jobs, by how they ended.
    pub jobs: Vec<(State, Timestamp)>,
    /// Dead letters.
    pub letters: Option<Timestamp>,
    /// Runs of which no job stays, and replays that have ended.
    pub runs: Option<Timestamp>,
}

/// How much went, or would go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pruned {
    /// Jobs.
    pub jobs: u64,
    /// Their executions.
    pub attempts: u64,
    /// Their steps.
    pub steps: u64,
    /// Runs.
    pub runs: u64,
    /// Dead letters.
    pub letters: u64,
    /// Replays of all that matched, once they have ended.
    #[serde(default)]
    pub replays: u64,
    /// Large args and values.
    pub blobs: u64,
    /// The bytes of those.
    pub blob_bytes: u64,
}

impl std::ops::AddAssign for Pruned {
    fn add_assign(&mut self, more: Self) {
        self.jobs += more.jobs;
        self.attempts += more.attempts;
        self.steps += more.steps;
        self.runs += more.runs;
        self.letters += more.letters;
        self.replays += more.replays;
        self.blobs += more.blobs;
        self.blob_bytes += more.blob_bytes;
    }
}

/// How far a pass is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// Which cut's turn it is.
    stage: usize,
    /// The last row looked at.
    at: i64,
    /// Its id.
    id: Uuid,
}

/// What one call did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// How much went.
    pub pruned: Pruned,
    /// Jobs of which nothing is recorded any more: what else is theirs may go.
    pub bare: Vec<Uuid>,
    /// Where to go on; none at the end.
    pub next: Option<Place>,
}

impl Cuts {
    /// Does a job in this state go?
    fn dooms(&self, state: &str, created: i64, ended: Option<i64>) -> bool {
        let over = |(cut, before): &(State, Timestamp)| {
            cut.word() == state && ended.unwrap_or(created).max(created) < before.as_microsecond()
        };
        self.jobs.iter().any(over)
    }
}

impl Results {
    /// Removes some rows from `from` on, or counts them.
    pub async fn prune(&self, cuts: &Cuts, from: Place, dry: bool) -> Result<Chunk, ResultsError> {
        let jobs = cuts.jobs.len();
        let mut chunk = match (from.stage.checked_sub(jobs), cuts.letters, cuts.runs) {
            (None, ..) => self.prune_jobs(cuts, from, dry).await?,
            (Some(0), Some(before), _) => self.prune_letters(cuts, before, from, dry).await?,
            (Some(1), _, Some(before)) => self.prune_runs(cuts, before, from, dry).await?,
            (Some(2), _, Some(before)) => self.prune_replays(before, from, dry).await?,
            _ => Chunk::default(),
        };
        if chunk.next.is_none() && from.stage < jobs + 2 {
            chunk.next = Some(Place { stage: from.stage + 1, at: i64::MIN, id: Uuid::nil() });
        }
        Ok(chunk)
    }

    async fn prune_jobs(&self, cuts: &Cuts, from: Place, dry: bool) -> Result<Chunk, ResultsError> {
        let (state, before) = cuts.jobs[from.stage];
        let (word, before) = (Value::Text(state.word().to_owned()), before.as_microsecond());
        // `ended` is in no index: a page has as many rows however few of them go.
        let sql = "SELECT id, created, ended FROM jobs WHERE state = ? AND created < ? AND created >= ? \
                   AND (created > ? OR id > ?) ORDER BY created, id LIMIT 500";
        let values =
            vec![word.clone(), Value::Int(before), Value::Int(from.at), Value::Int(from.at), Value::Id(from.id)];
        let rows = self.0.database.ask(sql.to_owned(), values).await?;
        let mut last = from;
        let mut doomed = Vec::new();
        for row in &rows {
            (last.id, last.at) = (row.id(0)?, row.int(1)?);
            if row.maybe_int(2)?.is_none_or(|ended| ended < before) {
                doomed.push((last.id, last.at));
            }
        }
        let mut next = (rows.len() == JOBS).then_some(last);
        if let Some(cut) = self.few_steps(&mut doomed).await? {
            next = Some(Place { stage: from.stage, at: cut.1, id: cut.0 });
        }
        let doomed: Vec<Uuid> = doomed.into_iter().map(|(id, _)| id).collect();
        if doomed.is_empty() {
            return Ok(Chunk { next, ..Chunk::default() });
        }
        let pruned;
        let gone;
        if dry {
            pruned = Pruned {
                jobs: doomed.len() as u64,
                attempts: self.count("attempts", &doomed).await?,
                steps: self.count("steps", &doomed).await?,
                ..Pruned::default()
            };
            gone = doomed;
        } else {
            let mut tries = 1;
            (gone, pruned) = loop {
                match self.delete_jobs(&doomed, word.clone(), before).await {
                    // The recorder wrote one of them just now.
                    Err(error) if is_deadlock(&error) && tries < DEADLOCK_TRIES => tries += 1,
                    done => break done?,
                }
            };
        }
        let bare = self.without("SELECT DISTINCT job FROM dead WHERE job", &gone, |_| Ok(false)).await?;
        Ok(Chunk { pruned, bare, next })
    }

    /// Keeps as many of the jobs as have few steps together; tells the last one kept when some were left out.
    async fn few_steps(&self, jobs: &mut Vec<(Uuid, i64)>) -> Result<Option<(Uuid, i64)>, ResultsError> {
        if jobs.is_empty() {
            return Ok(None);
        }
        let all: Vec<Uuid> = jobs.iter().map(|(id, _)| *id).collect();
        let sql = format!("SELECT job, COUNT(*) FROM steps WHERE job IN ({}) GROUP BY job", holes(all.len()));
        let mut counts = std::collections::HashMap::new();
        for row in self.0.database.ask(sql, ids(&all)).await? {
            counts.insert(row.id(0)?, row.int(1)?.unsigned_abs());
        }
        let mut sum = 0;
        let fits = jobs.iter().take_while(|(id, _)| {
            sum += counts.get(id).copied().unwrap_or(0);
            sum <= STEPS
        });
        let fits = fits.count().max(1);
        let cut = fits < jobs.len();
        jobs.truncate(fits);
        Ok(jobs.last().copied().filter(|_| cut))
    }

    /// Deletes those of the jobs that are still what they were; a replay may have come in between.
    async fn delete_jobs(&self, jobs: &[Uuid], state: Value, before: i64) -> Result<(Vec<Uuid>, Pruned), ResultsError> {
        let mut writing = self.0.database.begin().await?;
        let lock = self.0.database.flavour().lock();
        let sql = format!(
            "SELECT id FROM jobs WHERE id IN ({}) AND state = ? AND COALESCE(ended, created) < ?{lock}",
            holes(jobs.len())
        );
        let values = ids(jobs).into_iter().chain([state, Value::Int(before)]).collect();
        let rows = writing.fetch(&sql.into(), values).await?;
        let gone = rows.iter().map(|row| row.id(0)).collect::<Result<Vec<_>, _>>()?;
        if gone.is_empty() {
            return Ok((gone, Pruned::default()));
        }
        // In the order in which the recorder writes them.
        let pruned = Pruned {
            jobs: delete(&mut writing, "jobs", "id", &gone).await?,
            attempts: delete(&mut writing, "attempts", "job", &gone).await?,
            steps: delete(&mut writing, "steps", "job", &gone).await?,
            ..Pruned::default()
        };
        writing.commit().await?;
        Ok((gone, pruned))
    }

    async fn prune_letters(
        &self,
        cuts: &Cuts,
        before: Timestamp,
        from: Place,
        dry: bool,
    ) -> Result<Chunk, ResultsError> {
        let sql = "SELECT job, at, replay, attempt FROM dead WHERE at < ? AND at >= ? AND (at > ? OR job > ?) \
                   ORDER BY at, job, replay, attempt LIMIT 100";
        let (rows, last) = self.page(sql, before, from).await?;
        let mut jobs = rows.iter().map(|row| row.id(0)).collect::<Result<Vec<_>, _>>()?;
        if !dry && !rows.is_empty() {
            let delete = "DELETE FROM dead WHERE job = ? AND replay = ? AND attempt = ?".into();
            let mut writing = self.0.database.begin().await?;
            for row in &rows {
                let key = vec![Value::Id(row.id(0)?), Value::Int(row.int(2)?), Value::Int(row.int(3)?)];
                writing.run(&delete, key).await?;
            }
            writing.commit().await?;
        }
        jobs.dedup();
        let doomed = |row: &Column| Ok(cuts.dooms(&row.text(1)?, row.int(2)?, row.maybe_int(3)?));
        let bare = self.without("SELECT id, state, created, ended FROM jobs WHERE id", &jobs, doomed).await?;
        let pruned = Pruned { letters: rows.len() as u64, ..Pruned::default() };
        Ok(Chunk { pruned, bare, next: (rows.len() == LETTERS).then_some(last) })
    }

    async fn prune_runs(&self, cuts: &Cuts, before: Timestamp, from: Place, dry: bool) -> Result<Chunk, ResultsError> {
        let sql = "SELECT id, started FROM runs WHERE started < ? AND started >= ? AND (started > ? OR id > ?) \
                   ORDER BY started, id LIMIT 20";
        let (rows, last) = self.page(sql, before, from).await?;
        let mut runs = rows.iter().map(|row| row.id(0)).collect::<Result<Vec<_>, _>>()?;
        let next = (rows.len() == RUNS).then_some(last);
        if runs.is_empty() {
            return Ok(Chunk::default());
        }
        // Its members that go, too, do not keep a run.
        let (mut over, mut values) = (String::from("1 = 0"), ids(&runs));
        for (state, before) in &cuts.jobs {
            over.push_str(" OR (state = ? AND created < ? AND COALESCE(ended, created) < ?)");
            let before = Value::Int(before.as_microsecond());
            values.extend([Value::Text(state.word().to_owned()), before.clone(), before]);
        }
        let sql = format!(
            "SELECT id FROM runs WHERE id IN ({}) AND EXISTS (SELECT 1 FROM jobs WHERE jobs.run = runs.id AND NOT ({over}))",
            holes(runs.len())
        );
        let stay = self.0.database.ask(sql, values).await?;
        let stay = stay.iter().map(|row| row.id(0)).collect::<Result<Vec<_>, _>>()?;
        runs.retain(|run| !stay.contains(run));
        let count = runs.len() as u64;
        if !dry && !runs.is_empty() {
            let mut writing = self.0.database.begin().await?;
            delete(&mut writing, "runs", "id", &runs).await?;
            // What the part `trigger` knows of one that goes on stays.
            let ended = "run IN (SELECT run FROM driven WHERE ended IS NOT NULL)";
            for (table, ended) in [("needs", ended), ("members", ended), ("driven", "ended IS NOT NULL")] {
                let sql = format!("DELETE FROM {table} WHERE run IN ({}) AND {ended}", holes(runs.len()));
                writing.run(&sql.into(), ids(&runs)).await?;
            }
            writing.commit().await?;
        }
        Ok(Chunk { pruned: Pruned { runs: count, ..Pruned::default() }, bare: Vec::new(), next })
    }

    async fn prune_replays(&self, before: Timestamp, from: Place, dry: bool) -> Result<Chunk, ResultsError> {
        let sql = "SELECT id, at, ended FROM replays WHERE at < ? AND at >= ? AND (at > ? OR id > ?) \
                   AND state <> 'running' ORDER BY at, id LIMIT 100";
        let (rows, last) = self.page(sql, before, from).await?;
        let mut over = Vec::new();
        for row in &rows {
            if row.maybe_int(2)?.is_none_or(|ended| ended < before.as_microsecond()) {
                over.push(row.id(0)?);
            }
        }
        if !dry && !over.is_empty() {
            let mut writing = self.0.database.begin().await?;
            delete(&mut writing, "replays", "id", &over).await?;
            writing.commit().await?;
        }
        let pruned = Pruned { replays: over.len() as u64, ..Pruned::default() };
        Ok(Chunk { pruned, bare: Vec::new(), next: (rows.len() == REPLAYS).then_some(last) })
    }

    /// The next rows before an instant, by time and id, which come first in each; and the last one's place.
    async fn page(&self, sql: &str, before: Timestamp, from: Place) -> Result<(Vec<Column>, Place), ResultsError> {
        let at = Value::Int(from.at);
        let values = vec![Value::Int(before.as_microsecond()), at.clone(), at, Value::Id(from.id)];
        let rows = self.0.database.ask(sql.to_owned(), values).await?;
        let mut last = from;
        if let Some(row) = rows.last() {
            (last.id, last.at) = (row.id(0)?, row.int(1)?);
        }
        Ok((rows, last))
    }

    async fn count(&self, table: &str, jobs: &[Uuid]) -> Result<u64, ResultsError> {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE job IN ({})", holes(jobs.len()));
        let rows = self.0.database.ask(sql, ids(jobs)).await?;
        rows.first().map_or(Ok(0), |row| row.int(0).map(i64::unsigned_abs))
    }

    /// Those of the jobs for which a question finds no row, but for rows that do not count.
    async fn without(
        &self,
        question: &str,
        jobs: &[Uuid],
        ignored: impl Fn(&Column) -> Result<bool, ResultsError>,
    ) -> Result<Vec<Uuid>, ResultsError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let mut rest = jobs.to_vec();
        for row in self.0.database.ask(format!("{question} IN ({})", holes(jobs.len())), ids(jobs)).await? {
            if !ignored(&row)? {
                let id = row.id(0)?;
                rest.retain(|job| *job != id);
            }
        }
        Ok(rest)
    }
}

async fn delete(writing: &mut Writing, table: &str, key: &str, of: &[Uuid]) -> Result<u64, ResultsError> {
    writing.run(&format!("DELETE FROM {table} WHERE {key} IN ({})", holes(of.len())).into(), ids(of)).await
}
