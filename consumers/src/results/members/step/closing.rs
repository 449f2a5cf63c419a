//! What follows the members: compensation, completion, the end; and the replay of a run that has ended.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use spinor_executors::State;
use uuid::Uuid;

use super::{
    super::{
        super::{
            ResultsError,
            database::{Sql, Value},
        },
        is_open, succeeded, word,
    },
    COMPENSATING, ENDED, FINALLY, MEMBERS, Step, THEN,
};
use crate::next::{Again, OnFailure};

impl Step<'_> {
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
    pub(super) async fn advance(&mut self) -> Result<(), ResultsError> {
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
}
