//! One run's change within a transaction: it is filled in, members end, others become due, it ends.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use spinor_executors::State;
use uuid::Uuid;

use super::{
    super::{
        ResultsError,
        change::clip,
        database::{Column, Flavour, Sql, Value, Writing},
        read::{json, small},
    },
    AT_ONCE, Due, Followed, OVERDUE, Role, insert, instant, is_open, list, lock, succeeded, word,
};
use crate::{
    entry::RunReport,
    next::{Again, End, Member, NewRun, OnFailure, job_id},
};

const DRIVEN: &str = "name, policy, replay, phase, members, open, failed, seq, started, ended, problems, untold";
/// A row that was inserted a moment ago and has no members yet.
const EMPTY: i64 = -1;
const MEMBERS: i64 = 0;
const COMPENSATING: i64 = 1;
const THEN: i64 = 2;
const FINALLY: i64 = 3;
const ENDED: i64 = 4;

/// A run in hand, its row locked.
pub struct Step<'a> {
    writing: &'a mut Writing,
    run: Uuid,
    row: Row,
    now: i64,
    /// What becomes due, or is to be told, by this step.
    stamp: i64,
    /// It was cancelled, by whom and why.
    pub cancelled: Option<String>,
}

struct Row {
    name: String,
    policy: OnFailure,
    replay: i64,
    phase: i64,
    members: i64,
    open: i64,
    failed: i64,
    seq: i64,
    started: i64,
    ended: Option<i64>,
    problems: Vec<String>,
    untold: Option<i64>,
}

impl<'a> Step<'a> {
    /// Takes a run in hand, filled in if it is new; `None` when nobody knows it.
    pub async fn open(
        writing: &'a mut Writing,
        flavour: Flavour,
        run: Uuid,
        new: Option<&NewRun>,
        now: i64,
    ) -> Result<Option<Self>, ResultsError> {
        if let Some(new) = new {
            let insert = format!(
                "INSERT INTO driven (run, {DRIVEN}) VALUES (?, ?, ?, 0, {EMPTY}, ?, 0, 0, 0, ?, NULL, '[]', NULL) {}",
                match flavour {
                    Flavour::Sqlite => "ON CONFLICT (run) DO NOTHING",
                    Flavour::MySql | Flavour::MariaDb => "ON DUPLICATE KEY UPDATE run = driven.run",
                }
            );
            let values = vec![
                Value::Id(run),
                Value::Text(clip(&new.name, 500)),
                Value::Text(new.on_failure.word().to_owned()),
                Value::Int(i64::try_from(new.members.len()).unwrap_or(i64::MAX)),
                Value::Int(new.started.as_microsecond()),
            ];
            writing.run(&insert.into(), values).await?;
        }
        let sql = format!("SELECT {DRIVEN} FROM driven WHERE run = ?{}", lock(flavour));
        let rows = writing.fetch(&sql.into(), vec![Value::Id(run)]).await?;
        let Some(row) = rows.first().map(Row::read).transpose()? else { return Ok(None) };
        let mut step = Self { writing, run, now, stamp: now + OVERDUE + row.members * 2000, row, cancelled: None };
        if let (EMPTY, Some(new)) = (step.row.phase, new) {
            step.fill(new).await?;
        }
        Ok(Some(step))
    }

    async fn fill(&mut self, new: &NewRun) -> Result<(), ResultsError> {
        let (mut rows, mut needs) = (Vec::new(), Vec::new());
        for (place, member) in new.members.iter().enumerate() {
            let job = job_id(self.run, &member.name);
            rows.push(self.member(place, member, Role::Member, None));
            let each = member
                .needs
                .iter()
                .map(|need| vec![Value::Id(self.run), Value::Id(job_id(self.run, need)), Value::Id(job)]);
            needs.extend(each);
            if let Some(undo) = &member.compensate {
                rows.push(self.member(place, undo, Role::Compensation, Some(job)));
            }
        }
        let closing = [(&new.then, Role::Then), (&new.finally, Role::Finally)];
        let closing = closing.into_iter().filter_map(|(member, role)| Some((member.as_deref()?, role)));
        rows.extend(closing.map(|(member, role)| self.member(0, member, role, None)));
        let columns = ["run", "job", "place", "name", "role", "undoes", "spec", "missing", "state", "replay", "due"];
        insert(self.writing, "members", &columns, rows).await?;
        insert(self.writing, "needs", &["run", "need", "follower"], needs).await?;
        self.row.phase = MEMBERS;
        self.row.open = self.row.members;
        self.row.untold = Some(self.stamp);
        Ok(())
    }

