//! What is due of one trigger, decided within the leader's transaction: its instants are written down, and it
//! moves past them.

use uuid::Uuid;

use super::{
    super::{
        ResultsError, Store,
        database::{Value, Writing},
        write::jitter,
    },
    Turn,
    decide::{Decision, decide},
    instant,
    row::Row,
    word, words,
};
use crate::schedule::{Overlap, Schedule, following_id, tick_id};

/// What is due is published at once; after this long a leader does it again.
pub const OVERDUE: i64 = 5_000_000;
/// So many instants of a trigger are kept as its history.
const KEPT: usize = 1000;
/// A schedule that cannot be read here is looked at again after this.
pub const BROKEN: i64 = 60_000_000;

impl Store {
    /// Decides what is due of one trigger, writes its instants down, and moves it past them.
    pub(super) async fn fire(
        &self,
        writing: &mut Writing,
        row: &mut Row,
        now: i64,
        turn: &mut Turn,
    ) -> Result<(), ResultsError> {
        let (Some(planned), schedule) = (row.next_instant, row.spec.schedule()) else {
            row.fire_at = None;
            return Ok(());
        };
        let schedule = match schedule {
            Ok(schedule) => schedule,
            Err(error) => {
                // It was checked when it was accepted: this machine knows less, of time zones perhaps.
                tracing::error!(trigger = row.name, %error, "A trigger cannot be fired by this process.");
                row.fire_at = Some(now + BROKEN);
                return Ok(());
            }
        };
        let decision = decide(&schedule, row.id, instant(planned), row.spec.misfire, instant(now));
        if let Some((count, first, last)) = decision.missed {
            tracing::warn!(trigger = row.name, count, %first, %last, "Instants of a trigger were missed.");
            let note = match count {
                1 => "missed: nobody fired it in its time".to_owned(),
                _ => format!("missed: {count} instants from {first} to {last}, nobody fired them in their time"),
            };
            let at = last.as_microsecond();
            self.tick(writing, row.id, at, tick_id(row.id, last), word::SKIPPED, at, None, Some(note)).await?;
        }
        for black in &decision.black {
            let at = black.first.as_microsecond();
            let note = match black.count {
                1 => format!("blackout `{}`", black.window),
                count => format!("blackout `{}`: {count} instants up to {}", black.window, black.last),
            };
            let job = tick_id(row.id, black.first);
            self.tick(writing, row.id, at, job, word::SKIPPED, at, None, Some(note)).await?;
        }
        turn.counted.missed += decision.missed.map_or(0, |missed| missed.0);
        turn.counted.blackout += decision.black.iter().map(|black| black.count).sum::<usize>();
        self.fire_each(writing, row, &schedule, &decision, now, turn).await?;
        row.last_instant = decision.last.as_microsecond();
        row.plan(&schedule);
        if decision.more {
            row.fire_at = row.fire_at.map(|at| at.max(now + 1_000_000));
        }
        if jitter(64) == 0 {
            self.forget(writing, row).await?;
        }
        Ok(())
    }

    async fn fire_each(
        &self,
        writing: &mut Writing,
        row: &mut Row,
        schedule: &Schedule,
        decision: &Decision,
        now: i64,
        turn: &mut Turn,
    ) -> Result<(), ResultsError> {
        for (instant, time) in &decision.fire {
            if row.spec.max_runs.is_some_and(|most| row.fired.unsigned_abs() >= most) {
                break;
            }
            let (at, time) = (instant.as_microsecond(), time.as_microsecond());
            let job = match self.before(writing, row, schedule).await? {
                Some(previous) => following_id(row.id, previous),
                None => tick_id(row.id, *instant),
            };
            let note = match (row.spec.overlap, row.busy) {
                (Overlap::Skip, Some(busy)) => Some(format!("job {busy} of an earlier instant had not ended")),
                (Overlap::Queue, Some(_)) if row.waiting.is_some() => {
                    Some("one waits already for the end of an earlier one".to_owned())
                }
                _ => None,
            };
            if note.is_some() {
                turn.counted.overlap += 1;
                self.tick(writing, row.id, at, job, word::SKIPPED, time, None, note).await?;
                continue;
            }
            let waits = row.spec.overlap == Overlap::Queue && row.busy.is_some();
            let (state, until) = if waits { (word::WAITING, None) } else { (word::DUE, Some(now + OVERDUE)) };
            if !self.tick(writing, row.id, at, job, state, time, until, None).await? {
                continue;
            }
            row.fired += 1;
            if waits {
                row.waiting = Some(at);
                continue;
            }
            if row.spec.overlap != Overlap::Allow {
                row.busy = Some(job);
            }
            turn.due.push(row.tick(at, job, Some(time)));
        }
        Ok(())
    }

    /// The job before, where the next one is counted from its end.
    async fn before(
        &self,
        writing: &mut Writing,
        row: &Row,
        schedule: &Schedule,
    ) -> Result<Option<Uuid>, ResultsError> {
        if !schedule.counts_from_end() {
            return Ok(None);
        }
        let sql = format!(
            "SELECT job FROM ticks WHERE schedule = ? AND state <> '{}' ORDER BY instant DESC LIMIT 1",
            word::SKIPPED
        );
        let rows = writing.fetch(&sql.into(), vec![Value::Id(row.id)]).await?;
        rows.first().map(|row| row.id(0)).transpose()
    }

    /// Writes an instant down; `false` when it is there already.
    #[allow(clippy::too_many_arguments, reason = "one for each column")]
    pub(super) async fn tick(
        &self,
        writing: &mut Writing,
        schedule: Uuid,
        at: i64,
        job: Uuid,
        state: &str,
        fire_at: i64,
        due: Option<i64>,
        note: Option<String>,
    ) -> Result<bool, ResultsError> {
        let sql =
            "{insert} INTO ticks (schedule, instant, job, state, fire_at, due, note) VALUES (?, ?, ?, ?, ?, ?, ?)";
        let values = vec![
            Value::Id(schedule),
            Value::Int(at),
            Value::Id(job),
            Value::Text(state.to_owned()),
            Value::Int(fire_at),
            Value::MaybeInt(due),
            Value::MaybeText(note),
        ];
        writing.run(&words(self.database.flavour(), sql), values).await.map(|count| count > 0)
    }

    /// Removes what is too old to be history; not the instant whose job is still waited for.
    async fn forget(&self, writing: &mut Writing, row: &Row) -> Result<(), ResultsError> {
        let sql = format!("SELECT instant FROM ticks WHERE schedule = ? ORDER BY instant DESC LIMIT 1 OFFSET {KEPT}");
        let rows = writing.fetch(&sql.into(), vec![Value::Id(row.id)]).await?;
        let Some(oldest) = rows.first() else { return Ok(()) };
        let sql = format!(
            "DELETE FROM ticks WHERE schedule = ? AND instant <= ? AND due IS NULL AND state <> '{}' AND job <> ?",
            word::WAITING
        );
        // Nil is no job's.
        let busy = Value::Id(row.busy.unwrap_or_default());
        writing.run(&sql.into(), vec![Value::Id(row.id), Value::Int(oldest.int(0)?), busy]).await.map(drop)
    }
}
