//! The table of replays: what people ordered, and how far each has come.
//!
//! Owns its rows and the rule by which they change: each step names the one before it, so that a
//! process that was overtaken writes nothing. Refuses to publish.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    FailureFilter, Found, Page, ResultsError, Store,
    change::clip,
    database::{Column, Sql, Value, holes},
    read::{Where, cursor, foreign, json, page, rows_asked, time},
};

const ROW: &str = "id, filter, rate, who, at, ended, state, total, done, failed, place, pending, step, error";
/// More at once are not worked on; the others wait.
const AT_ONCE: u32 = 50;

/// Where a replay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// There are jobs left.
    Running,
    /// A person stopped it.
    Stopped,
    /// All that matched were looked at.
    Done,
}

impl ReplayState {
    /// The word used everywhere.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Done => "done",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Running, Self::Stopped, Self::Done].into_iter().find(|state| state.word() == word)
    }
}

/// So many jobs in each such time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// So many.
    pub jobs: u32,
    /// In each such time, in milliseconds.
    pub each_ms: u64,
}

impl Rate {
    /// The time one job takes by it.
    pub fn interval(self) -> Duration {
        Duration::from_millis(self.each_ms.max(1)) / self.jobs.max(1)
    }
}

/// A replay of all that matched when it was ordered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayRow {
    /// Its id, UUIDv7.
    pub id: Uuid,
    /// Which jobs; of those that were created before it was ordered.
    pub filter: FailureFilter,
    /// How fast; as fast as it goes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Who ordered it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// When it was done or stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Where it stands.
    pub state: ReplayState,
    /// How many matched when it was ordered; not known when they were too many to count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// How many were published anew.
    pub done: u64,
    /// How many could not be.
    pub failed: u64,
    /// Why the last one of these could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A replay as the loop that works on it sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Working {
    /// The row.
    pub row: ReplayRow,
    /// Behind the last job that was looked at; `None` at the end.
    pub place: Option<String>,
    /// What is being published now: each job with its new replay number.
    pub pending: Vec<Found>,
    step: i64,
}

/// What stands for the end in the column `place`.
const END: &str = "end";

/// The statements on the table, built once.
pub struct Texts {
    order: Sql,
    step: Sql,
    stop: Sql,
}

impl Texts {
    pub(super) fn new() -> Self {
        Self {
            order: format!("INSERT INTO replays ({ROW}) VALUES ({})", holes(14)).into(),
            step: "UPDATE replays SET done = ?, failed = ?, place = ?, pending = ?, error = ?, step = step + 1, \
                   ended = CASE WHEN ? = 'end' AND state = 'running' THEN ? ELSE ended END, \
                   state = CASE WHEN ? = 'end' AND state = 'running' THEN 'done' ELSE state END \
                   WHERE id = ? AND step = ?"
                .into(),
            stop: "UPDATE replays SET state = 'stopped', ended = ? WHERE id = ? AND state = 'running'".into(),
        }
    }
}

impl Store {
    pub(super) async fn order_replay(&self, row: &ReplayRow) -> Result<(), ResultsError> {
        let text = |value: &FailureFilter| serde_json::to_string(value).unwrap_or_default();
        let values = vec![
            Value::Id(row.id),
            Value::Text(text(&row.filter)),
            Value::MaybeText(row.rate.and_then(|rate| serde_json::to_string(&rate).ok())),
            Value::Text(clip(&row.by, 255)),
            Value::Int(row.at.as_microsecond()),
            Value::MaybeInt(row.ended.map(Timestamp::as_microsecond)),
            Value::Text(row.state.word().to_owned()),
            Value::MaybeInt(row.total.and_then(|total| i64::try_from(total).ok())),
            Value::Int(number(row.done)),
            Value::Int(number(row.failed)),
            Value::Text(String::new()),
            Value::Text("[]".to_owned()),
            Value::Int(0),
            Value::MaybeText(None),
        ];
        let mut writing = self.database.begin().await?;
        writing.run(&self.statements.replays.order, values).await?;
        writing.commit().await
    }