    fn member(&self, place: usize, member: &Member, role: Role, undoes: Option<Uuid>) -> Vec<Value> {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let due = role == Role::Member && member.needs.is_empty();
        // Its own compensation is a row of its own.
        let spec = Member { compensate: None, ..member.clone() };
        vec![
            Value::Id(self.run),
            Value::Id(job_id(self.run, &member.name)),
            Value::Int(count(place)),
            Value::Text(member.name.clone()),
            Value::Int(role.number()),
            Value::MaybeId(undoes),
            Value::Text(serde_json::to_string(&spec).unwrap_or_default()),
            Value::Int(count(member.needs.len())),
            Value::Text(if due { word::DUE } else { word::WAITING }.to_owned()),
            Value::Int(0),
            Value::MaybeInt(due.then_some(self.stamp)),
        ]
    }

    /// Stores ends. The first one of each member counts.
    pub async fn ends(&mut self, ends: &[&End]) -> Result<(), ResultsError> {
        for some in ends.chunks(AT_ONCE) {
            self.some_ends(some).await?;
        }
        Ok(())
    }

    async fn some_ends(&mut self, ends: &[&End]) -> Result<(), ResultsError> {
        let mut by_job: BTreeMap<Uuid, &End> = BTreeMap::new();
        for end in ends {
            let last = by_job.entry(end.job).or_insert(end);
            if end.replay > last.replay {
                *last = end;
            }
        }
        let jobs: Vec<Uuid> = by_job.keys().copied().collect();
        let (mut went_well, mut failed) = (Vec::new(), Vec::new());
        for row in self.of("job, state, replay, role, name", &jobs).await? {
            let (job, state, replay) = (row.id(0)?, row.text(1)?, small(row.int(2)?));
            let Some(end) = by_job.get(&job).filter(|end| end.replay >= replay && end.state.is_final()) else {
                continue;
            };
            let counts = is_open(&state);
            if !counts && end.replay == replay {
                continue;
            }
            self.store(end, counts).await?;
            if !counts {
                continue;
            }
            let well = end.state == State::Succeeded;
            match Role::of(row.int(3)?) {
                Role::Member => {
                    self.row.open -= 1;
                    if well { went_well.push(job) } else { failed.push(job) }
                }
                Role::Compensation if !well => {
                    let why = end.error.as_deref().unwrap_or(end.state.word());
                    self.row.problems.push(clip(&format!("`{}` {}: {why}", row.text(4)?, end.state.word()), 500));
                }
                Role::Compensation => continue,
                Role::Then | Role::Finally => {}
            }
            self.row.failed += i64::from(!well);
        }
        if self.row.phase != MEMBERS {
            return Ok(());
        }
        self.less_missing(&went_well).await?;
        if self.is_stopped() {
            self.skip_all().await
        } else {
            self.skip_followers(failed).await?;
            self.make_due(&went_well).await
        }
    }

    /// Is nothing more started?
    fn is_stopped(&self) -> bool {
        self.cancelled.is_some() || (self.row.failed > 0 && self.row.policy != OnFailure::GoOn)
    }

    async fn store(&mut self, end: &End, counts: bool) -> Result<(), ResultsError> {
        self.row.seq += i64::from(counts);
        let seq = if counts { "?" } else { "COALESCE(seq, ?)" };
        let sql = format!(
            "UPDATE members SET state = ?, replay = ?, value = ?, value_ref = ?, error = ?, ended = ?, due = NULL, \
             seq = {seq} WHERE run = ? AND job = ?"
        );
        let values = vec![
            Value::Text(end.state.word().to_owned()),
            Value::Int(end.replay.into()),
            Value::MaybeText(end.value.as_ref().map(|value| value.text().to_owned())),
            Value::MaybeText(end.value_ref.and_then(|blob| serde_json::to_string(&blob).ok())),
            Value::MaybeText(end.error.as_deref().map(|error| clip(error, 500))),
            Value::Int(end.ended.as_microsecond()),
            Value::Int(self.row.seq),
            Value::Id(self.run),
            Value::Id(end.job),
        ];
        self.writing.run(&sql.into(), values).await.map(drop)
    }

