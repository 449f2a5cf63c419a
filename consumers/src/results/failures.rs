//! Failures: jobs that ended badly, grouped by their fingerprint, and found again one after another.
//!
//! Owns which jobs a filter means. Every question looks at a bounded number of rows, the newest
//! first for people and the oldest first for a replay, so that none is too long for the database.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_executors::{Job, State};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    ResultsError, Store,
    change::clip,
    database::{Column, Value, holes},
    read::{Where, foreign, json, small, time},
    walk::{Lead, Road, Test, next_length},
};
use crate::access::{Grant, any_fits};

/// Of each state the newest so many failures are grouped, as far as the time allows.
const GROUPED: u64 = 10_000;
/// Rows of the first stretch.
const FIRST: u64 = 250;
/// Grouping takes about so long.
pub const LASTS: Duration = Duration::from_millis(50);
/// So many rows a look of a replay.
const LOOK: usize = 2000;
/// A count goes no further.
const COUNTED: u64 = 1_000_000;
/// So many consumers of a group are named.
const NAMED: usize = 10;

/// How a job ends badly. `cancelled` is among the states a filter may name, but a person meant it.
pub const BAD_ENDS: [State; 5] = [State::Failed, State::Discarded, State::Expired, State::Dead, State::Lost];

/// Which failures. Empty means all that ended badly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FailureFilter {
    /// Of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// On this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// With this fingerprint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Ended in one of these states; [`BAD_ENDS`] when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<State>,
    /// Ended at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Ended at this time or earlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Of these, and no others: what whoever asks may touch. Empty: of all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<Grant>,
}

impl FailureFilter {
    /// Does it leave nothing out?
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    fn states(&self) -> &[State] {
        if self.states.is_empty() { &BAD_ENDS } else { &self.states }
    }

    /// Does every row of a stretch of the index match, but for a few?
    fn is_wide(&self) -> bool {
        self.kind.is_none()
            && self.queue.is_none()
            && self.since.is_none()
            && self.until.is_none()
            && self.within.is_empty()
    }

    fn fits(&self, row: &Looked) -> bool {
        let same =
            |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| clip(wanted, 255) == found);
        let print = |wanted: &String| row.fingerprint.as_ref() == Some(wanted);
        same(&self.kind, &row.kind)
            && same(&self.queue, &row.queue)
            && self.fingerprint.as_ref().is_none_or(print)
            && self.states().contains(&row.state)
            && any_fits(&self.within, &row.queue, &row.kind)
            && self.since.is_none_or(|since| row.ended >= Some(since))
            && self.until.is_none_or(|until| row.ended.is_some_and(|ended| ended <= until))
    }
}

/// Jobs that ended badly in the same way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailureGroup {
    /// What they have in common.
    pub fingerprint: String,
    /// Their kind.
    pub kind: String,
    /// How many there are.
    pub count: u64,
    /// How they ended.
    pub states: BTreeSet<State>,
    /// When the first of them ended.
    pub first: Timestamp,
    /// When the last of them ended.
    pub last: Timestamp,
    /// Where they were.
    pub queues: BTreeSet<String>,
    /// Who ran them, some of them.
    pub consumers: BTreeSet<String>,
    /// The versions of the programs that ran them.
    pub versions: BTreeSet<String>,
    /// One of them, a new one.
    pub job: Uuid,
    /// Its error.
    pub error: String,
}

/// Groups of failures, the last seen first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Failures {
    /// The groups.
    pub groups: Vec<FailureGroup>,
    /// There are more failures than were looked at: the counts are those of the newest.
    pub capped: bool,
    /// What was created before this instant was not looked at, when there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked: Option<Timestamp>,
}

/// A job that a replay may begin with: what the record says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Where it stands.
    pub state: State,
    /// At which replay.
    pub replay: u32,
    /// As it was published; `None` when the record was never told.
    pub job: Option<Job>,
}

/// A job that matches, and its replay.
pub type Found = (Uuid, u32);