    pub(super) async fn replays(&self, limit: u32, after: Option<&str>) -> Result<Page<ReplayRow>, ResultsError> {
        let mut asked = Where::default();
        asked.before("at", "id", after)?;
        let limit = rows_asked(limit);
        let sql = format!("SELECT {ROW} FROM replays{asked} ORDER BY at DESC, id DESC LIMIT {}", limit + 1);
        let rows = self.database.ask(sql, asked.values).await?;
        page(&rows, limit, |row| working(row).map(|working| working.row), |row| cursor(row.at, row.id))
    }

    pub(super) async fn replay(&self, id: Uuid) -> Result<Option<ReplayRow>, ResultsError> {
        let sql = format!("SELECT {ROW} FROM replays WHERE id = ?");
        let rows = self.database.ask(sql, vec![Value::Id(id)]).await?;
        rows.first().map(|row| working(row).map(|working| working.row)).transpose()
    }

    /// Those that are running, the oldest first.
    pub(super) async fn running_replays(&self) -> Result<Vec<Working>, ResultsError> {
        let sql = format!("SELECT {ROW} FROM replays WHERE state = 'running' ORDER BY at LIMIT {AT_ONCE}");
        self.database.ask(sql, Vec::new()).await?.iter().map(working).collect()
    }

    /// Writes how far it has come. `false`: another process was faster, and nothing was written.
    pub(super) async fn advance_replay(&self, working: &mut Working) -> Result<bool, ResultsError> {
        let row = &working.row;
        let place = match &working.place {
            None if working.pending.is_empty() => END.to_owned(),
            // The end is written once what is pending is published.
            None => format!("-{END}"),
            Some(place) => place.clone(),
        };
        let values = vec![
            Value::Int(number(row.done)),
            Value::Int(number(row.failed)),
            Value::Text(place.clone()),
            Value::Text(serde_json::to_string(&working.pending).unwrap_or_default()),
            Value::MaybeText(row.error.as_deref().map(|error| clip(error, 500))),
            Value::Text(place.clone()),
            Value::Int(Timestamp::now().as_microsecond()),
            Value::Text(place),
            Value::Id(row.id),
            Value::Int(working.step),
        ];
        let mut writing = self.database.begin().await?;
        let written = writing.run(&self.statements.replays.step, values).await? > 0;
        writing.commit().await?;
        working.step += 1;
        Ok(written)
    }

    /// Stops one that runs; `false` when it does not.
    pub(super) async fn stop_replay(&self, id: Uuid) -> Result<bool, ResultsError> {
        let values = vec![Value::Int(Timestamp::now().as_microsecond()), Value::Id(id)];
        let mut writing = self.database.begin().await?;
        let stopped = writing.run(&self.statements.replays.stop, values).await? > 0;
        writing.commit().await?;
        Ok(stopped)
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn working(row: &Column) -> Result<Working, ResultsError> {
    let word = row.text(6)?;
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let place = row.text(10)?;
    Ok(Working {
        row: ReplayRow {
            id: row.id(0)?,
            filter: json(&row.text(1)?)?,
            rate: row.maybe_text(2)?.as_deref().map(json).transpose()?,
            by: row.text(3)?,
            at: time(row.int(4)?)?,
            ended: row.maybe_int(5)?.map(time).transpose()?,
            state: ReplayState::of(&word).ok_or_else(|| foreign(&format!("the state `{word}` of a replay")))?,
            total: row.maybe_int(7)?.map(count),
            done: count(row.int(8)?),
            failed: count(row.int(9)?),
            error: row.maybe_text(13)?,
        },
        place: (!place.ends_with(END)).then_some(place),
        pending: json(&row.text(11)?)?,
        step: row.int(12)?,
    })
}
