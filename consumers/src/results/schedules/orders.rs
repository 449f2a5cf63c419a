//! What files and people want of triggers: each order is one transaction that holds the trigger's row.
//!
//! Of files the newest counts, by the time it was written; of two that are as new the one read last. What a
//! file says is changed by files alone, but for pause and fire.

use uuid::Uuid;

use super::{
    super::{
        Results, ResultsError, Store,
        change::clip,
        database::{Flavour, Value, Writing},
        write::{OfResults, anew},
    },
    Tick, TriggerRow,
    changes::{By, Was, note},
    ended::release,
    row::{COLUMNS, Row},
    state, word, words,
};
use crate::schedule::{Overlap, Spec};

const FILE: &str = "file";
const COMMAND: &str = "command";

/// A trigger as somebody wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// Its name.
    pub name: String,
    /// What it shall be.
    pub spec: Spec,
}

/// Why an order was not obeyed. Named by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// Choose another name.
    #[error("there is a trigger `{0}` already")]
    Taken(String),
    /// Look for the right name.
    #[error("there is no trigger `{0}`")]
    Unknown(String),
    /// Change the file.
    #[error("`{0}` comes from the configuration file; change it there, or pause it")]
    FromFile(String),
    /// Wait for the end of that job, or cancel it.
    #[error("job {0} of an earlier instant has not ended, and they must not overlap")]
    Busy(Uuid),
    /// Mend it.
    #[error("{0}")]
    Wrong(String),
    /// Try again later.
    #[error(transparent)]
    Results(#[from] ResultsError),
}

impl Results {
    /// Brings what is stored to what a file says that was written at `stamp`; what only older files named is retired.
    pub async fn register_triggers(&self, given: &[Given], stamp: i64, who: &str) -> Result<(), ResultsError> {
        anew(|| self.0.register_triggers(given, stamp, who)).await
    }

    /// Adds a trigger, or puts another in the place of one (`edit`).
    pub async fn put_trigger(&self, given: &Given, edit: bool, by: By<'_>) -> Result<TriggerRow, NotDone> {
        anew(|| self.0.put_trigger(given, edit, by)).await
    }

    /// Lets nothing of a trigger fire.
    pub async fn pause_trigger(&self, name: &str, by: By<'_>) -> Result<TriggerRow, NotDone> {
        anew(|| self.0.turn_trigger(name, (state::ACTIVE, state::PAUSED), false, by)).await
    }

    /// Lets it go on from now. `free`: the job that the next one may not overlap is forgotten.
    pub async fn resume_trigger(&self, name: &str, free: bool, by: By<'_>) -> Result<TriggerRow, NotDone> {
        anew(|| self.0.turn_trigger(name, (state::PAUSED, state::ACTIVE), free, by)).await
    }

    /// Fires a trigger now, beside its schedule.
    pub async fn fire_trigger(&self, name: &str, by: By<'_>) -> Result<Tick, NotDone> {
        anew(|| self.0.fire_trigger(name, by)).await
    }

    /// Removes a trigger with its history; jobs that it fired go on.
    pub async fn remove_trigger(&self, name: &str, by: By<'_>) -> Result<TriggerRow, NotDone> {
        anew(|| self.0.remove_trigger(name, by)).await
    }
}

/// An order that met another transaction is given again: a leader at work is no reason to refuse a person.
impl OfResults for NotDone {
    fn said(&self) -> Option<&ResultsError> {
        match self {
            Self::Results(error) => Some(error),
            _ => None,
        }
    }
}

impl Store {
    async fn register_triggers(&self, given: &[Given], stamp: i64, who: &str) -> Result<(), ResultsError> {
        let flavour = self.database.flavour();
        let mut writing = self.database.begin().await?;
        // Two files are read one after the other.
        let sql = "{insert} INTO leaders (name, owner, who, epoch, since, until) VALUES ('files', ?, '', 0, 0, 0)";
        writing.run(&words(flavour, sql), vec![Value::Id(Uuid::nil())]).await?;
        let sql = words(flavour, "SELECT {now} FROM leaders WHERE name = 'files'{lock}");
        let now = writing.fetch(&sql, Vec::new()).await?.first().map_or(Ok(0), |row| row.int(0))?;
        for given in given {
            register(&mut writing, flavour, given, (stamp, now), who).await?;
        }
        let sql = format!("SELECT {COLUMNS} FROM schedules WHERE origin = '{FILE}' AND stamp <= ?{{lock}}");
        for row in writing.fetch(&words(flavour, &sql), vec![Value::Int(stamp)]).await? {
            let mut row = Row::read(&row)?;
            if row.state != state::RETIRED && !given.iter().any(|given| given.name == row.name) {
                let old = Was::of(&row);
                row.state = state::RETIRED.to_owned();
                (row.next_instant, row.fire_at, row.stamp) = (None, None, stamp);
                changed(&mut row, now, who);
                row.write(&mut writing, flavour, false).await?;
                let (by, was) = (By { who, why: None }, (Some(old), Some(Was::of(&row))));
                note(&mut writing, flavour, (&row.name, now), by, "retired", was).await?;
            }
        }
        writing.commit().await
    }