/// What a look found, and where the next one goes on; `None` at the end.
#[derive(Debug, Default, PartialEq)]
pub struct Look {
    /// The jobs.
    pub found: Vec<Found>,
    /// The place behind what was looked at.
    pub next: Option<String>,
}

/// One stretch of failures after another, the newest first.
struct Lane {
    road: Road,
    from: Option<(i64, Uuid)>,
    length: u64,
    /// So many rows were looked at, about.
    rows: u64,
    ended: bool,
    /// The time was over.
    tired: bool,
}

impl Lane {
    const fn goes_on(&self) -> bool {
        !self.ended && !self.tired && self.rows < GROUPED
    }
}

/// By fingerprint there is one stretch of the index, else one a state.
fn lanes(filter: &FailureFilter) -> Vec<Lane> {
    let states: Vec<Value> = filter.states().iter().map(|state| Value::Text(state.word().to_owned())).collect();
    let lane = |index, test: &str, value: Value, more: Option<Test>| {
        let lead = Lead { index, test: Some(Test(test.to_owned(), vec![value])) };
        let rest = narrow(filter).into_iter().chain(more).collect();
        let (time, id, columns) = ("created", "id", String::new());
        let road = Road { table: "jobs", time, id, columns, lead, within: Vec::new(), rest };
        Lane { road, from: None, length: FIRST, rows: 0, ended: false, tired: false }
    };
    if let Some(fingerprint) = &filter.fingerprint {
        let test = format!("state IN ({})", holes(states.len()));
        let print = Value::Text(clip(fingerprint, 255));
        return vec![lane("jobs_fingerprint", "fingerprint = ?", print, Some(Test(test, states)))];
    }
    let failed = || Some(Test("fingerprint IS NOT NULL".to_owned(), Vec::new()));
    states.into_iter().map(|state| lane("jobs_state", "state = ?", state, failed())).collect()
}

/// A row as a look sees it.
struct Looked {
    created: i64,
    id: Uuid,
    replay: u32,
    state: State,
    kind: String,
    queue: String,
    fingerprint: Option<String>,
    ended: Option<Timestamp>,
}

/// Where a look begins: in which stretch of the index, behind which row.
#[derive(Debug, PartialEq)]
struct Place {
    lane: usize,
    created: i64,
    id: Uuid,
}

impl Place {
    /// Of its text; the empty text is the beginning.
    fn of(text: &str) -> Result<Self, ResultsError> {
        if text.is_empty() {
            return Ok(Self { lane: 0, created: i64::MIN, id: Uuid::nil() });
        }
        let parse = || {
            let mut parts = text.splitn(3, '.');
            let place =
                (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, Uuid::parse_str(parts.next()?).ok()?);
            Some(Self { lane: place.0, created: place.1, id: place.2 })
        };
        parse().ok_or_else(|| foreign(&format!("the place `{}` of a replay", clip(text, 80))))
    }

    fn text(&self) -> String {
        format!("{}.{}.{}", self.lane, self.created, self.id.simple())
    }
}

impl Store {
    pub(super) async fn failures(
        &self,
        filter: &FailureFilter,
        limit: u32,
        lasts: Duration,
    ) -> Result<Failures, ResultsError> {
        let (begun, mut groups) = (Instant::now(), BTreeMap::new());
        let mut lanes = lanes(filter);
        // In turns, so that each has its newest looked at.
        while lanes.iter().any(Lane::goes_on) {
            for lane in lanes.iter_mut().filter(|lane| lane.goes_on()) {
                // The first stretch of each is short, and always looked at.
                if lane.rows > 0 && begun.elapsed() >= lasts * 3 / 4 {
                    lane.tired = true;
                    continue;
                }
                let before = begun.elapsed();
                self.group(lane, &filter.within, &mut groups).await?;
                let spent = begun.elapsed();
                lane.length = next_length(lane.length, spent - before, lasts.saturating_sub(spent) / 5);
            }
        }
        let looked = lanes.iter().filter(|lane| !lane.ended).filter_map(|lane| lane.from).map(|(at, _)| at).max();
        let mut groups: Vec<FailureGroup> = groups.into_values().collect();
        groups.sort_by(|a, b| (b.last, &b.fingerprint).cmp(&(a.last, &a.fingerprint)));
        groups.truncate(limit as usize);
        let jobs: Vec<Uuid> = groups.iter().map(|group| group.job).collect();
        let mut errors = BTreeMap::new();
        for row in self.of_jobs("error", &jobs).await? {
            errors.insert(row.id(0)?, row.maybe_text(1)?.unwrap_or_default());
        }
        for group in &mut groups {
            group.error = errors.remove(&group.job).unwrap_or_default();
        }
        Ok(Failures { groups, capped: looked.is_some(), looked: looked.map(time).transpose()? })
    }

