//! The instants of a span that is past, fired on request: each once, with the id that it would have had.
//!
//! Owns one step: so many instants from a point on, in one transaction that holds the trigger's row. Whoever
//! asks goes on from where it ended. Refuses instants that are to come: the schedule fires these.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    super::{
        Results, ResultsError, Store,
        change::clip,
        database::{Value, Writing, holes},
        write::anew,
    },
    changes::By,
    instant,
    orders::{NotDone, find, now},
    row::Row,
    state, word, words,
};
use crate::schedule::{Overlap, tick_id};

/// Instants to a step at most: of one that fires, whose transaction holds its trigger, and of a dry run.
const STEPS: (usize, usize) = (100, 1000);

/// What somebody wants to be fired.
#[derive(Clone, Copy, Debug)]
pub struct Backfill {
    /// From this instant on.
    pub from: Timestamp,
    /// Up to this one.
    pub to: Timestamp,
    /// So many instants are looked at in this step.
    pub limit: usize,
    /// Nothing fires.
    pub dry_run: bool,
}

/// What a step did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Backfilled {
    /// The instants it came by.
    pub instants: Vec<Instant>,
    /// The rest begins here; none when there is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// The rest waits for the end of this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Uuid>,
}

/// An instant of a backfill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Instant {
    /// It.
    pub instant: Timestamp,
    /// The id of its job.
    pub job: Uuid,
    /// What is done about it.
    pub done: Filled,
}

/// What is done about an instant of a backfill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Filled {
    /// It fires; in a dry run it would.
    Fires,
    /// It has fired before, and does not again.
    FiredBefore,
    /// It lies in a blackout.
    Blackout,
}

impl Results {
    /// Fires what did not fire of a span, a step of it.
    pub async fn backfill_trigger(&self, name: &str, asked: Backfill, by: By<'_>) -> Result<Backfilled, NotDone> {
        anew(|| self.0.backfill_trigger(name, asked, by)).await
    }
}

impl Store {
    async fn backfill_trigger(&self, name: &str, asked: Backfill, by: By<'_>) -> Result<Backfilled, NotDone> {
        let flavour = self.database.flavour();
        let mut writing = self.database.begin().await?;
        let now = now(&mut writing, flavour).await?;
        let found = find(&mut writing, flavour, name).await?;
        let Some(mut row) = found.filter(|row| row.state != state::RETIRED) else {
            return Err(NotDone::Unknown(name.to_owned()));
        };
        let (instants, mut next) = of_span(&row, asked, now)?;
        let fired = self.fired(&mut writing, &row, &instants).await?;
        let mut done = Backfilled::default();
        for (at, black) in instants {
            let (at_micros, job) = (at.as_microsecond(), tick_id(row.id, at));
            let filled = if fired.contains(&at_micros) {
                Filled::FiredBefore
            } else if black {
                Filled::Blackout
            } else {
                Filled::Fires
            };
            if filled == Filled::Fires && !asked.dry_run {
                if let (Overlap::Skip | Overlap::Queue, Some(busy)) = (row.spec.overlap, row.busy) {
                    (done.waits, next) = (Some(busy), Some(at));
                    break;
                }
                let note = clip(&format!("backfill by {}", by.who), 400);
                let key = vec![Value::Id(row.id), Value::Int(at_micros)];
                // One that was left out is there already.
                writing.run(&words(flavour, "DELETE FROM ticks WHERE schedule = ? AND instant = ?"), key).await?;
                self.tick(&mut writing, row.id, at_micros, job, word::DUE, now, Some(0), Some(note)).await?;
                row.fired += 1;
                if row.spec.overlap != Overlap::Allow {
                    row.busy = Some(job);
                }
            }
            done.instants.push(Instant { instant: at, job, done: filled });
        }
        done.next = next;
        if !asked.dry_run {
            row.write(&mut writing, flavour, false).await?;
            writing.commit().await?;
        }
        Ok(done)
    }

    /// Which of them have fired: by the history, or by the record where that goes back no further.
    async fn fired(
        &self,
        writing: &mut Writing,
        row: &Row,
        instants: &[(Timestamp, bool)],
    ) -> Result<BTreeSet<i64>, ResultsError> {
        let (Some((first, _)), Some((last, _))) = (instants.first(), instants.last()) else {
            return Ok(BTreeSet::new());
        };
        let sql = format!(
            "SELECT instant FROM ticks WHERE schedule = ? AND instant >= ? AND instant <= ? AND state <> '{}'",
            word::SKIPPED
        );
        let span = vec![Value::Id(row.id), Value::Int(first.as_microsecond()), Value::Int(last.as_microsecond())];
        let rows = writing.fetch(&sql.into(), span).await?;
        let mut fired: BTreeSet<i64> = rows.iter().map(|row| row.int(0)).collect::<Result<_, _>>()?;
        let jobs: BTreeMap<Uuid, i64> =
            instants.iter().map(|(at, _)| (tick_id(row.id, *at), at.as_microsecond())).collect();
        let ids: Vec<Uuid> = jobs.keys().copied().collect();
        // Of a fan-out the id is that of a run.
        for table in ["id FROM jobs WHERE id", "id FROM runs WHERE id", "run FROM driven WHERE run"] {
            for some in ids.chunks(200) {
                let sql = format!("SELECT {table} IN ({})", holes(some.len()));
                for row in writing.fetch(&sql.into(), some.iter().map(|id| Value::Id(*id)).collect()).await? {
                    fired.extend(jobs.get(&row.id(0)?));
                }
            }
        }
        Ok(fired)
    }
}

/// The instants of this step, each with whether it lies in a blackout, and where the next one begins.
#[allow(clippy::type_complexity, reason = "said in words")]
fn of_span(row: &Row, asked: Backfill, now: i64) -> Result<(Vec<(Timestamp, bool)>, Option<Timestamp>), NotDone> {
    let wrong = |why: String| Err(NotDone::Wrong(why));
    let schedule = row.spec.schedule().map_err(|error| NotDone::Wrong(error.to_string()))?;
    if schedule.counts_from_end() {
        return wrong(format!("`{}` counts from the end of its jobs: it has no instants of its own", row.name));
    }
    if asked.to > instant(now) {
        return wrong(format!("{} is to come: the schedule fires what follows {}", asked.to, instant(now)));
    }
    let before = asked.from.checked_sub(SignedDuration::from_micros(1)).unwrap_or(asked.from);
    let mut instants = Vec::new();
    let mut at = schedule.next(before);
    while let Some(instant) = at.filter(|at| *at <= asked.to) {
        if instants.len() == asked.limit.min(if asked.dry_run { STEPS.1 } else { STEPS.0 }) {
            return Ok((instants, Some(instant)));
        }
        instants.push((instant, schedule.blackout(instant).is_some()));
        at = schedule.next(instant);
    }
    Ok((instants, None))
}