    async fn less_missing(&mut self, needs: &[Uuid]) -> Result<(), ResultsError> {
        if needs.is_empty() {
            return Ok(());
        }
        let (holes, ids) = list(needs);
        let ids: Vec<Value> = ids.collect();
        let sql = format!(
            "UPDATE members SET missing = missing - (SELECT COUNT(*) FROM needs WHERE needs.run = members.run \
             AND needs.follower = members.job AND needs.need IN {holes}) \
             WHERE run = ? AND job IN (SELECT follower FROM needs WHERE run = ? AND need IN {holes})"
        );
        let own = || Value::Id(self.run);
        let values = ids.iter().cloned().chain([own(), own()]).chain(ids.iter().cloned()).collect();
        self.writing.run(&sql.into(), values).await.map(drop)
    }

    /// The followers of these that miss nothing more.
    async fn make_due(&mut self, needs: &[Uuid]) -> Result<(), ResultsError> {
        if needs.is_empty() {
            return Ok(());
        }
        let (holes, ids) = list(needs);
        let sql = format!(
            "UPDATE members SET state = '{}', due = ? WHERE run = ? AND state = '{}' AND missing <= 0 \
             AND job IN (SELECT follower FROM needs WHERE run = ? AND need IN {holes})",
            word::DUE,
            word::WAITING
        );
        let values =
            [Value::Int(self.stamp), Value::Id(self.run), Value::Id(self.run)].into_iter().chain(ids).collect();
        self.writing.run(&sql.into(), values).await.map(drop)
    }

    async fn skip_all(&mut self) -> Result<(), ResultsError> {
        if self.row.open > 0 {
            let sql = format!(
                "UPDATE members SET state = '{}' WHERE run = ? AND role = 0 AND state = '{}'",
                word::SKIPPED,
                word::WAITING
            );
            let skipped = self.writing.run(&sql.into(), vec![Value::Id(self.run)]).await?;
            self.row.open -= i64::try_from(skipped).unwrap_or(0);
        }
        Ok(())
    }

    /// What needs these, and what needs that.
    async fn skip_followers(&mut self, mut of: Vec<Uuid>) -> Result<(), ResultsError> {
        while !of.is_empty() {
            let mut next = BTreeSet::new();
            for some in of.chunks(AT_ONCE) {
                let (holes, ids) = list(some);
                let sql = format!(
                    "SELECT job FROM members WHERE run = ? AND state = '{}' \
                     AND job IN (SELECT follower FROM needs WHERE run = ? AND need IN {holes})",
                    word::WAITING
                );
                let values = [Value::Id(self.run), Value::Id(self.run)].into_iter().chain(ids).collect();
                for row in self.writing.fetch(&sql.into(), values).await? {
                    next.insert(row.id(0)?);
                }
            }
            of = next.into_iter().collect();
            self.row.open -= i64::try_from(of.len()).unwrap_or(0);
            self.set(&of, &format!("state = '{}'", word::SKIPPED)).await?;
        }
        Ok(())
    }