    /// Groups the next stretch of a lane.
    async fn group(
        &self,
        lane: &mut Lane,
        within: &[Grant],
        groups: &mut BTreeMap<String, FailureGroup>,
    ) -> Result<(), ResultsError> {
        let Lane { road, from, length, .. } = lane;
        let end = self.end_of(road, *from, *length).await?;
        let asked = road.asked(*from, end, true);
        let by = self.database.flavour().by(road.lead.index);
        let sql = format!(
            "SELECT fingerprint, kind, queue, version, state, COUNT(*), MIN(COALESCE(ended, created)), \
             MAX(COALESCE(ended, created)), MAX(id), MIN(consumer), MAX(consumer) FROM jobs{by}{asked} \
             GROUP BY fingerprint, kind, queue, version, state"
        );
        for row in self.database.ask(sql, asked.values).await? {
            if any_fits(within, &row.text(2)?, &row.text(1)?) {
                add(groups, &row, state(&row.text(4)?)?)?;
            }
        }
        lane.rows += lane.length;
        lane.ended = end.is_none();
        lane.from = end.or(lane.from);
        Ok(())
    }

    /// Looks on from a place, oldest first, at jobs that were created at `bound` or before, until
    /// `most` match or enough rows were looked at.
    pub(super) async fn look(
        &self,
        filter: &FailureFilter,
        bound: Timestamp,
        place: &str,
        most: usize,
    ) -> Result<Look, ResultsError> {
        let place = Place::of(place)?;
        // By fingerprint there is one stretch of the index, else one a state: within each, rows come
        // in the order of their creation, which a replay does not change.
        let (test, name, lanes) = match (&filter.fingerprint, filter.states().get(place.lane)) {
            (Some(fingerprint), _) => ("fingerprint = ?", fingerprint.clone(), 1),
            (None, Some(state)) => ("state = ?", state.word().to_owned(), filter.states().len()),
            (None, None) => return Ok(Look::default()),
        };
        let mut asked = Where::default();
        asked.and(test, [Value::Text(name)]);
        asked.and("created <= ?", [Value::Int(bound.as_microsecond())]);
        let at = Value::Int(place.created);
        let limit = if filter.is_wide() { most.clamp(1, LOOK) } else { LOOK };
        asked.and("created >= ? AND (created > ? OR id > ?)", [at.clone(), at, Value::Id(place.id)]);
        let sql = format!(
            "SELECT created, id, replay, state, kind, queue, fingerprint, ended FROM jobs{asked} \
             ORDER BY created, id LIMIT {limit}"
        );
        let rows = self.database.ask(sql, asked.values).await?;
        let (mut found, mut last, mut looked_at) = (Vec::new(), None, 0);
        for row in &rows {
            if found.len() == most {
                break;
            }
            let row = looked(row)?;
            looked_at += 1;
            if filter.fits(&row) {
                found.push((row.id, row.replay));
            }
            last = Some((row.created, row.id));
        }
        let next = match last {
            Some((created, id)) if looked_at < rows.len() || rows.len() == limit => {
                Some(Place { lane: place.lane, created, id })
            }
            _ if place.lane + 1 < lanes => Some(Place { lane: place.lane + 1, created: i64::MIN, id: Uuid::nil() }),
            _ => None,
        };
        Ok(Look { found, next: next.map(|place| place.text()) })
    }