    async fn put_trigger(&self, given: &Given, edit: bool, by: By<'_>) -> Result<TriggerRow, NotDone> {
        let flavour = self.database.flavour();
        let mut writing = self.database.begin().await?;
        let now = now(&mut writing, flavour).await?;
        let found = find(&mut writing, flavour, &given.name).await?;
        let old = found.as_ref().map(Was::of);
        let row = match (found, edit) {
            (None, true) => return Err(NotDone::Unknown(given.name.clone())),
            (Some(row), false) if row.state != state::RETIRED => return Err(NotDone::Taken(given.name.clone())),
            (Some(row), true) if row.origin == FILE && row.state != state::RETIRED => {
                return Err(NotDone::FromFile(given.name.clone()));
            }
            (None, false) => {
                let row = fresh(given, Uuid::now_v7(), COMMAND, (0, now), by.who);
                settle(row, now)?.write_new(&mut writing, flavour).await?
            }
            (Some(mut row), _) => {
                row.origin = COMMAND.to_owned();
                changed(&mut row, now, by.who);
                let row = replace(row, given, now)?;
                row.write(&mut writing, flavour, false).await?;
                row
            }
        };
        let what = if edit { "edited" } else { "added" };
        note(&mut writing, flavour, (&row.name, now), by, what, (old, Some(Was::of(&row)))).await?;
        writing.commit().await?;
        Ok(row.shown())
    }

    async fn turn_trigger(
        &self,
        name: &str,
        (from, to): (&str, &str),
        free: bool,
        by: By<'_>,
    ) -> Result<TriggerRow, NotDone> {
        let flavour = self.database.flavour();
        let mut writing = self.database.begin().await?;
        let now = now(&mut writing, flavour).await?;
        let Some(mut row) = find(&mut writing, flavour, name).await? else {
            return Err(NotDone::Unknown(name.to_owned()));
        };
        let old = Was::of(&row);
        let mut what = None;
        if row.state == from {
            what = Some(if to == state::PAUSED { "paused" } else { "resumed" });
            row.state = to.to_owned();
            changed(&mut row, now, by.who);
            row.plan_from(now).map_err(|error| NotDone::Wrong(error.to_string()))?;
        } else if row.state != to && !free {
            return Err(NotDone::Wrong(format!("`{name}` is {}: nothing is to come of it", row.state)));
        }
        if free {
            what = what.or(row.busy.map(|_| "freed"));
            row.busy = release(&mut writing, flavour, row.id, row.waiting.take()).await?;
            row.count_on(now).map_err(|error| NotDone::Wrong(error.to_string()))?;
        }
        row.write(&mut writing, flavour, false).await?;
        if let Some(what) = what {
            note(&mut writing, flavour, (name, now), by, what, (Some(old), Some(Was::of(&row)))).await?;
        }
        writing.commit().await?;
        Ok(row.shown())
    }

    async fn fire_trigger(&self, name: &str, by: By<'_>) -> Result<Tick, NotDone> {
        let flavour = self.database.flavour();
        let mut writing = self.database.begin().await?;
        let now = now(&mut writing, flavour).await?;
        let Some(mut row) = find(&mut writing, flavour, name).await? else {
            return Err(NotDone::Unknown(name.to_owned()));
        };
        if let (Overlap::Skip | Overlap::Queue, Some(busy)) = (row.spec.overlap, row.busy) {
            return Err(NotDone::Busy(busy));
        }
        let job = Uuid::now_v7();
        let why = by.why.map(|why| format!(": {why}")).unwrap_or_default();
        let told = clip(&format!("fired by {}{why}", by.who), 400);
        if !self.tick(&mut writing, row.id, now, job, word::DUE, now, Some(0), Some(told)).await? {
            return Err(NotDone::Wrong("it fires at this very moment".to_owned()));
        }
        row.fired += 1;
        if row.spec.overlap != Overlap::Allow {
            row.busy = Some(job);
        }
        row.count_on(now).map_err(|error| NotDone::Wrong(error.to_string()))?;
        row.write(&mut writing, flavour, false).await?;
        writing.commit().await?;
        Ok(row.tick(now, job, None))
    }