    /// Begins a replay of a run that has ended: what did not succeed, or was undone, is to be done again.
    pub async fn again(&mut self, again: &Again) -> Result<(), ResultsError> {
        self.advance().await?;
        if self.row.phase != ENDED || i64::from(again.replay) != self.row.replay + 1 {
            return Ok(());
        }
        let anew = format!(
            "replay = replay + CASE WHEN state IN ('{}', '{}') THEN 0 ELSE 1 END, state = '{}', missing = 0, seq = NULL, \
             value = NULL, value_ref = NULL, error = NULL, ended = NULL, due = NULL",
            word::WAITING,
            word::SKIPPED,
            word::WAITING
        );
        let own = vec![Value::Id(self.run)];
        let undone = format!(
            "SELECT undoes FROM members WHERE run = ? AND role = 1 AND state NOT IN ('{}', '{}')",
            word::WAITING,
            word::SKIPPED
        );
        let undone = self.writing.fetch(&undone.into(), own.clone()).await?;
        let undone: BTreeSet<Uuid> = undone.iter().map(|row| row.id(0)).collect::<Result<_, _>>()?;
        let mut todo = BTreeSet::new();
        let all: Sql = "SELECT job, state FROM members WHERE run = ? AND role = 0".into();
        for row in self.writing.fetch(&all, own.clone()).await? {
            let job = row.id(0)?;
            if !succeeded(&row.text(1)?) || undone.contains(&job) {
                todo.insert(job);
            }
        }
        let mut missing: HashMap<Uuid, i64> = HashMap::new();
        let edges: Sql = "SELECT need, follower FROM needs WHERE run = ?".into();
        for row in self.writing.fetch(&edges, own.clone()).await? {
            if todo.contains(&row.id(0)?) {
                *missing.entry(row.id(1)?).or_default() += 1;
            }
        }
        let jobs: Vec<Uuid> = todo.iter().copied().collect();
        self.set(&jobs, &anew).await?;
        self.writing.run(&format!("UPDATE members SET {anew} WHERE run = ? AND role > 0").into(), own).await?;
        let mut by_count: BTreeMap<i64, Vec<Uuid>> = BTreeMap::new();
        for job in &jobs {
            by_count.entry(missing.get(job).copied().unwrap_or(0)).or_default().push(*job);
        }
        let after = again.after_ms.map(|millis| i64::try_from(millis).unwrap_or(0).saturating_mul(1000));
        for (count, jobs) in by_count {
            let what = match (count, after) {
                (0, None) => format!("state = '{}', due = {}", word::DUE, self.stamp),
                // Whoever looks for what is overdue publishes them.
                (0, Some(after)) => format!("state = '{}', due = {}", word::DUE, self.now + after),
                (count, _) => format!("missing = {count}"),
            };
            self.set(&jobs, &what).await?;
        }
        let row = &mut self.row;
        (row.replay, row.phase, row.failed, row.ended) = (row.replay + 1, MEMBERS, 0, None);
        row.open = i64::try_from(jobs.len()).unwrap_or(0);
        row.problems.clear();
        row.untold = Some(self.stamp);
        Ok(())
    }

    /// As far as it goes now: compensation, completion, the end.
    async fn advance(&mut self) -> Result<(), ResultsError> {
        loop {
            self.row.phase = match self.row.phase {
                MEMBERS if self.row.open > 0 => return Ok(()),
                MEMBERS if self.row.failed > 0 && self.row.policy == OnFailure::Compensate => COMPENSATING,
                MEMBERS => THEN,
                COMPENSATING => {
                    if self.compensates().await? {
                        return Ok(());
                    }
                    THEN
                }
                phase @ (THEN | FINALLY) => {
                    let fires = self.cancelled.is_none() && (phase == FINALLY || self.row.failed == 0);
                    if self.is_closing(phase, fires).await? {
                        return Ok(());
                    }
                    phase + 1
                }
                _ => break,
            };
        }
        if self.row.ended.is_none() {
            if let Some(who) = self.cancelled.clone() {
                self.row.problems.push(format!("cancelled {who}"));
                self.row.failed += 1;
            }
            (self.row.ended, self.row.untold) = (Some(self.now), Some(self.stamp));
        }
        Ok(())
    }

    /// One compensation after the other, that of the last that ended first. `false`: there is none left.
    async fn compensates(&mut self) -> Result<bool, ResultsError> {
        let sql = format!(
            "SELECT c.job, c.state FROM members c JOIN members m ON m.run = c.run AND m.job = c.undoes \
             WHERE c.run = ? AND c.role = 1 AND m.state = '{}' AND c.state IN ('{}', '{}', '{}') ORDER BY m.seq DESC",
            State::Succeeded.word(),
            word::WAITING,
            word::DUE,
            word::PUBLISHED
        );
        let rows = self.writing.fetch(&sql.into(), vec![Value::Id(self.run)]).await?;
        let mut next = None;
        for row in &rows {
            if row.text(1)? != word::WAITING {
                return Ok(true);
            }
            next = next.or(Some(row.id(0)?));
        }
        match next.filter(|_| self.cancelled.is_none()) {
            Some(job) => {
                self.set(&[job], &format!("state = '{}', due = {}", word::DUE, self.stamp)).await.map(|()| true)
            }
            None => Ok(false),
        }
    }

    /// The job that closes a phase, which becomes due if it may. `false`: there is none, or it has ended.
    async fn is_closing(&mut self, role: i64, fires: bool) -> Result<bool, ResultsError> {
        let sql: Sql = "SELECT job, state FROM members WHERE run = ? AND role = ?".into();
        let rows = self.writing.fetch(&sql, vec![Value::Id(self.run), Value::Int(role)]).await?;
        let Some(row) = rows.first() else { return Ok(false) };
        let (job, state) = (row.id(0)?, row.text(1)?);
        if state != word::WAITING {
            return Ok(is_open(&state));
        }
        let what = if fires {
            format!("state = '{}', due = {}", word::DUE, self.stamp)
        } else {
            format!("state = '{}'", word::SKIPPED)
        };
        self.set(&[job], &what).await?;
        Ok(fires)
    }

