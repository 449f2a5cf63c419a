//! A row of `schedules`, in and out.

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    super::{
        ResultsError,
        database::{Column, Flavour, Value, Writing},
        read::{json, small},
    },
    Previous, Tick, TriggerRow, instant, state, words,
};
use crate::schedule::{Schedule, Spec, SpecError};

/// The columns of a [`Row`].
pub const COLUMNS: &str = "id, name, origin, stamp, revision, state, spec, changed, changed_by, last_instant, \
                           next_instant, fire_at, fired, busy, waiting, prev_instant, prev_state, prev_value";

/// A trigger and where it stands.
pub struct Row {
    pub id: Uuid,
    pub name: String,
    pub origin: String,
    pub stamp: i64,
    pub revision: i64,
    pub state: String,
    pub spec: Spec,
    pub changed: i64,
    pub changed_by: String,
    pub last_instant: i64,
    pub next_instant: Option<i64>,
    pub fire_at: Option<i64>,
    pub fired: i64,
    pub busy: Option<Uuid>,
    pub waiting: Option<i64>,
    pub previous: Option<Previous>,
}

impl Row {
    pub fn read(row: &Column) -> Result<Self, ResultsError> {
        Ok(Self {
            id: row.id(0)?,
            name: row.text(1)?,
            origin: row.text(2)?,
            stamp: row.int(3)?,
            revision: row.int(4)?,
            state: row.text(5)?,
            spec: json(&row.text(6)?)?,
            changed: row.int(7)?,
            changed_by: row.text(8)?,
            last_instant: row.int(9)?,
            next_instant: row.maybe_int(10)?,
            fire_at: row.maybe_int(11)?,
            fired: row.int(12)?,
            busy: row.maybe_id(13)?,
            waiting: row.maybe_int(14)?,
            previous: previous(row, 15)?,
        })
    }

    /// Writes everything but what stays, by its id; a new one is inserted.
    pub async fn write(&self, writing: &mut Writing, flavour: Flavour, new: bool) -> Result<(), ResultsError> {
        let spec = serde_json::to_string(&self.spec).map_err(|error| ResultsError::Refused(error.to_string()))?;
        let values = vec![
            Value::Text(self.name.clone()),
            Value::Text(self.origin.clone()),
            Value::Int(self.stamp),
            Value::Int(self.revision),
            Value::Text(self.state.clone()),
            Value::Text(spec),
            Value::Int(self.changed),
            Value::Text(self.changed_by.clone()),
            Value::Int(self.last_instant),
            Value::MaybeInt(self.next_instant),
            Value::MaybeInt(self.fire_at),
            Value::Int(self.fired),
            Value::MaybeId(self.busy),
            Value::MaybeInt(self.waiting),
            Value::Id(self.id),
        ];
        let sql = if new {
            "INSERT INTO schedules (name, origin, stamp, revision, state, spec, changed, changed_by, last_instant, \
             next_instant, fire_at, fired, busy, waiting, id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        } else {
            "UPDATE schedules SET name = ?, origin = ?, stamp = ?, revision = ?, state = ?, spec = ?, changed = ?, \
             changed_by = ?, last_instant = ?, next_instant = ?, fire_at = ?, fired = ?, busy = ?, waiting = ? \
             WHERE id = ?"
        };
        writing.run(&words(flavour, sql), values).await.map(drop)
    }

    /// Looks for the coming instant after the last that was decided; nothing is to come unless it is active.
    pub fn plan(&mut self, schedule: &Schedule) {
        let more = self.spec.max_runs.is_none_or(|most| self.fired.unsigned_abs() < most);
        let next = if more { schedule.next(instant(self.last_instant)) } else { None };
        if schedule.counts_from_end() && self.busy.is_some() && next.is_some() {
            // The end of that job says when.
            (self.next_instant, self.fire_at) = (None, None);
            return;
        }
        match next {
            Some(_) if self.state == state::ENDED => self.state = state::ACTIVE.to_owned(),
            None if self.state == state::ACTIVE => self.state = state::ENDED.to_owned(),
            _ => {}
        }
        let next = next.filter(|_| self.state == state::ACTIVE);
        self.next_instant = next.map(Timestamp::as_microsecond);
        self.fire_at = next.map(|next| schedule.fire_at(self.id, next).as_microsecond());
    }

    /// The same from now on: nothing before counts as missed.
    pub fn plan_from(&mut self, now: i64) -> Result<(), SpecError> {
        let schedule = self.spec.schedule()?;
        // Also back, from the end of a blackout that was passed at once; what has fired is not fired again.
        self.last_instant = now;
        self.plan(&schedule);
        Ok(())
    }

    /// Its job ended: counts on from now, whatever the clock of its consumer said.
    pub fn count_on(&mut self, now: i64) -> Result<(), SpecError> {
        let schedule = self.spec.schedule()?;
        if schedule.counts_from_end() {
            self.last_instant = now.max(self.last_instant);
            self.plan(&schedule);
        }
        Ok(())
    }

    /// One of its instants, to be published.
    pub fn tick(&self, at: i64, job: Uuid, time: Option<i64>) -> Tick {
        Tick {
            schedule: self.id,
            name: self.name.clone(),
            instant: instant(at),
            time: time.map(instant),
            job,
            spec: self.spec.clone(),
            previous: self.previous.clone(),
        }
    }

    /// As people see it.
    pub fn shown(self) -> TriggerRow {
        let next = self.next_instant.map(instant);
        let next = if self.spec.blackout.is_empty() {
            next
        } else {
            // The instant that comes may be one of a blackout.
            next.and_then(|next| self.spec.schedule().ok()?.first_from(next))
        };
        TriggerRow {
            name: self.name,
            id: self.id,
            origin: self.origin,
            state: self.state,
            revision: small(self.revision),
            changed: instant(self.changed),
            changed_by: self.changed_by,
            asked: self.spec.asked,
            next,
            fired: self.fired.unsigned_abs(),
            busy: self.busy,
            waiting: self.waiting.map(instant),
            previous: self.previous,
        }
    }
}

/// How the latest instant ended, from three columns.
pub fn previous(row: &Column, at: usize) -> Result<Option<Previous>, ResultsError> {
    let (Some(when), Some(outcome)) = (row.maybe_int(at)?, row.maybe_text(at + 1)?) else { return Ok(None) };
    let value = row.maybe_text(at + 2)?.as_deref().map(json).transpose()?;
    Ok(Some(Previous { instant: instant(when), outcome, value }))
}