    async fn remove_trigger(&self, name: &str, by: By<'_>) -> Result<TriggerRow, NotDone> {
        let flavour = self.database.flavour();
        let mut writing = self.database.begin().await?;
        let now = now(&mut writing, flavour).await?;
        let Some(row) = find(&mut writing, flavour, name).await? else {
            return Err(NotDone::Unknown(name.to_owned()));
        };
        if row.origin == FILE && row.state != state::RETIRED {
            return Err(NotDone::FromFile(name.to_owned()));
        }
        for sql in ["DELETE FROM ticks WHERE schedule = ?", "DELETE FROM schedules WHERE id = ?"] {
            writing.run(&words(flavour, sql), vec![Value::Id(row.id)]).await?;
        }
        note(&mut writing, flavour, (name, now), by, "removed", (Some(Was::of(&row)), None)).await?;
        writing.commit().await?;
        Ok(row.shown())
    }
}

pub(super) async fn now(writing: &mut Writing, flavour: Flavour) -> Result<i64, ResultsError> {
    let rows = writing.fetch(&words(flavour, "SELECT {now}"), Vec::new()).await?;
    rows.first().map_or(Ok(0), |row| row.int(0))
}

pub(super) async fn find(writing: &mut Writing, flavour: Flavour, name: &str) -> Result<Option<Row>, ResultsError> {
    let sql = format!("SELECT {COLUMNS} FROM schedules WHERE name = ?{{lock}}");
    let rows = writing.fetch(&words(flavour, &sql), vec![Value::Text(name.to_owned())]).await?;
    rows.first().map(Row::read).transpose()
}

async fn register(
    writing: &mut Writing,
    flavour: Flavour,
    given: &Given,
    (stamp, now): (i64, i64),
    who: &str,
) -> Result<(), ResultsError> {
    let refused = |why: NotDone| ResultsError::Misconfigured(format!("triggers.{}: {why}", given.name));
    let Some(mut row) = find(writing, flavour, &given.name).await? else {
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("spinor.trigger.{}", given.name).as_bytes());
        let row = fresh(given, id, FILE, (stamp, now), who);
        let row = settle(row, now).map_err(refused)?;
        row.write(writing, flavour, true).await?;
        let (by, was) = (By { who, why: None }, (None, Some(Was::of(&row))));
        return note(writing, flavour, (&row.name, now), by, "added", was).await;
    };
    if row.origin == FILE && row.stamp > stamp {
        tracing::info!(trigger = given.name, "A newer file says what this trigger is; this process goes by that.");
        return Ok(());
    }
    if row.origin != FILE {
        tracing::warn!(trigger = given.name, "The file takes over a trigger that was made by a command.");
    }
    let stays = row.spec == given.spec && row.origin == FILE && row.state != state::RETIRED;
    row.stamp = stamp;
    let old = Was::of(&row);
    if !stays {
        row.origin = FILE.to_owned();
        changed(&mut row, now, who);
        row = replace(row, given, now).map_err(refused)?;
        let (by, was) = (By { who, why: None }, (Some(old), Some(Was::of(&row))));
        note(writing, flavour, (&row.name, now), by, "edited", was).await?;
    }
    row.write(writing, flavour, false).await
}

fn fresh(given: &Given, id: Uuid, origin: &str, (stamp, now): (i64, i64), who: &str) -> Row {
    let state = if given.spec.paused { state::PAUSED } else { state::ACTIVE };
    Row {
        id,
        name: given.name.clone(),
        origin: origin.to_owned(),
        stamp,
        revision: 1,
        state: state.to_owned(),
        spec: given.spec.clone(),
        changed: now,
        changed_by: clip(who, 200),
        last_instant: now,
        next_instant: None,
        fire_at: None,
        fired: 0,
        busy: None,
        waiting: None,
        previous: None,
    }
}

fn settle(mut row: Row, now: i64) -> Result<Row, NotDone> {
    row.plan_from(now).map_err(|error| NotDone::Wrong(error.to_string()))?;
    Ok(row)
}

/// Another spec in the place of the old one; instants before now are not made up for when its times change.
fn replace(mut row: Row, given: &Given, now: i64) -> Result<Row, NotDone> {
    // Who did not ask for another state leaves it as somebody made it.
    let pause = if row.spec.paused == given.spec.paused && row.state != state::RETIRED {
        row.state == state::PAUSED
    } else {
        given.spec.paused
    };
    let same = row.spec.same_times(&given.spec) && row.state == state::ACTIVE && !pause;
    row.spec = given.spec.clone();
    if same {
        return Ok(row);
    }
    row.state = if pause { state::PAUSED } else { state::ACTIVE }.to_owned();
    settle(row, now)
}

fn changed(row: &mut Row, now: i64, who: &str) {
    row.revision += 1;
    row.changed = now;
    row.changed_by = clip(who, 200);
}

impl Row {
    async fn write_new(self, writing: &mut Writing, flavour: Flavour) -> Result<Self, ResultsError> {
        self.write(writing, flavour, true).await?;
        Ok(self)
    }
}