    /// Writes the run's row; adds what is due, and what is to be told, by this step.
    pub async fn close(mut self, followed: &mut Followed) -> Result<(), ResultsError> {
        self.advance().await?;
        let row = &self.row;
        let sql: Sql =
            "UPDATE driven SET replay = ?, phase = ?, open = ?, failed = ?, seq = ?, ended = ?, problems = ?, \
                        untold = ? WHERE run = ?"
                .into();
        let values = vec![
            Value::Int(row.replay),
            Value::Int(row.phase),
            Value::Int(row.open),
            Value::Int(row.failed),
            Value::Int(row.seq),
            Value::MaybeInt(row.ended),
            Value::Text(serde_json::to_string(&row.problems).unwrap_or_default()),
            Value::MaybeInt(row.untold),
            Value::Id(self.run),
        ];
        self.writing.run(&sql, values).await?;
        if self.row.untold == Some(self.stamp) {
            followed.tell.push((self.row.report(self.run), self.stamp));
        }
        let sql = format!("SELECT {DUE} FROM members WHERE run = ? AND due = ? AND state = '{}'", word::DUE);
        for row in self.writing.fetch(&sql.into(), vec![Value::Id(self.run), Value::Int(self.stamp)]).await? {
            followed.due.push(due(&row)?);
        }
        Ok(())
    }

    /// Columns of these members.
    async fn of(&mut self, columns: &str, jobs: &[Uuid]) -> Result<Vec<Column>, ResultsError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let (holes, ids) = list(jobs);
        let sql = format!("SELECT {columns} FROM members WHERE run = ? AND job IN {holes}");
        self.writing.fetch(&sql.into(), [Value::Id(self.run)].into_iter().chain(ids).collect()).await
    }

    /// Sets something of these members.
    async fn set(&mut self, jobs: &[Uuid], what: &str) -> Result<(), ResultsError> {
        for some in jobs.chunks(AT_ONCE) {
            let (holes, ids) = list(some);
            let sql = format!("UPDATE members SET {what} WHERE run = ? AND job IN {holes}");
            self.writing.run(&sql.into(), [Value::Id(self.run)].into_iter().chain(ids).collect()).await?;
        }
        Ok(())
    }
}

/// The columns of what is due.
pub const DUE: &str = "run, job, name, role, spec, replay";

/// What is due.
pub fn due(row: &Column) -> Result<Due, ResultsError> {
    Ok(Due {
        run: row.id(0)?,
        job: row.id(1)?,
        name: row.text(2)?,
        role: Role::of(row.int(3)?),
        member: json(&row.text(4)?)?,
        replay: small(row.int(5)?),
    })
}

/// What is to be told of a run, in a row of `run, DRIVEN`, with its stamp.
pub fn told(row: &Column) -> Result<(RunReport, i64), ResultsError> {
    let read = Row::read_from(row, 1)?;
    Ok((read.report(row.id(0)?), read.untold.unwrap_or(0)))
}

/// The columns [`told`] reads.
pub fn told_columns() -> String {
    format!("run, {DRIVEN}")
}

impl Row {
    fn read(row: &Column) -> Result<Self, ResultsError> {
        Self::read_from(row, 0)
    }

    fn read_from(row: &Column, at: usize) -> Result<Self, ResultsError> {
        Ok(Self {
            name: row.text(at)?,
            policy: OnFailure::of(&row.text(at + 1)?).unwrap_or_default(),
            replay: row.int(at + 2)?,
            phase: row.int(at + 3)?,
            members: row.int(at + 4)?,
            open: row.int(at + 5)?,
            failed: row.int(at + 6)?,
            seq: row.int(at + 7)?,
            started: row.int(at + 8)?,
            ended: row.maybe_int(at + 9)?,
            problems: json(&row.text(at + 10)?)?,
            untold: row.maybe_int(at + 11)?,
        })
    }

    fn report(&self, run: Uuid) -> RunReport {
        RunReport {
            run,
            name: self.name.clone(),
            members: small(self.members),
            steps: 0,
            replay: small(self.replay),
            started: instant(self.started),
            ended: self.ended.map(instant),
            succeeded: self.ended.map(|_| self.failed == 0),
            problems: self.problems.clone(),
        }
    }
}
