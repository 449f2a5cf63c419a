//! What the leader does with delayed jobs: it takes those that are due, in a transaction that holds the row of
//! the lead, and removes them once they are published. What was taken and is still here is published again.

use std::time::Duration;

use uuid::Uuid;

use super::{
    super::{Results, ResultsError, Store, write::anew},
    COLUMNS, Delayed, OVERDUE, delayed, padded, state,
};
use crate::results::database::{Column, Value};

/// So many are taken, published and removed at a time.
const SOME: usize = 500;
/// And about so many bytes of them: each may have args of 256 KiB.
const BYTES: i64 = 8 << 20;

/// What a look tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// This process leads, in this epoch.
    pub epoch: Option<i64>,
    /// Something was taken and not published in its time, or cancelled and not told of.
    pub overdue: bool,
    /// The next one is due after this; none waits when it is absent.
    pub wait: Option<Duration>,
}

impl Results {
    /// Is there anything for this process to do? Writes nothing.
    pub async fn look_at_delayed(&self, owner: Uuid) -> Result<Look, ResultsError> {
        let next = |state: i64| format!("(SELECT MIN(fire_at) FROM timers WHERE state = {state})");
        let sql = format!(
            "SELECT owner, epoch, until, {{now}}, {}, {}, {} FROM leaders WHERE name = 'triggers'",
            next(state::WAITS),
            next(state::TAKEN),
            next(state::CANCELLED)
        );
        let sql = self.0.database.flavour().words(&sql);
        let rows = self.0.database.ask(sql, Vec::new()).await?;
        let Some(row) = rows.first() else { return Ok(Look::default()) };
        let (epoch, until, now) = (row.int(1)?, row.int(2)?, row.int(3)?);
        if row.id(0)? != owner || until <= now {
            return Ok(Look::default());
        }
        let passed = |at: Option<i64>| at.is_some_and(|at| at <= now);
        let wait = row.maybe_int(4)?.map(|at| Duration::from_micros(at.saturating_sub(now).max(0).unsigned_abs()));
        Ok(Look { epoch: Some(epoch), overdue: passed(row.maybe_int(5)?) || passed(row.maybe_int(6)?), wait })
    }

    /// Removes what is `done`, and takes what is due, the longest due first; neither once another process leads.
    pub async fn take_delayed(&self, owner: Uuid, done: &[Uuid]) -> Result<Vec<Delayed>, ResultsError> {
        anew(|| self.0.take_delayed(owner, done)).await
    }

    /// What was taken and is not known to be published, or cancelled and not known to be told: what is overdue,
    /// or all of what was taken.
    pub async fn left_delayed(&self, all: bool) -> Result<Vec<Delayed>, ResultsError> {
        let mut left = Vec::new();
        for state in [state::TAKEN, state::CANCELLED] {
            let bound = if all && state == state::TAKEN { i64::MAX.to_string() } else { "{now}".to_owned() };
            let sql = self.0.database.flavour().words(&sizes(state, &bound));
            let some = no_more(&self.0.database.ask(sql, Vec::new()).await?)?;
            if some.is_empty() {
                continue;
            }
            let (holes, ids) = padded(&some);
            for row in &self.0.database.ask(whole(&holes), ids).await? {
                left.push(delayed(row)?);
            }
        }
        Ok(left)
    }

    /// Removes those that are published, or of whose end was told.
    pub async fn forget_delayed(&self, of: &[Uuid]) -> Result<(), ResultsError> {
        for some in of.chunks(SOME) {
            let (holes, values) = padded(some);
            self.0.change_delayed(&forgotten(&holes), values).await?;
        }
        Ok(())
    }

    /// What was taken and cannot be published now lets others go first.
    pub async fn put_off_delayed(&self, of: &[Uuid]) -> Result<(), ResultsError> {
        for some in of.chunks(SOME) {
            let (holes, values) = padded(some);
            let taken = state::TAKEN;
            let sql =
                format!("UPDATE timers SET fire_at = {{now}} + {OVERDUE} WHERE job IN ({holes}) AND state = {taken}");
            self.0.change_delayed(&sql, values).await?;
        }
        Ok(())
    }

    /// Returns when something of this table was changed by this process.
    pub async fn delayed_changed(&self) {
        self.0.nudge.notified().await;
    }
}

/// What waits is never removed: it may have been published anew.
fn forgotten(holes: &str) -> String {
    format!("DELETE FROM timers WHERE job IN ({holes}) AND state <> {}", state::WAITS)
}

/// The first that are due, each with its size.
fn sizes(state: i64, bound: &str) -> String {
    format!(
        "SELECT job, LENGTH(spec) FROM timers WHERE state = {state} AND fire_at <= {bound} ORDER BY fire_at LIMIT {SOME}"
    )
}

/// Of these the first that are not too large together; one at least.
fn no_more(rows: &[Column]) -> Result<Vec<Uuid>, ResultsError> {
    let (mut some, mut bytes) = (Vec::with_capacity(rows.len()), 0);
    for row in rows {
        bytes += row.int(1)?;
        if bytes > BYTES && !some.is_empty() {
            break;
        }
        some.push(row.id(0)?);
    }
    Ok(some)
}

fn whole(holes: &str) -> String {
    format!("SELECT {COLUMNS}, spec, state, why FROM timers WHERE job IN ({holes}) ORDER BY fire_at")
}

impl Store {
    async fn take_delayed(&self, owner: Uuid, done: &[Uuid]) -> Result<Vec<Delayed>, ResultsError> {
        let mut writing = self.database.begin().await?;
        let lead = self.words("SELECT owner, until, {now} FROM leaders WHERE name = 'triggers'{lock}");
        let rows = writing.fetch(&lead, Vec::new()).await?;
        let Some(row) = rows.first() else { return Ok(Vec::new()) };
        let (until, now) = (row.int(1)?, row.int(2)?);
        if row.id(0)? != owner || until <= now {
            return Ok(Vec::new());
        }
        for some in done.chunks(SOME) {
            let (holes, values) = padded(some);
            writing.run(&self.words(&forgotten(&holes)), values).await?;
        }
        let sql = sizes(state::WAITS, "?") + "{lock}";
        let some = no_more(&writing.fetch(&self.words(&sql), vec![Value::Int(now)]).await?)?;
        if some.is_empty() {
            return writing.commit().await.map(|()| Vec::new());
        }
        let (holes, ids) = padded(&some);
        let rows = writing.fetch(&self.words(&whole(&holes)), ids.clone()).await?;
        let due = rows.iter().map(delayed).collect::<Result<Vec<_>, _>>()?;
        let sql = format!("UPDATE timers SET state = {}, fire_at = ? WHERE job IN ({holes})", state::TAKEN);
        let values = std::iter::once(Value::Int(now + OVERDUE)).chain(ids).collect();
        writing.run(&self.words(&sql), values).await?;
        writing.commit().await?;
        Ok(due)
    }
}