    /// How many match; `None` when there are too many to count.
    pub(super) async fn matching(&self, filter: &FailureFilter, bound: Timestamp) -> Result<Option<u64>, ResultsError> {
        let (mut count, mut rows, mut place) = (0, 0, String::new());
        while rows < COUNTED {
            let look = self.look(filter, bound, &place, usize::MAX).await?;
            count += look.found.len() as u64;
            rows += LOOK as u64;
            match look.next {
                Some(next) => place = next,
                None => return Ok(Some(count)),
            }
        }
        Ok(None)
    }

    pub(super) async fn source(&self, id: Uuid) -> Result<Option<Source>, ResultsError> {
        let sql = "SELECT state, replay, job FROM jobs WHERE id = ?".to_owned();
        let rows = self.database.ask(sql, vec![Value::Id(id)]).await?;
        let read = |row: &Column| {
            Ok(Source {
                state: state(&row.text(0)?)?,
                replay: small(row.int(1)?),
                job: row.maybe_text(2)?.as_deref().map(json).transpose()?,
            })
        };
        rows.first().map(read).transpose()
    }
}

/// What a row must pass besides what leads to it.
fn narrow(filter: &FailureFilter) -> Vec<Test> {
    let names = [("kind = ?", &filter.kind), ("queue = ?", &filter.queue)];
    let names = names.into_iter().filter_map(|(test, name)| Some((test, Value::Text(clip(name.as_ref()?, 255)))));
    let times = [("ended >= ?", filter.since), ("ended <= ?", filter.until)];
    let times = times.into_iter().filter_map(|(test, at)| Some((test, Value::Int(at?.as_microsecond()))));
    names.chain(times).map(|(test, value)| Test(test.to_owned(), vec![value])).collect()
}

/// Adds a row of the grouped question to its group.
fn add(groups: &mut BTreeMap<String, FailureGroup>, row: &Column, state: State) -> Result<(), ResultsError> {
    let (fingerprint, count) = (row.text(0)?, u64::try_from(row.int(5)?).unwrap_or(0));
    let (first, last, job) = (time(row.int(6)?)?, time(row.int(7)?)?, row.id(8)?);
    let kind = row.text(1)?;
    let group = groups.entry(fingerprint.clone()).or_insert_with(|| FailureGroup {
        fingerprint,
        kind,
        count: 0,
        states: BTreeSet::new(),
        first,
        last,
        queues: BTreeSet::new(),
        consumers: BTreeSet::new(),
        versions: BTreeSet::new(),
        job,
        error: String::new(),
    });
    group.count += count;
    group.states.insert(state);
    group.first = group.first.min(first);
    group.last = group.last.max(last);
    group.job = group.job.max(job);
    group.queues.insert(row.text(2)?);
    group.versions.extend(row.maybe_text(3)?);
    if group.consumers.len() < NAMED {
        group.consumers.extend([row.maybe_text(9)?, row.maybe_text(10)?].into_iter().flatten());
    }
    Ok(())
}

fn looked(row: &Column) -> Result<Looked, ResultsError> {
    Ok(Looked {
        created: row.int(0)?,
        id: row.id(1)?,
        replay: small(row.int(2)?),
        state: state(&row.text(3)?)?,
        kind: row.text(4)?,
        queue: row.text(5)?,
        fingerprint: row.maybe_text(6)?,
        ended: row.maybe_int(7)?.map(time).transpose()?,
    })
}

fn state(word: &str) -> Result<State, ResultsError> {
    State::of(word).ok_or_else(|| foreign(&format!("the state `{word}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_the_empty_one_is_the_beginning() -> Result<(), ResultsError> {
        let place = Place { lane: 3, created: -7, id: Uuid::now_v7() };
        assert_eq!(Place::of(&place.text())?, place);
        assert_eq!(Place::of("")?.lane, 0);
        assert!(Place::of("1.2").is_err() && Place::of("x.2.y").is_err());
        Ok(())
    }
}
