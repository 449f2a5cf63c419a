//! One run's change within a transaction: it is filled in, members end, others become due, it ends.

mod closing;

use std::collections::{BTreeMap, BTreeSet};

use spinor_executors::State;
use uuid::Uuid;

use super::{
    super::{
        ResultsError,
        change::clip,
        database::{Column, Flavour, Sql, Value, Writing},
        read::small,
    },
    AT_ONCE, Followed, OVERDUE, Role, insert, is_open, list,
    row::{DRIVEN, DUE, Row, due},
    word,
};
use crate::next::{End, Member, NewRun, OnFailure, job_id};

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
        let sql = format!("SELECT {DRIVEN} FROM driven WHERE run = ?{}", flavour.lock());
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
        let mut rows = BTreeMap::new();
        for row in self.of("job, state, replay, role, name", &jobs).await? {
            rows.insert(row.id(0)?, row);
        }
        // In the order they came in: compensation goes that way back.
        for end in ends.iter().filter(|end| end.state.is_final()) {
            let (Some(last), Some(row)) = (by_job.get(&end.job), rows.get(&end.job)) else { continue };
            let (job, state, replay) = (end.job, row.text(1)?, small(row.int(2)?));
            if !std::ptr::eq(*last, *end) || end.replay < replay {
                continue;
            }
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
        let followers = self.followers(&went_well).await?;
        for (count, of) in &followers {
            self.set(of, &format!("missing = missing - {count}")).await?;
        }
        if self.is_stopped() {
            self.skip_all().await
        } else {
            self.skip_followers(failed).await?;
            self.make_due(&followers.into_values().flatten().collect::<Vec<_>>()).await
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

    /// Who needs these, by how many of them. Asked for apart: MariaDB would look through all members for each
    /// statement that asks within.
    async fn followers(&mut self, needs: &[Uuid]) -> Result<BTreeMap<i64, Vec<Uuid>>, ResultsError> {
        let mut followers: BTreeMap<i64, Vec<Uuid>> = BTreeMap::new();
        if needs.is_empty() {
            return Ok(followers);
        }
        let (holes, ids) = list(needs);
        let sql = format!("SELECT follower, COUNT(*) FROM needs WHERE run = ? AND need IN {holes} GROUP BY follower");
        for row in self.writing.fetch(&sql.into(), [Value::Id(self.run)].into_iter().chain(ids).collect()).await? {
            followers.entry(row.int(1)?).or_default().push(row.id(0)?);
        }
        Ok(followers)
    }

    /// Those of these that miss nothing more.
    async fn make_due(&mut self, followers: &[Uuid]) -> Result<(), ResultsError> {
        for some in followers.chunks(AT_ONCE) {
            let (holes, ids) = list(some);
            let sql = format!(
                "UPDATE members SET state = '{}', due = ? WHERE run = ? AND state = '{}' AND missing <= 0 AND job IN {holes}",
                word::DUE,
                word::WAITING
            );
            let values = [Value::Int(self.stamp), Value::Id(self.run)].into_iter().chain(ids).collect();
            self.writing.run(&sql.into(), values).await?;
        }
        Ok(())
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
